"""What a gallery holds at one revision, as a value: read once, shared by every query."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from pagesight_server.common.arrays import Embeddings
from pagesight_server.common.errors import BundleMismatchError, InvalidRequestError
from pagesight_server.gallery.text_sample import TEXTS_PER_LABEL, TextSample
from pagesight_server.index.vectors import Halves, Vectors
from pagesight_server.text.reading import Reading

OTHER = "other"
"""The answer for a screenshot that shows no known page."""

DEFAULT_GALLERY = "default"

_REFUSED = (
    r"/\x00-\x1f\x7f-\x9f"  # a path's separator, control characters
    r"\u2028\u2029"  # line and paragraph separators
    # Bidi controls: with them one label can be made to look like another.
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    r"\ud800-\udfff"  # lone surrogates, of folder names that are not UTF-8: nothing can store them
)
_LABEL = re.compile(f"[^{_REFUSED}]{{1,128}}")

MAX_SOURCE_CHARS = 1_024
"""Of where a picture came from: room for a path or an address, none for a picture's text."""

MAX_NAMES = 100
"""Brands of one label at most, and outputs: every reply of the label carries all of its outputs,
and every query is searched for all of its brands."""

MAX_NAME_CHARS = 128
"""The longest brand or output of a label, in characters."""


def is_reserved(label: str) -> bool:
    """Whether a label marks examples of unknown pages: `other` or `other_...`."""
    return label == OTHER or label.startswith(OTHER + "_")


def normal_form(name: str) -> str:
    """A name of a gallery, label, brand or output in Unicode normal form C, as it is kept.

    macOS spells the names of folders in another form; both are one label.
    """
    return unicodedata.normalize("NFC", name)


def check_label(label: str) -> str:
    """Returns the label in its normal form, or raises.

    Raises:
        InvalidRequestError: it is not 1 to 128 characters, or one of them is "/", a control
            character, a line separator or a mark that turns the direction of text.
    """
    label = normal_form(label)
    if not _LABEL.fullmatch(label) or label in {".", ".."} or label != label.strip():
        raise InvalidRequestError(
            f"{label!r} cannot be a label: use 1 to 128 characters without '/', "
            "control characters, line separators, direction marks and surrounding spaces"
        )
    return label


def check_source(source: str) -> str:
    """Returns where a picture came from, or raises.

    Raises:
        InvalidRequestError: it is longer than `MAX_SOURCE_CHARS`.
    """
    if len(source) > MAX_SOURCE_CHARS:
        raise InvalidRequestError(
            f"source has {len(source):,} characters, at most {MAX_SOURCE_CHARS:,}"
        )
    return source


def check_names(names: Collection[str], what: str) -> tuple[str, ...]:
    """Returns brands or outputs in their normal form, or raises.

    Args:
        names: As they were given.
        what: Whose they are and what they are called, for the message.

    Raises:
        InvalidRequestError: there are more than `MAX_NAMES`, or one of them is empty or longer than
            `MAX_NAME_CHARS`.
    """
    if len(names) > MAX_NAMES:
        raise InvalidRequestError(f"{what} are at most {MAX_NAMES} names, not {len(names):,}")
    normal = tuple(map(normal_form, names))
    if not all(name.strip() for name in normal):
        raise InvalidRequestError(f"{what} are names, and one of them is empty")
    longest = max(map(len, normal), default=0)
    if longest > MAX_NAME_CHARS:
        raise InvalidRequestError(
            f"{what} are names of at most {MAX_NAME_CHARS} characters, and one of them has "
            f"{longest:,}"
        )
    return normal


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """What the operator knows of one label (a section of `labels.toml`)."""

    brands: tuple[str, ...] = ()
    """A page of this label normally shows one of these names."""

    outputs: tuple[str, ...] = ()
    """Business labels of the reply; none means the label itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelUpdate:
    """What to set of one label; None leaves it as it is."""

    brands: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None

    def over(self, facts: LabelFacts) -> LabelFacts:
        """The facts once this is set."""
        return LabelFacts(
            brands=facts.brands if self.brands is None else self.brands,
            outputs=facts.outputs if self.outputs is None else self.outputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Ids of the bundles that make embeddings and texts; both sides must agree."""

    encoder: str
    ocr: str


