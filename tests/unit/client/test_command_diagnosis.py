"""What `pagesight gallery doctor` makes of a diagnosis whose server is not to be trusted."""

from __future__ import annotations

import shlex
from html import unescape

from rich.console import Console

from pagesight import Diagnosis, GalleryFinding, ImageLabel, LabelHealth, Suspect
from pagesight._cli import care_page, render_diagnosis

EVIL = "a1; touch /x $(id)\x1b[2J"


def diagnosis() -> Diagnosis:
    """Asks about one picture, one group and one label, all of whose names are hostile."""
    image = ImageLabel(image_id=EVIL, label="login")
    return Diagnosis(
        revision=1,
        images=3,
        examined=3,
        suspects=(
            Suspect(
                image_id=EVIL,
                label="login",
                suggested_label="account",
                own_score=0.25,
                suggested_score=0.75,
                suggested_image_id=EVIL,
                own_image_id="",
                neighbours=2,
                foreign_neighbours=2,
                likely=True,
            ),
        ),
        duplicates=((image, image),),
        labels=(
            LabelHealth(label="login", images=1, distinct_images=1, unseen_bound=1.0, few=True),
        ),
        rejection_bound=1.0,
        findings=tuple(
            GalleryFinding(kind=kind, labels=("login",), image_ids=(EVIL,), key=EVIL)
            for kind in ("wrong_label", "near_duplicates", "few_pictures")
        ),
    )


def test_what_a_server_names_is_one_argument_of_the_commands_that_are_to_be_copied() -> None:
    console = Console(width=100, no_color=True)
    with console.capture() as captured:
        for part in render_diagnosis.diagnosis(diagnosis(), 10, gallery="default"):
            console.print(part, crop=False)
    told = captured.get()
    assert "\x1b" not in told
    asked = [line.partition("pagesight ")[2] for line in told.splitlines() if line[:4] == "  if"]
    marked = EVIL.replace("\x1b", "\ufffd")
    assert [shlex.split(command)[-1] for command in asked] == [marked] * 4
    page = unescape(care_page.page(diagnosis(), {}, gallery="default"))
    assert page.count(shlex.quote(EVIL)) == 4


def test_a_command_in_a_sentence_of_the_page_is_set_as_one() -> None:
    page = care_page.page(diagnosis(), {}, gallery="default")
    assert '<code class="inline">pagesight-server evaluate</code>' in page
    assert "`" not in page.partition("</style>")[2]
