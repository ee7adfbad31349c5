"""The part of the fake server that finds new pages and previews enrolments.

Pictures are alike when their bytes begin with the same word: b"cart 1" and b"cart 2" show a page
that would be called "cart".
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.rpc import status_pb2

from pagesight.v1 import gallery_pb2
from pagesight.v1 import review_pb2 as pb
from pagesight.v1.review_pb2_grpc import ReviewServiceServicer
from tests.support.refusals import abort, invalid, normal, not_found, status

Find = Callable[[str, Any], Any]
"""The state of a gallery by its name; aborts the call where there is none."""

MAX_CLUSTERS, MAX_TYPICAL, MAX_AUTHOR_CHARS = 100, 5, 256


class FakeDiscovery(ReviewServiceServicer):
    """Sorts pictures by their first word.

    Args:
        find: Finds the state of a gallery, which holds what is enrolled, kept and dismissed.
        peek: Returns the state of a gallery, an empty one where there is none.
        refusal: Why a label cannot be one, if it cannot.
    """

    def __init__(
        self, find: Find, peek: Callable[[str], Any], refusal: Callable[[str], Any]
    ) -> None:
        self._find = find
        self._peek = peek
        self._refusal = refusal
        self.max_pictures = 1_000
        """Pictures of one call."""
        self.images: dict[str, bytes] = {}
        """Pictures of kept answers, by id."""

    def Discover(  # noqa: N802
        self, request_iterator: Iterator[pb.DiscoverRequest], context: Any
    ) -> Iterator[pb.DiscoverResponse]:
        """Clusters by first word, without what is enrolled or dismissed."""
        header = _header(request_iterator, context)
        state = self._find(header.gallery, context)
        if header.min_pictures < 0:
            abort(context, invalid("min_pictures is negative"))
        images: list[bytes] = []
        unreadable = []
        for index, request in enumerate(self._rest(request_iterator, {"picture"}, context)):
            image = request.picture.image
            if (why := _unusable(image)) is not None:
                unreadable.append(pb.UnreadablePicture(index=index, error=why))
            else:
                images.append(image)
            done = index + 1
            progress = gallery_pb2.Progress(done=done, total=max(done, header.pictures))
            yield pb.DiscoverResponse(progress=progress)
        if header.kept:
            kept = [one.image_id for one in state.kept.values() if one.label == "other"]
            images += [self.images[image_id] for image_id in kept]
        unwanted = {_word(image) for image in state.dismissed}
        by_word: defaultdict[str, list[str]] = defaultdict(list)
        left_out = 0
        for image in dict.fromkeys(images):
            image_id = hashlib.sha256(image).hexdigest()
            if image_id in state.images or _word(image) in unwanted:
                left_out += 1
            else:
                by_word[_word(image)].append(image_id)
        least = max(2, header.min_pictures)
        big = [word for word, ids in by_word.items() if len(ids) >= least]
        big.sort(key=lambda word: (-len(by_word[word]), word))
        labels = sorted(set(state.images.values()))
        clusters = [
            pb.Cluster(
                key=_key(by_word[word]),
                image_ids=by_word[word],
                shared_texts=[word],
                suggested_label=f"{word}_2" if word in labels else word,
                closest_label=labels[0] if labels else "",
                likeness=0.875,
            )
            for word in big
        ]
        single = [i for word, ids in by_word.items() if word not in big for i in ids]
        result = pb.Discovery(
            clusters=clusters, single_image_ids=single, left_out=left_out, unreadable=unreadable
        )
        yield pb.DiscoverResponse(result=result)

    def DismissClusters(  # noqa: N802
        self, request: pb.DismissClustersRequest, context: Any
    ) -> pb.DismissClustersResponse:
        """Remembers the pictures."""
        state = self._find(request.gallery, context)
        if not 1 <= len(request.clusters) <= MAX_CLUSTERS:
            abort(context, invalid("name 1 to 100 clusters"))
        if len(request.author) > MAX_AUTHOR_CHARS:
            abort(context, invalid("author is too long"))
        keys, dismissed = [], []
        for cluster in request.clusters:
            if not 1 <= len(cluster.images) + len(cluster.kept_image_ids) <= MAX_TYPICAL:
                abort(context, invalid("give 1 to 5 pictures of a cluster"))
            kept = [self.images[i] for i in cluster.kept_image_ids if i in state.kept]
            images = [*cluster.images, *kept]
            if not images:
                abort(context, not_found(f"nothing is kept of {cluster.kept_image_ids}"))
            for image in images:
                if (why := _unusable(image)) is not None:
                    abort(context, why)
            dismissed += images
            sent = [hashlib.sha256(image).hexdigest() for image in cluster.images]
            keys.append(_key([*cluster.kept_image_ids, *sent]))
        state.dismissed += dismissed
        return pb.DismissClustersResponse(keys=keys)

    def Preview(  # noqa: N802
        self, request_iterator: Iterator[pb.PreviewRequest], context: Any
    ) -> Iterator[pb.PreviewResponse]:
        """A picture is answered with its label if it is enrolled, else `other`."""
        header = _header(request_iterator, context)
        state = self._peek(header.gallery)
        before: dict[str, str] = dict(state.images)
        after = dict(before)
        asked: dict[str, str] = {}
        unreadable = []
        requests = self._rest(request_iterator, {"enrol", "picture"}, context)
        for index, request in enumerate(requests):
            enrolled = request.WhichOneof("message") == "enrol"
            image = request.enrol.image if enrolled else request.picture.image
            image_id = hashlib.sha256(image).hexdigest()
            label = normal(request.enrol.label if enrolled else request.picture.truth)
            why = self._refusal(label) if enrolled or label else None
            if enrolled and why is None and after.get(image_id, label) != label:
                code = grpc.StatusCode.ALREADY_EXISTS
                why = status(code, "it has another label", "OTHER_LABEL")
            if (why := why or _unusable(image)) is not None:
                unreadable.append(pb.UnreadablePicture(index=index, error=why))
            elif enrolled:
                after[image_id] = label
            else:
                asked.setdefault(image_id, label)
            done = index + 1
            progress = gallery_pb2.Progress(done=done, total=max(done, header.pictures))
            yield pb.PreviewResponse(progress=progress)
        if header.kept:
            for image_id in state.kept:
                asked.setdefault(image_id, "")
        turned = [
            pb.TurnedAnswer(
                image_id=image_id,
                label_before=before.get(image_id, "other"),
                label_after=after.get(image_id, "other"),
                truth=truth,
            )
            for image_id, truth in asked.items()
            if before.get(image_id) != after.get(image_id)
        ]
        result = pb.PreviewResult(
            revision=state.revision if state.exists else 0,
            answered=len(asked),
            turned=turned,
            right_before=sum(t == before.get(i, "other") for i, t in asked.items()),
            right_after=sum(t == after.get(i, "other") for i, t in asked.items()),
            unreadable=unreadable,
        )
        yield pb.PreviewResponse(result=result)

    def _rest(self, requests: Iterator[Any], kinds: set[str], context: Any) -> Iterator[Any]:
        """The messages after the header."""
        for number, request in enumerate(requests):
            if request.WhichOneof("message") not in kinds:
                abort(context, invalid("one header, then pictures"))
            if number == self.max_pictures:
                why = f"one call sends at most {self.max_pictures:,} pictures"
                abort(context, status(grpc.StatusCode.RESOURCE_EXHAUSTED, why, "LIMIT_REACHED"))
            yield request


def _header(requests: Iterator[Any], context: Any) -> Any:
    """What the first message carries."""
    first = next(requests, None)
    if first is None or first.WhichOneof("message") != "header":
        abort(context, invalid("no header"))
    return first.header


def _unusable(image: bytes) -> status_pb2.Status | None:
    """Why a picture cannot be used, if it cannot."""
    if image.startswith(b"bad"):
        return status(grpc.StatusCode.INVALID_ARGUMENT, "not a picture", "IMAGE_UNUSABLE")
    return None


def _word(image: bytes) -> str:
    found = re.match(r"\w+", image.decode(errors="replace"))
    return found[0] if found else "picture"


def _key(image_ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(image_ids)).encode()).hexdigest()[:16]
