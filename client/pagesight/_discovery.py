"""What discovery and previews take and return, as plain values.

discover(images)           -> Discovery ─┬ Cluster: pictures that seem to show one new page
└ UnreadablePicture
dismiss_clusters(clusters) <- DismissedCluster
preview(items, pictures)   -> PreviewResult ── TurnedAnswer
"""

from __future__ import annotations

from dataclasses import dataclass

from pagesight._errors import PagesightError
from pagesight._inputs import ImageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Pictures that seem to show one page that the gallery lacks."""

    key: str
    """Names it: 16 hexadecimal digits that follow from its pictures."""
    image_ids: tuple[str, ...]
    """SHA-256 of the bytes of each picture, in hexadecimal; the most typical one first."""
    shared_texts: tuple[str, ...]
    """Lines of text that all or nearly all of them show, in reading order; may be empty."""
    suggested_label: str
    """A name made of these: a label that can be enrolled and that the gallery lacks."""
    closest_label: str
    """The known page that is most like it; empty when the gallery knows none."""
    likeness: float
    """How alike its pictures are: mean likeness to the most typical one, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadablePicture:
    """A picture that could not be used, here or by the server."""

    index: int
    """Its place among the pictures of the call, from zero."""
    error: PagesightError


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Which new pages turn up among pictures."""

    clusters: tuple[Cluster, ...]
    """The largest first."""
    single_image_ids: tuple[str, ...]
    """Pictures that resemble no other."""
    left_out: int
    """Pictures left out, since they show a known page, or resemble what was dismissed or is
    enrolled as unknown."""
    unreadable: tuple[UnreadablePicture, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DismissedCluster:
    """A cluster of no interest: pictures like these are in no later `Discovery`."""

    images: tuple[ImageSource, ...] = ()
    """Its most typical pictures, at most 5. They are seen and read again; what was seen and read
    is kept by the server, the pictures are not."""
    kept_image_ids: tuple[str, ...] = ()
    """Ids of pictures that the server keeps for review, beside `images` or instead. Those that it
    keeps no more are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewPicture:
    """A picture to answer before and after an enrolment that is only previewed."""

    image: ImageSource
    truth: str = ""
    """The label it is known to have, `OTHER` for an unknown page; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAnswer:
    """Says how an answer would turn if the pictures were enrolled."""

    image_id: str
    """SHA-256 of the bytes of the picture, in hexadecimal."""
    label_before: str
    """The answer now."""
    label_after: str
    """The answer afterwards."""
    truth: str
    """The label it is known to have; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewResult:
    """Says which answers enrolling pictures would turn, and whether for the better."""

    revision: int
    """The revision that was looked at; 0 where there is no gallery yet."""
    answered: int
    """Pictures that were answered before and after."""
    turned: tuple[TurnedAnswer, ...]
    """Those whose answer would turn, in the order of the call, then those that the server keeps."""
    right_before: int
    """How many of the pictures with a known label are answered rightly now."""
    right_after: int
    """And how many would be."""
    unreadable: tuple[UnreadablePicture, ...] = ()
    """Pictures that cannot be enrolled or answered; places count those to enrol first, then those
    to answer."""
