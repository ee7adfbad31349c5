"""`pagesight gallery` set-labels, suggest-brands and doctor: what is said and asked of labels."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.command import Run, rows
from tests.support.fake_server import FakeServer


def image_id(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_labels_are_edited_as_a_file(pagesight: Run, pages: Path, tmp_path: Path) -> None:
    pagesight("gallery", "enrol", pages)
    file = tmp_path / "labels.toml"
    file.write_text("[dxm_user_info]\nbrands = ['度小满', '有钱花']\noutputs = ['dxm', 'info']\n")
    done = pagesight("gallery", "set-labels", file)
    assert done.stdout == "set 1 label; the gallery is at revision 3\n"
    shown = " ".join(pagesight("gallery", "get-labels").stdout.split())
    assert "dxm_user_info 2 度小满, 有钱花 dxm, info" in shown
    assert "zsyh_amount 1 zsyh_amount" in shown
    file.write_text("[dxm_user_info]\noutputs = ['info']\n[zsyh_amount]\nbrands = ['招商']\n")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    known = rows(pagesight("gallery", "get-labels", "--json"))
    assert [(row["brands"], row["outputs"]) for row in known] == [
        (["度小满", "有钱花"], ["info"]),
        (["招商"], []),
    ]
    file.write_text("[dxm_user_info]\noutputs = ['dxm', 'info']\n[zsyh_amount]\nbrands = []\n")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    file.write_text(pagesight("gallery", "get-labels", "--toml").stdout, "utf-8")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    assert rows(pagesight("gallery", "get-labels", "--json"))[0] == {
        "label": "dxm_user_info",
        "brands": ["度小满", "有钱花"],
        "outputs": ["dxm", "info"],
        "images": 2,
    }


def test_a_labels_file_with_a_mistake_changes_nothing(
    pagesight: Run, server: FakeServer, pages: Path, tmp_path: Path
) -> None:
    file = tmp_path / "labels.toml"
    file.write_text("[a]\nbrand = ['x']\n")
    result = pagesight("gallery", "set-labels", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"pagesight: {file}, line 2: unknown key 'brand': use brands or outputs"
    ]
    result = pagesight("gallery", "enrol", pages)
    file.write_text("[unheard_of]\nbrands = ['x']\n")
    result = pagesight("gallery", "set-labels", file)
    assert result.stderr == 'pagesight: the gallery has no label "unheard_of"\n'
    assert len(server.gallery.changes) == 2


def test_what_may_be_wrong_is_shown_as_text_as_json_and_side_by_side(
    pagesight: Run, pages: Path, tmp_path: Path
) -> None:
    pagesight("gallery", "enrol", pages)
    page = tmp_path / "doctor.html"
    shown = pagesight("gallery", "doctor", "--html", page)
    assert shown.exit_code == 0, shown.stderr
    first = min(map(image_id, (b"a", b"b", b"c")))
    assert (
        "revision 2, 3 of 3 pictures examined: 1 label in doubt, 0 odd pictures, 1 group"
        in shown.stdout
    )
    assert first[:12] in shown.stdout
    assert "under several labels" in shown.stdout
    assert "up to 95% of its screenshots" in shown.stdout
    told = " ".join(shown.stdout.split())
    assert "1 of 2 pictures, each left out in turn, would be rejected (50%); that is many" in told
    assert f"zsyh_amount 1 of 2 {first[:12]} 0.500 0.375" in told
    assert "11 of 20 lines were hardly read: the OCR bundle may not know the script" in told
    assert "zsyh_amount has no text of its own: all that it always shows also stands on" in told
    assert f"zsyh_amount {first[:12]} 0.250" in told
    [found] = rows(pagesight("gallery", "doctor", "--json"))
    assert (found["left_out_images"], found["rejected_images"]) == (2, 1)
    assert found["hardly_read"][0]["hardly_read_lines"] == 11
    assert found["labels"][0]["text_shared_with"] == ["<other page>"]
    assert found["suspects"][0]["suggested_label"] == "<other page>"
    assert [image["label"] for image in found["duplicates"][0]].count("dxm_user_info") == 2
    assert page.stat().st_mode & 0o077 == 0  # it shows screenshots
    html = page.read_text("utf-8")
    # Two of the suspect, three of the group, one hardly read, and of each of two labels one that is
    # rejected and one of whose look more are wanted.
    assert html.count("data:image/jpeg;base64,") == 10
    assert "1 of 2 rejected, mean score 0.500, least 0.375" in html
    assert "least alike: cosine 0.250 with any other" in html
    assert "&lt;other page&gt;" in html
    assert "<other page>" not in html
    assert f"pagesight gallery relabel &#x27;&lt;other page&gt;&#x27; {first}" in html


def test_suggested_brands_are_comments_until_a_person_confirms_them(
    pagesight: Run, server: FakeServer, pages: Path, tmp_path: Path
) -> None:
    pagesight("gallery", "enrol", pages)
    known = tmp_path / "known.toml"
    known.write_text("[zsyh_amount]\nbrands = ['闪电贷']\noutputs = ['zs']\n", "utf-8")
    pagesight("gallery", "set-labels", known)
    file = tmp_path / "labels.toml"
    done = pagesight("gallery", "suggest-brands", "--out", file)
    assert done.exit_code == 0
    assert "names for 2 of 2 labels" in done.stdout
    before = dict(server.gallery.labels)
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    # As it comes, the file sets what was set.
    after = server.gallery.labels
    assert list(after["zsyh_amount"].brands) == list(before["zsyh_amount"].brands) == ["闪电贷"]
    assert list(after["zsyh_amount"].outputs) == ["zs"]
    assert not after["dxm_user_info"].brands
    file.write_text(file.read_text("utf-8").replace('# "度小满"', '"度小满"'), "utf-8")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    assert list(server.gallery.labels["dxm_user_info"].brands) == ["度小满"]
    again = pagesight("gallery", "suggest-brands", "--out", file)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    printed = rows(pagesight("gallery", "suggest-brands", "--json"))
    assert printed[1]["suggestions"] == [{"text": "度小满", "reason": "a title", "images": 1}]
