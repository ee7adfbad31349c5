"""The package is its `__init__`: what it offers, what it drags in, what it promises."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pagesight
from tests.reference import TARGET, reference

ROOT = Path(__file__).parents[3]

API = """
    OTHER AsyncClient Client RetryPolicy TlsConfig

    ImageSource DefaultKey Priority ClassifyOptions ChangeOptions EnrolItem
    Candidate Classification EnrolOutcome EnrolResult ImageInfo LabelInfo Labels MatchingLine
    RelabelResult RemoveResult RevisionInfo RollbackResult SetLabelsResult StreamResult
    BrandSuggestion Diagnosis HardlyReadImage ImageLabel LabelHealth LabelSuggestions
    NearDuplicate Suspect GalleryFinding GalleryFindingKind Settlement SettleResult
    Box Finding FindingKind ReviewReason ScoreTerm ScoreTermName
    CalibrationInfo CalibrationSource DeleteResult GalleryInfo LabelField Progress RevisionKind
    Cluster Discovery DismissedCluster PreviewPicture PreviewResult TurnedAnswer UnreadablePicture

    Decision KeepLimits KeptAnswer KeptReason KnownItem
    DayFigures LabelFigures ReviewerFigures ReviewFigures

    PagesightError AbortedError AlreadyExistsError CallCancelledError DeadlineExceededError
    FailedPreconditionError InternalError InvalidArgumentError InvalidImageError NotFoundError
    OverloadedError ResourceExhaustedError UnavailableError UnreadableFileError
    PermissionDeniedError RevisionBehindError UnauthenticatedError
"""

CALLS = """
    classify classify_stream close delete_gallery diagnose discover dismiss_clusters enrol
    get_gallery get_image get_labels history list_galleries list_images preview relabel remove
    rollback set_labels settle_findings suggest_brands unsettle_findings

    draw_known get_kept_image keep_limits list_decisions list_kept record_decisions record_reveal
    recorded_name
    review_figures withdraw_decisions
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_the_api_is_what_this_list_says() -> None:
    assert sorted(pagesight.__all__) == sorted(API.split())
    assert all(hasattr(pagesight, name) for name in pagesight.__all__)


def test_every_other_module_is_private_or_generated() -> None:
    modules = {module.name for module in pkgutil.iter_modules(pagesight.__path__)}
    assert {name for name in modules if not name.startswith("_")} == {"v1"}


def test_both_clients_have_the_same_calls() -> None:
    for kind in (pagesight.Client, pagesight.AsyncClient):
        assert {name for name in dir(kind) if not name.startswith("_")} == set(CALLS.split())
    for name in (*CALLS.split(), "__init__"):
        waiting = inspect.signature(getattr(pagesight.Client, name)).parameters
        awaiting = inspect.signature(getattr(pagesight.AsyncClient, name)).parameters
        assert [(p.name, p.kind, p.default) for p in waiting.values()] == [
            (p.name, p.kind, p.default) for p in awaiting.values()
        ]


def test_everything_public_has_a_docstring() -> None:
    for name in pagesight.__all__:
        value = getattr(pagesight, name)
        assert not inspect.isclass(value) or value.__doc__, name
    for call in CALLS.split():
        assert getattr(pagesight.Client, call).__doc__, call
        assert getattr(pagesight.AsyncClient, call).__doc__, call


def test_importing_the_client_imports_nothing_heavy() -> None:
    heavy = "numpy PIL typer rich click cv2 onnxruntime faiss torch pydantic pagesight_server"
    code = f"import sys, pagesight; print(*(set({heavy.split()}) & set(sys.modules)))"
    done = python(code)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def test_the_command_without_its_extra_says_what_to_install() -> None:
    for missing in ("typer", "rich"):
        done = python(
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from pagesight.__main__ import main\n"
            "sys.exit(main())"
        )
        assert done.returncode == 2
        assert done.stderr == (
            "the pagesight command needs its extra: pip install 'pagesight[cli]'\n"
        )


def test_the_reference_is_what_the_docstrings_say() -> None:
    stale = "docs/client.md is stale: make docs"
    made = reference()
    assert TARGET.read_text("utf-8") == made, stale
    assert all(f"`{name}`" in made or f"### {name}" in made for name in API.split())


USES = """
import asyncio
from typing import assert_type
from pathlib import Path
import pagesight

def rightly(client: pagesight.Client, paths: list[Path]) -> None:
    assert_type(client.classify("a.png"), pagesight.Classification)
    for keyed in client.classify_stream([(1.5, b"x")], gallery="g", ordered=True):
        assert_type(keyed, pagesight.StreamResult[float])
        assert_type(keyed.unwrap().candidates, tuple[pagesight.Candidate, ...])
    for plain in client.classify_stream(paths):
        assert_type(plain.key, pagesight.DefaultKey)
    assert_type(client.remove(["a"], author="mei").removed, int)

async def asynchronously(client: pagesight.AsyncClient) -> None:
    async for keyed in client.classify_stream([("a", b"x")]):
        assert_type(keyed.key, str)
    assert_type([image async for image in client.list_images()], list[pagesight.ImageInfo])
    assert_type(await client.get_labels(), pagesight.Labels)

def wrongly(client: pagesight.Client) -> None:
    client.classify(3)
    client.classify("a.png", priority="urgent")
    client.classify_stream([b"x"], galery="g")
    client.enrol(["a.png"])
    client.remove(["a"], auhtor="mei")
    client.classify("a.png").label = "b"
"""


def test_the_api_is_typed_examples_type_check_and_wrong_code_does_not(tmp_path: Path) -> None:
    source = tmp_path / "uses.py"
    source.write_text(USES, "utf-8")
    examples = [str(file) for file in sorted((ROOT / "examples").glob("*.py"))]
    assert len(examples) == 2
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, str(source), *examples],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    wrong = USES.splitlines().index("def wrongly(client: pagesight.Client) -> None:") + 2
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {Path(line.split(":")[0]).name for line in lines} == {"uses.py"}, done.stdout
    numbers = {int(line.split(":")[1]) for line in lines}
    assert numbers == set(range(wrong, wrong + 6)), done.stdout + done.stderr
