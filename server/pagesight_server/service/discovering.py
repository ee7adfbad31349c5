"""Discover, DismissClusters and Preview: pictures seen and read as they come, then compared.

    header, pictures ──one after the other──> embedding, text; the bytes are let go
                └──kept by the server──────────> embedding, text, as they are stored
    all of them ──a thread, stopped when the caller leaves──> clusters, or answers that turn

One such call works at a time, at low priority: it is a person's question that takes minutes, and
screenshots must not wait for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from pagesight.v1 import review_pb2 as pb
from pagesight_server.common.errors import (
    AlreadyExistsError,
    ImageError,
    InvalidRequestError,
    LimitError,
    NotFoundError,
    PurgedError,
    RequestError,
)
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.config import Config
from pagesight_server.curation.discovery import cluster_key, discover
from pagesight_server.curation.likeness import SeenPicture
from pagesight_server.gallery import DismissedPicture, Gallery, KeptFeatures
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service import audit, convert, convert_discovery
from pagesight_server.service.codec import Context
from pagesight_server.service.gates import CallGate, in_stoppable_thread, in_thread, prompt
from pagesight_server.service.progress import Report
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.pipeline import Features
from pagesight_server.workflows.preview import (
    Addition,
    Additions,
    Asked,
    empty_snapshot,
    preview,
)
from pagesight_server.workflows.registry import Registry

UNUSABLE = (ImageError, InvalidRequestError, PurgedError, AlreadyExistsError)
"""What is wrong with a picture and not with the call."""

Requests = AsyncIterator[Any]
"""The messages of a call: `Malformed` among them."""


class Discovering:
    """The calls of ReviewService that compare many pictures.

    Args:
        store: Keeps what was dismissed, and answers for review.
        enroller: Sees and reads pictures as it does for enrolments.
        registry: What is known of each gallery.
        config: All settings.
    """

    def __init__(
        self, store: Gallery, enroller: Enroller, registry: Registry, config: Config
    ) -> None:
        self._store = store
        self._enroller = enroller
        self._registry = registry
        self._config = config
        self._gate = CallGate(1, config.server.max_waiting_examinations, "discoveries and previews")

    async def discover(self, requests: Requests, context: Context, report: Report) -> pb.Discovery:
        """Sorts pictures by likeness.

        Raises:
            RequestError: the call as a whole cannot be answered.
        """
        async with self._gate.place(context):
            with urgent_as(Priority.LOW):
                messages = self._messages(requests)
                header = await self._header(messages)
                gallery = convert.gallery_of(header.gallery)
                least = convert_discovery.min_pictures(header.min_pictures)
                self._registry.get(gallery)  # A gallery that is not there costs no reading.
                tally = _Tally(header.pictures, self._config.review.max_pictures, report)
                seen: list[SeenPicture] = []
                async for message in messages:
                    self._check_kind(message, {"picture"})
                    with tally.one():
                        image_id, features, reading = await self._see(message.picture.image)
                        seen.append(
                            SeenPicture(
                                image_id=image_id, embedding=features.embedding, reading=reading
                            )
                        )
            if header.kept:
                seen += await in_thread(lambda: self._rejected(gallery))
            knowledge = self._registry.get(gallery)

            def work(step: Callable[[], None]) -> pb.Discovery:
                found = discover(
                    knowledge, seen, self._dismissed(gallery), min_pictures=least, step=step
                )
                return convert_discovery.discovery(found, tally.unusable)

            return await in_stoppable_thread(work)

    async def dismiss(
        self, request: pb.DismissClustersRequest, context: Context
    ) -> pb.DismissClustersResponse:
        """Keeps what clusters of no interest look like.

        Raises:
            RequestError: nothing is dismissed.
        """
        convert_discovery.check_dismissal(request)
        gallery = convert.gallery_of(request.gallery)
        self._registry.get(gallery)
        clusters: dict[str, list[DismissedPicture]] = {}
        keys = []
        async with self._gate.place(context):
            for cluster in request.clusters:
                ids = [image_id.lower() for image_id in cluster.kept_image_ids]
                pictures = await in_thread(partial(self._kept_pictures, gallery, ids))
                with urgent_as(Priority.LOW):
                    for image in cluster.images:
                        image_id, features, reading = await self._see(image)
                        ids.append(image_id)
                        pictures.append(
                            DismissedPicture(
                                image_id=image_id, embedding=features.embedding, reading=reading
                            )
                        )
                if not pictures:
                    raise NotFoundError(
                        f"no answer to any of {', '.join(ids)} is kept for {gallery!r}"
                    )
                keys.append(cluster_key(ids))
                clusters[keys[-1]] = pictures
            await in_thread(
                lambda: self._store.dismiss(
                    gallery, clusters, self._enroller.bundles, author=request.author
                )
            )
        audit.dismissed(gallery, keys, author=request.author)
        return pb.DismissClustersResponse(keys=keys)

    async def preview(
        self, requests: Requests, context: Context, report: Report
    ) -> pb.PreviewResult:
        """Says which answers would turn.

        Raises:
            RequestError: the call as a whole cannot be answered.
        """
        async with self._gate.place(context):
            with urgent_as(Priority.LOW):
                messages = self._messages(requests)
                header = await self._header(messages)
                gallery = convert.gallery_of(header.gallery)
                snapshot = self._knowledge(gallery).snapshot
                additions = await in_thread(lambda: Additions(snapshot))
                asked: list[Asked] = []
                tally = _Tally(header.pictures, self._config.review.max_pictures, report)
                items = 0
                async for message in messages:
                    self._check_kind(message, {"enrol", "picture"})
                    with tally.one():
                        if message.HasField("picture"):
                            asked.append(await self._asked(message.picture))
                            continue
                        items += 1
                        self._check_items(items)
                        await self._add(additions, message.enrol)
            added = additions.pictures
            if added:
                ids = [one.image_id for one in added]
                await in_thread(lambda: self._store.check_full(gallery, ids))
            if header.kept:
                asked += [
                    self._asked_of(one) for one in await in_thread(lambda: self._kept(gallery))
                ]
            knowledge = self._knowledge(gallery)

            def work(step: Callable[[], None]) -> pb.PreviewResult:
                # What was enrolled meanwhile is there already.
                there = {picture.image_id for picture in knowledge.snapshot.pictures}
                lacking = [one for one in added if one.image_id not in there]
                made = preview(knowledge, lacking, asked, step=step)
                return convert_discovery.preview(made, tally.unusable)

            return await in_stoppable_thread(work)

    # --- messages -------------------------------------------------------------------

    def _messages(self, requests: Requests) -> Requests:
        return prompt(requests, self._config.server.enrol_silence_seconds)

    async def _header(self, messages: Requests) -> Any:
        """The header, which must come first."""
        async for message in messages:
            self._check_kind(message, {"header"})
            return message.header
        raise InvalidRequestError("no message came: send a header, then the pictures")

    def _check_kind(self, message: Any, kinds: set[str]) -> None:
        if message.WhichOneof("message") not in kinds:
            raise InvalidRequestError(
                "the first message, and only it, carries the header; every other one a picture"
            )

    def _check_items(self, items: int) -> None:
        """Refuses more than one call could enrol."""
        most = self._config.server.max_enrol_items
        if items > most:
            raise LimitError(f"one call enrols at most {most:,} pictures: preview fewer")

    # --- pictures -------------------------------------------------------------------

    async def _see(self, image: bytes) -> tuple[str, Features, Reading]:
        """The id of a picture, and what the models make of it."""
        features = await self._enroller.extract_features(image)
        if features.reading is None:
            raise AssertionError("pictures to compare are always read")
        return hashlib.sha256(image).hexdigest(), features, features.reading

    async def _asked(self, picture: pb.PreviewPicture) -> Asked:
        truth = convert_discovery.truth(picture.truth)
        image_id, features, reading = await self._see(picture.image)
        return Asked(image_id=image_id, query=self._query(features.embedding, reading), truth=truth)

    def _asked_of(self, kept: KeptFeatures) -> Asked:
        return Asked(image_id=kept.answer.image_id, query=self._query(kept.embedding, kept.reading))

    def _query(self, embedding: Any, reading: Reading | None) -> Query:
        """A picture as screenshots are asked here: read or not, as the settings say."""
        return Query(embedding=embedding, reading=reading if self._config.recognition.ocr else None)

    async def _add(self, additions: Additions, item: Any) -> None:
        """Adds a picture that would be enrolled, unless it is there already."""
        image_id = hashlib.sha256(item.image).hexdigest()
        if not additions.lacks(image_id, item.label, item.source):
            return
        # Raises PurgedError, as an enrolment does.
        await in_thread(lambda: self._store.has_content(image_id, self._enroller.bundles))
        _, features, reading = await self._see(item.image)
        additions.add(
            Addition(
                image_id=image_id,
                label=item.label,
                source=item.source,
                embedding=features.embedding,
                reading=reading,
            )
        )

    # --- what is there --------------------------------------------------------------

    def _knowledge(self, gallery: str) -> Knowledge:
        """What is known of a gallery; of one that is not there, nothing."""
        try:
            return self._registry.get(gallery)
        except NotFoundError:
            recognition = self._config.recognition
            return Knowledge.of(
                empty_snapshot(gallery, self._enroller.bundles),
                recognition.method,
                epsilon=recognition.epsilon,
            )

    def _kept(self, gallery: str) -> list[KeptFeatures]:
        """What was kept for review and can be compared; blocks."""
        since_ms = self._config.review.limits.since_ms(self._store.now_ms())
        try:
            return self._store.kept_features(gallery, self._enroller.bundles, since_ms=since_ms)
        except NotFoundError:
            return []

    def _rejected(self, gallery: str) -> list[SeenPicture]:
        """The kept pictures that were rejected and read; blocks."""
        return [
            SeenPicture(image_id=one.answer.image_id, embedding=one.embedding, reading=one.reading)
            for one in self._kept(gallery)
            if one.answer.label == OTHER and one.reading is not None
        ]

    def _dismissed(self, gallery: str) -> list[SeenPicture]:
        """What clusters of no interest look like; blocks."""
        return [
            SeenPicture(image_id=one.image_id, embedding=one.embedding, reading=one.reading)
            for one in self._store.dismissed(gallery, self._enroller.bundles)
        ]

    def _kept_pictures(self, gallery: str, image_ids: Sequence[str]) -> list[DismissedPicture]:
        """What was seen and read of kept pictures; blocks.

        Those of which nothing is kept any more, or not by these bundles, are left out: the oldest
        go while a person looks at clusters.

        Raises:
            InvalidRequestError: the text of one was not read.
        """
        kept = {one.answer.image_id: one for one in self._kept(gallery)} if image_ids else {}
        pictures = []
        for image_id in image_ids:
            if image_id not in kept:
                continue
            reading = kept[image_id].reading
            if reading is None:
                raise InvalidRequestError(
                    f"the text of the kept picture {image_id} was not read: send the picture"
                )
            pictures.append(
                DismissedPicture(
                    image_id=image_id, embedding=kept[image_id].embedding, reading=reading
                )
            )
        return pictures


class _Tally:
    """Counts the pictures of a call, and notes those that cannot be used.

    Args:
        announced: How many the caller says follow; 0: it does not.
        most: How many one call may send.
        report: Told how many are done.
    """

    def __init__(self, announced: int, most: int, report: Report) -> None:
        if announced > most:
            raise self._too_many(most)
        self._announced = announced
        self._most = most
        self._report = report
        self._come = 0
        self.unusable: list[tuple[int, RequestError]] = []
        report(0, announced)

    def one(self) -> _Tally:
        """A block in which one picture is used."""
        if self._come == self._most:
            raise self._too_many(self._most)
        self._come += 1
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._report(self._come, max(self._announced, self._come))
        if isinstance(error, UNUSABLE):
            self.unusable.append((self._come - 1, error))
            return True
        return False

    @staticmethod
    def _too_many(most: int) -> LimitError:
        return LimitError(f"one call sends at most {most:,} pictures: use several calls")