def check_bundles(gallery: str, made_by: Bundles, running: Bundles) -> None:
    """Refuses to compare what different bundles made.

    Raises:
        BundleMismatchError: other bundles made the gallery.
    """
    if made_by != running:
        raise BundleMismatchError(
            f"gallery {gallery!r} was made with {made_by.encoder} and {made_by.ocr}, not with "
            f"{running.encoder} and {running.ocr}: use its bundles, or move it to these with "
            "`pagesight-server gallery reindex`"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One labelled picture of a gallery."""

    image_id: str
    """SHA-256 of its bytes, in hexadecimal."""
    label: str
    source: str
    author: str
    added_at_ms: int
    """Unix time, UTC."""
    added_revision: int
    reading: Reading | None
    """Its text; None where it is not held, as nothing is learnt from it: `Snapshot.readings`."""


ReadTexts = Callable[[Sequence[str]], Mapping[str, Reading]]
"""The texts of pictures, given by id; those that have changed on the disk or were purged lack."""


def no_texts(_image_ids: Sequence[str]) -> Mapping[str, Reading]:
    """The texts of pictures that no store has: none."""
    return {}


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Changes:
    """What became of a gallery between two revisions."""

    revision: int
    """The later one."""
    bundles: Bundles
    left: tuple[tuple[str, str], ...]
    """Label and id of pictures that are no longer there, or there under another label."""
    joined: tuple[Picture, ...]
    """Pictures that were not there, or there under another label; by label, then id."""
    halves: Halves
    """The embeddings of those that joined, as they are stored: shape (joined, dimension)."""
    facts: Mapping[str, LabelFacts]
    """All of the later revision."""
    damaged: frozenset[str] = frozenset()
    """Ids of pictures that would have joined, had their embedding or text not changed on disk."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A gallery at one revision. Pictures are ordered by label, then id."""

    gallery: str
    revision: int
    encoder_bundle: str
    ocr_bundle: str
    pictures: tuple[Picture, ...]
    embeddings: Embeddings | Vectors
    """Row i belongs to pictures[i]; stored as fp16, so equal to about 1e-3."""
    facts: Mapping[str, LabelFacts]
    damaged: frozenset[str] = frozenset()
    """Ids of members that are left out, as their embedding or text has changed on the disk."""
    texts_per_label: int | None = TEXTS_PER_LABEL
    """Pictures of a label at most whose text is learnt from; None: all."""
    read_texts: ReadTexts = field(default=no_texts, compare=False, repr=False)
    """Reads the texts that are not held from the store; blocks."""

    @property
    def bundles(self) -> Bundles:
        """What made its embeddings and texts."""
        return Bundles(encoder=self.encoder_bundle, ocr=self.ocr_bundle)

    def after(self, changes: Changes) -> Snapshot:
        """The snapshot that changes lead to; it shares with this one what did not change.

        Raises:
            ValueError: the embeddings are not `Vectors`, or what left was never there.
        """
        if not isinstance(self.embeddings, Vectors):
            raise ValueError("only a snapshot over Vectors can be continued")

        def key(picture: Picture) -> tuple[str, str]:
            return picture.label, picture.image_id

        was: dict[str, int] = {}
        for label, image_id in changes.left:
            if image_id in self.damaged:
                continue
            row = bisect_left(self.pictures, (label, image_id), key=key)
            if row == len(self.pictures) or key(self.pictures[row]) != (label, image_id):
                raise ValueError(f"{image_id} was not in revision {self.revision}")
            was[image_id] = row
        gone = sorted(was.values())
        stayed = list(self.pictures)
        for row in reversed(gone):
            del stayed[row]
        places = [bisect_left(stayed, key(picture), key=key) for picture in changes.joined]
        pictures: list[Picture] = []
        begin = 0
        for place, picture in zip(places, changes.joined, strict=True):
            pictures += stayed[begin:place]
            pictures.append(picture)
            begin = place
        pictures += stayed[begin:]
        kept = np.delete(np.arange(len(self.pictures), dtype=np.int64), gone)
        before = [was.get(picture.image_id, -1) for picture in changes.joined]
        new = np.asarray(before, np.int64) < 0
        labels = {label for label, _ in changes.left} | {one.label for one in changes.joined}
        return replace(
            self,
            revision=changes.revision,
            pictures=tuple(pictures),
            embeddings=self.embeddings.after(np.insert(kept, places, before), changes.halves[new]),
            facts=changes.facts,
            damaged=(self.damaged - {image_id for _, image_id in changes.left}) | changes.damaged,
        )._holding_sample(self.sample, labels)

    def _holding_sample(self, before: TextSample, changed: Collection[str]) -> Snapshot:
        """The snapshot with the texts of its sample, and no others of the labels that changed.

        A picture whose text should come in and cannot be read is left out as damaged.

        Args:
            before: The sample of the snapshot before.
            changed: The labels of which a picture joined or left since.
        """
        most, snapshot = self.texts_per_label, self
        sample = TextSample(self.pictures, most, before=before, changed=changed)
        while missing := [
            row
            for label in changed
            for row in sample.get(label, ())
            if snapshot.pictures[row].reading is None
        ]:
            texts = self.read_texts([snapshot.pictures[row].image_id for row in missing])
            pictures = list(snapshot.pictures)
            for row in missing:
                pictures[row] = replace(pictures[row], reading=texts.get(pictures[row].image_id))
            lost = {row for row in missing if pictures[row].reading is None}
            snapshot = replace(snapshot, pictures=tuple(pictures))
            if lost:
                snapshot = snapshot._without(lost)
                sample = TextSample(snapshot.pictures, most, before=sample, changed=changed)
        if self.read_texts is not no_texts and not sample.is_whole:
            snapshot = replace(snapshot, pictures=_letting_go(snapshot.pictures, sample, changed))
        # A snapshot that is made otherwise draws its sample when it is first asked for.
        snapshot.__dict__["sample"] = sample
        return snapshot

    def _without(self, rows: Collection[int]) -> Snapshot:
        """The snapshot without some rows, which count as damaged."""
        assert isinstance(self.embeddings, Vectors)
        kept = [row for row in range(len(self.pictures)) if row not in rows]
        nothing = np.empty((0, self.embeddings.shape[1]), np.float16)
        return replace(
            self,
            pictures=tuple(self.pictures[row] for row in kept),
            embeddings=self.embeddings.after(np.asarray(kept, np.int64), nothing),
            damaged=self.damaged | {self.pictures[row].image_id for row in rows},
        )

    @cached_property
    def sample(self) -> TextSample:
        """For each label, the rows of the pictures whose text is learnt from."""
        return TextSample(self.pictures, self.texts_per_label)

    @cached_property
    def sampled_readings(self) -> Mapping[int, Reading]:
        """The texts of the sample, by row.

        Raises:
            ValueError: a snapshot was put together without one of them.
        """
        readings = {}
        for rows in self.sample.values():
            for row in rows:
                reading = self.pictures[row].reading
                if reading is None:
                    raise ValueError(f"{self.pictures[row].image_id} is learnt from, without text")
                readings[row] = reading
        return readings

    def readings(self, rows: Sequence[int]) -> list[Reading | None]:
        """The texts of some pictures, read from the store where they are not held; may block.

        None for one that has changed on the disk, or was purged, since the gallery was read.

        Raises:
            StorageError: the store cannot be read now.
        """
        pictures = [self.pictures[row] for row in rows]
        missing = [picture.image_id for picture in pictures if picture.reading is None]
        texts = self.read_texts(missing) if missing else {}
        return [picture.reading or texts.get(picture.image_id) for picture in pictures]

    def reading(self, row: int) -> Reading | None:
        """The text of a picture; as `readings`."""
        return self.readings([row])[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that can be an answer, in order."""
        return tuple(label for label in self.sample if not is_reserved(label))

    def outputs(self, label: str) -> tuple[str, ...]:
        """The business labels of an answer: none for `other`."""
        if label == OTHER:
            return ()
        facts = self.facts.get(label)
        return facts.outputs if facts and facts.outputs else (label,)


def _letting_go(
    pictures: Sequence[Picture], sample: TextSample, labels: Collection[str]
) -> tuple[Picture, ...]:
    """Pictures without the texts of some labels that are not of the sample."""
    held = {row for label in labels for row in sample.get(label, ())}
    return tuple(
        replace(picture, reading=None)
        if picture.label in labels and picture.reading is not None and row not in held
        else picture
        for row, picture in enumerate(pictures)
    )
