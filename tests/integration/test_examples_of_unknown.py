"""Enrolled examples of unknown pages: their like is rejected, and they are never an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.evaluation import evaluate
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.workflows.enrolment import Enroller, index_folder
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.pictures import Colour, solid
from tests.support.serving import Serving, serving

# Two pages in a few shades each, and a third colour that nobody enrolled: it looks much like red.
REDS: list[Colour] = [(250, shade, 10) for shade in (0, 20, 40, 60, 80)]
GREENS: list[Colour] = [(10, 250, shade) for shade in (0, 20, 40, 60, 80)]
ORANGES: list[Colour] = [(250, shade, 10) for shade in (150, 155, 160)]
ASKED: dict[str, list[Colour]] = {
    "red": [(250, 10, 10), (250, 50, 10)],
    "green": [(10, 250, 10), (10, 250, 50)],
    "other_orange": [(250, 152, 10), (250, 158, 10)],
}


def written(folder: Path, pictures: dict[str, list[Colour]]) -> Path:
    for label, colours in pictures.items():
        (folder / label).mkdir(parents=True)
        for number, colour in enumerate(colours):
            (folder / label / f"{number}.png").write_bytes(solid(colour))
    return folder


async def by_enrol(served: Serving, folder: Path) -> None:
    """As `pagesight gallery enrol` does."""
    for name in ("other_orange", OTHER):
        await served.enrol(*((name, p.read_bytes()) for p in sorted((folder / name).iterdir())))


async def by_index(served: Serving, folder: Path) -> None:
    """As `pagesight-server index` does; the server follows the store."""
    pipeline = served.models.pipeline(served.registry.known())
    enroller = Enroller(
        store=served.store, bundles=BUNDLES, extract_features=pipeline.extract_features
    )
    limits = ImageLimits()
    await index_folder(enroller, folder, gallery="default", author="", limits=limits)
    await served.registry.refresh()


@pytest.mark.parametrize("enrol", [by_enrol, by_index], ids=["enrol", "index"])
async def test_examples_of_unknown_pages_reject_their_like_and_are_never_an_answer(
    enrol: Callable[[Serving, Path], Awaitable[None]], tmp_path: Path
) -> None:
    asked = written(tmp_path / "test", ASKED)
    examples = written(tmp_path / "more", {"other_orange": ORANGES, OTHER: [(10, 10, 250)]})
    async with serving(tmp_path) as served:
        await served.enrol(*(("red", solid(c)) for c in REDS))
        await served.enrol(*(("green", solid(c)) for c in GREENS))
        before = await answers(served, asked)
        assert set(before["other_orange"]) == {"red"}, "nothing to improve, so nothing is tested"
        await enrol(served, examples)
        after = await answers(served, asked)
        assert after == before | {"other_orange": [OTHER, OTHER]}
        listed = await served.gallery.GetLabels(gpb.GetLabelsRequest(), timeout=WAIT_S)
    assert {one.label for one in listed.labels} == {"red", "green", "other_orange", OTHER}


async def answers(served: Serving, folder: Path) -> dict[str, list[str]]:
    """What `evaluate` says of each kind, once `Classify` has said the same."""
    pipeline = served.models.pipeline(served.registry.known())
    run = await evaluate(pipeline, folder)
    found: dict[str, list[str]] = {}
    for answer in run.predictions:
        reply = await served.classify(
            (folder / answer.path).read_bytes(), options=pb.Options(top_k=10, explain=True)
        )
        assert (reply.label, reply.closest_label) == (answer.label, answer.closed_label)
        # Neither an answer nor a candidate nor the closest page; and no class of the report.
        named = {reply.closest_label, *(one.label for one in reply.candidates)}
        assert named == {"red", "green"}
        assert answer.closed_label in {"red", "green"}
        found.setdefault(answer.truth, []).append(reply.label)
    return found
