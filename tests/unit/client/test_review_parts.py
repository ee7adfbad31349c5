"""Masking, type-ahead and export of the review page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from pagesight import (
    Box,
    Candidate,
    Classification,
    Client,
    Finding,
    ImageInfo,
    InternalError,
    MatchingLine,
    ScoreTerm,
    UnavailableError,
)
from pagesight._review_page import labels, masking, static_page, view
from pagesight._review_page.export import ExportFolder, media_type
from pagesight._review_page.model import Card, Origin, Waiting
from pagesight._review_page.pictures import Pictures

PNG = b"\x89PNG\r\n\x1a\n" + b"..."
ID = "ab" * 32


def test_every_digit_of_every_script_is_masked_and_nothing_else() -> None:
    assert masking.mask("Card 6217 ４２ ٣ ②, due 一月") == "Card •••• •• • •, due 一月"
    assert masking.mask("no digits") == "no digits"


def test_a_note_keeps_its_own_numbers_and_masks_what_it_quotes() -> None:
    note = "this page shows 'A1' where it says \"B22\" (weight 0.90)"
    assert masking.mask_quoted(note) == "this page shows 'A•' where it says \"B••\" (weight 0.90)"
    assert masking.mask_quoted("3 of 4 pictures show it") == "3 of 4 pictures show it"


BOX, OTHER_BOX, PAGE_BOX = (Box(left=at, top=0, right=at + 5, bottom=5) for at in (0, 10, 20))


def answer(**values: object) -> Classification:
    candidate = Candidate(
        label="login",
        score=0.8,
        rank_score=0.7,
        visual=0.9,
        textual=0.5,
        image_id=ID,
        terms=(
            ScoreTerm(name="looks", score=0.9, rank_score=0.5),
            ScoreTerm(name="missing_brand", score=-0.1, rank_score=0.0),
            ScoreTerm(name="siblings", score=0.0001, rank_score=0.0),
        ),
        matching_lines=(
            MatchingLine(query_text="Log in", gallery_text="Log in", similarity=1.0),
            MatchingLine(query_text="Pay 12", gallery_text="Pay 3", similarity=0.8),
        ),
        digit_boxes=(PAGE_BOX,),
    )
    settings: dict[str, object] = {
        "label": "login",
        "closest_label": "login",
        "score": 0.8,
        "threshold": 0.5,
        "doubt": 0.97,
        "candidates": (candidate, candidate),
        "findings": (
            Finding(kind="agrees", text="Log in", query_box=BOX, gallery_box=BOX),
            Finding(kind="forbids", text="Pay 12", query_box=OTHER_BOX, note="says '12'"),
        ),
    }
    return Classification(**settings | values)  # type: ignore[arg-type]


class FakePictures:
    """Has every picture of a gallery, a thumbnail of it, and can fail to list them once."""

    def __init__(self, *, away_once: bool = False) -> None:
        self.away_once = away_once
        self.listed: list[str] = []

    def get_image(self, image_id: str, *, gallery: str) -> bytes:
        """Returns the same bytes for each."""
        assert gallery == "default"
        return PNG

    def list_images(self, *, gallery: str, label: str, page_size: int) -> list[ImageInfo]:
        """Returns the only picture of a label."""
        assert (gallery, page_size) == ("default", 1_000)
        self.listed.append(label)
        if self.away_once:
            self.away_once = False
            raise UnavailableError("away")
        return [
            ImageInfo(
                image_id=ID,
                label=label,
                source="",
                author="",
                added_at=None,
                added_revision=1,
                width_px=1080,
                height_px=2400,
                text_lines=3,
            )
        ]


def card(
    *,
    revealed: bool = False,
    size: tuple[int, int] | None = (1080, 2400),
    origin: Origin = "folder",
) -> view.CardView:
    waiting = Waiting(image_id=ID, origin=origin)
    shown = Card(waiting=waiting, answer=answer(), stage="doubtful", revealed=revealed)
    return view.card_view(shown, lambda _image_id: size)


def kinds(marks: tuple[view.Mark, ...] | None) -> list[str] | None:
    return None if marks is None else [mark.kind for mark in marks]


def written(tmp_path: Path, *answers: Classification) -> str:
    """The static page of screenshots with these answers."""
    shot = tmp_path / "shot.png"
    shot.write_bytes(PNG)
    index = static_page.write(
        tmp_path / "seen",
        [static_page.Looked(shot, one) for one in answers],
        cast(Client, FakePictures()),
        gallery="default",
        sort="doubt",
        show_digits=False,
        step=lambda: None,
    )
    return index.read_text(encoding="utf-8")


def test_digits_are_covered_where_the_server_says_and_where_findings_hold_some() -> None:
    told = answer(digit_boxes=(BOX,))
    assert masking.query_covers(told) == (BOX, OTHER_BOX)
    assert masking.gallery_covers(told, told.candidates[0]) == (PAGE_BOX,)


def test_a_card_shows_no_digit_until_it_is_revealed() -> None:
    masked = card()
    assert kinds(masked.marks) == ["agrees", "forbids", "cover"]
    assert [words.texts for words in masked.words] == [
        (("Pay ••", "says '••'"),),
        (("Log in", ""),),
    ]
    shown = card(revealed=True)
    assert kinds(shown.marks) == ["agrees", "forbids"]
    assert shown.words[0].texts == (("Pay 12", "says '12'"),)


def test_bars_share_one_scale_and_terms_that_say_nothing_are_left_out() -> None:
    # From -0.1 to 0.9: one tenth of the width lies below zero.
    terms = [(term.text, round(term.start), round(term.width)) for term in card().terms]
    assert terms == [("looks", 10, 90), ("brand missing", 0, 10)]


def test_lines_that_agree_are_left_out_and_what_differs_is_marked() -> None:
    (line,) = card(revealed=True).choices[0].lines
    assert "".join(part.text for part in line.query) == "Pay 12"
    assert [part.text for part in line.gallery if part.differs] == ["3"]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        pytest.param("zs", ["zsyh_amount", "zsyh_setting"], id="a prefix, the shorter first"),
        pytest.param("amo", ["zsyh_amount"], id="the beginning of a word"),
        pytest.param("zam", ["zsyh_amount"], id="letters in order"),
        pytest.param("ZSYH_S", ["zsyh_setting"], id="whatever the case"),
        pytest.param("xyz", [], id="nothing"),
    ],
)
def test_labels_are_found_by_what_is_typed(typed: str, first: list[str]) -> None:
    assert labels.matching(typed, ["zsyh_setting", "zsyh_amount", "login"]) == first


def test_a_label_that_the_contract_forbids_is_refused_with_a_reason() -> None:
    assert labels.why_not("login") == ""
    for wrong in ("", "a/b", "a\nb", "..", "x" * 129, "a\u202eb"):
        assert labels.why_not(wrong)


def test_a_decided_picture_is_in_one_folder_and_its_owner_s_alone(tmp_path: Path) -> None:
    folder = ExportFolder(tmp_path / "labelled")
    folder.put(ID, "login", PNG)
    path = folder.put(ID, "account", PNG)
    assert [found.relative_to(tmp_path) for found in tmp_path.glob("*/*/*")] == [
        Path("labelled") / "account" / f"{ID}.png"
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    folder.take_back(ID)
    assert list(tmp_path.glob("*/*/*")) == []


def test_a_label_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = ExportFolder(tmp_path / "labelled")
    for label in ("..", "../x", "a/b"):
        with pytest.raises(ValueError, match="a label"):
            folder.put(ID, label, PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["labelled"]


@pytest.mark.parametrize("image_id", ["../../victim", "*", "", f"{ID}\n", ID.upper()])
def test_a_server_s_id_that_is_no_hash_names_no_file(tmp_path: Path, image_id: str) -> None:
    folder = ExportFolder(tmp_path / "labelled")
    kept = folder.put(ID, "login", PNG)
    with pytest.raises(InternalError, match="no SHA-256"):
        folder.put(image_id, "login", PNG)
    folder.take_back(image_id)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_the_static_page_writes_no_picture_outside_its_folder(tmp_path: Path) -> None:
    candidate = replace(answer().candidates[0], image_id="../../victim")
    with pytest.raises(InternalError, match="no SHA-256"):
        written(tmp_path, answer(candidates=(candidate,)))
    assert not (tmp_path / "victim").exists()


def test_the_static_page_covers_digits_where_they_stand_though_it_has_a_thumbnail(
    tmp_path: Path,
) -> None:
    # The screenshot's own boxes count in its own pixels, which the browser knows.
    page = written(tmp_path, answer())
    assert page.count('viewBox="0 0 1080 2400"') == 1
    assert page.count('<rect class="cover"') == 2
    assert "veiled" not in page


def test_a_picture_whose_size_nobody_told_is_veiled_where_digits_stand_in_it() -> None:
    assert kinds(card().choices[0].marks) == ["agrees", "cover"]
    assert kinds(card(size=None).choices[0].marks) is None
    assert kinds(card(size=None).choices[1].marks) is None
    assert kinds(card(size=None, revealed=True).choices[0].marks) == ["agrees"]
    assert kinds(card(size=None).marks) == ["agrees", "forbids", "cover"]


def test_a_hidden_known_item_is_covered_in_the_pixels_of_which_it_was_answered() -> None:
    known = card(origin="known")
    assert (known.size, kinds(known.marks)) == ((1080, 2400), ["agrees", "forbids", "cover"])
    assert kinds(card(origin="known", size=None).marks) is None
    assert card().size is None


def test_sizes_are_asked_for_again_after_a_failure_and_then_no_more() -> None:
    server = FakePictures(away_once=True)
    sizes = Pictures(cast(Client, server), "default")
    with pytest.raises(UnavailableError):
        sizes.learn_size(ID, "login", 1)
    assert sizes.size(ID) is None
    for image_id, revision in ((ID, 1), (ID, 2), ("cd" * 32, 1)):
        sizes.learn_size(image_id, "login", revision)
    assert sizes.size(ID) == (1080, 2400)
    assert server.listed == ["login", "login"]
    sizes.learn_size("cd" * 32, "login", 2)
    assert server.listed == ["login", "login", "login"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF1234WEBPVP8 ", "image/webp"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "application/octet-stream"),
        (b"<html>", "application/octet-stream"),
    ],
)
def test_a_picture_is_served_as_what_it_is_and_never_as_markup(data: bytes, kind: str) -> None:
    assert media_type(data) == kind
