"""The sample screenshots: the same for a seed, hard in the ways that are promised."""

import tomllib
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw

from tests.samples import (
    DEMO_LABELS,
    LABELS,
    OTHER_KINDS,
    FontMissingError,
    GlyphMissingError,
    Version,
    draw,
    draw_other,
    draw_twin,
    fonts,
    write_dataset,
)
from tests.samples.brands import BRANDS, brand_of
from tests.samples.catalog import outputs
from tests.samples.drawing import NO_TWIN, known_page

SMALL = 540


def changed(a: Image.Image, b: Image.Image) -> float:
    """Share of pixels that differ."""
    assert a.size == b.size
    grey = ImageChops.difference(a, b).convert("L").point([0] + [255] * 255)
    return grey.histogram()[255] / (a.width * a.height)


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*.*") if path.is_file()}


def test_there_are_22_labels_and_the_demo_shows_some_of_them() -> None:
    assert len(LABELS) == 22
    assert set(DEMO_LABELS) < set(LABELS)
    assert sum(label.endswith("_user_info") for label in DEMO_LABELS) >= 2
    assert any(label.endswith("_amount") and label not in NO_TWIN for label in DEMO_LABELS)


@pytest.mark.parametrize("width", [SMALL, 1080])
@pytest.mark.parametrize("version", ["old", "new"])
def test_every_label_draws_in_both_versions(version: Version, width: int) -> None:
    for label in LABELS:
        image = draw(label, seed=7, version=version, width=width)
        assert image.size == (width, width * 20 // 9), label
        assert len(image.convert("L").getcolors(256) or []) > 60, label


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_every_kind_of_unknown_page_draws_and_varies(kind: str) -> None:
    images = [draw_other(kind, seed=seed, width=SMALL) for seed in range(10)]
    assert len({image.tobytes() for image in images}) == 10


def test_the_same_seed_draws_the_same_pixels() -> None:
    first, again = (draw("dxm_user_info", seed=3, width=SMALL) for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_another_seed_shows_another_user() -> None:
    first, other = (draw("dxm_user_info", seed=seed, width=SMALL) for seed in (3, 4))
    assert 0 < changed(first, other) < 0.2


def test_a_new_version_looks_different() -> None:
    for label in LABELS:
        old, new = known_page(label, "1"), known_page(label, "1", version="new")
        assert old.theme != new.theme, label
        assert old.blocks != new.blocks, label


def test_a_dark_page_is_dark() -> None:
    light, dark = (draw("wld_user_info", seed=1, width=SMALL, dark=dark) for dark in (False, True))
    means = [sum(image.convert("L").resize((1, 1)).tobytes()) for image in (light, dark)]
    assert means[0] > 200
    assert means[1] < 60


@pytest.mark.parametrize("label", ["dyfxj_amount", "zsyh_amount", "mtshf_user_info", "ppd_amount"])
def test_a_white_label_twin_differs_only_where_its_brand_stands(label: str) -> None:
    twin = draw_twin(label, seed=2, width=SMALL)
    assert 0 < changed(draw(label, seed=2, width=SMALL), twin) < 0.03


def test_a_known_page_names_its_brand_somewhere() -> None:
    for label in LABELS:
        assert any(word in repr(known_page(label, "1")) for word in brand_of(label).words), label


def test_a_twin_never_names_the_known_brand() -> None:
    for label in sorted(set(LABELS) - set(NO_TWIN)):
        said = repr(known_page(label, "1", brand=BRANDS["zfb"]))
        told = [word for word in brand_of(label).words if word in said]
        # A user's payout card may be of any bank, and banks are brands too.
        assert set(told) <= {"招商银行", "微众银行"}, label


def test_a_missing_font_names_the_wheel_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(fonts.WHEELS, True, ("no_such_package", "cvttf-notosanscjk-bold==1.0"))
    with pytest.raises(FontMissingError, match=r"pip install cvttf-notosanscjk-bold==1\.0"):
        write_dataset(tmp_path, labels=["wld_amount"], jobs=1)
    assert not files(tmp_path)


def test_a_character_without_a_glyph_is_an_error_and_not_a_box() -> None:
    canvas = ImageDraw.Draw(Image.new("RGB", (40, 40)))
    with pytest.raises(GlyphMissingError, match=r"U\+1F9FF"):
        fonts.face(20).draw(canvas, (0, 20), "\U0001f9ff", (0, 0, 0))


def test_a_label_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValueError, match="no_such_label"):
        draw("no_such_label", seed=1)
    with pytest.raises(ValueError, match="other_nothing"):
        draw_other("other_nothing", seed=1)


def test_a_dataset_is_laid_out_and_is_the_same_whoever_draws_it(tmp_path: Path) -> None:
    labels = ["wld_amount", "jdjr_user_info"]
    told: list[tuple[int, int]] = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        count = write_dataset(
            out, labels=labels, gallery=2, test=1, other=1, seed=5, width=SMALL, jobs=jobs,
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
        assert count == 2 * 2 + 2 * 1 + 4 * 1
    assert told[:10] == [(done, 10) for done in range(1, 11)]
    alone, together = files(tmp_path / "1"), files(tmp_path / "2")
    assert alone == together  # names are hashes of contents
    folders = {path.parent.as_posix() for path in alone}
    assert folders == {
        ".",
        "gallery",
        *(f"{side}/{label}" for side in ("gallery", "test") for label in labels),
        *(f"test/{kind}" for kind in OTHER_KINDS),
    }
    for path in alone - {Path("gallery/labels.toml"), Path("PROVENANCE.tsv")}:
        assert path.suffix in {".jpg", ".png", ".webp"}
        with Image.open(tmp_path / "1" / path) as image:
            image.load()


def test_a_dataset_says_which_test_pictures_show_a_newer_version(tmp_path: Path) -> None:
    label = "wld_amount"
    write_dataset(tmp_path, labels=[label], gallery=1, test=3, other=1, width=SMALL, jobs=1)
    head, *rows = (tmp_path / "PROVENANCE.tsv").read_text("utf-8").splitlines()
    assert head == "file\tversion"
    versions = dict(row.split("\t") for row in rows)
    assert set(versions) == {
        path.as_posix() for path in files(tmp_path) if path.parent == Path("test", label)
    }
    assert sorted(versions.values()) == ["newer", "same", "same"]


def test_labels_toml_knows_every_label_of_the_gallery_and_no_other(tmp_path: Path) -> None:
    write_dataset(tmp_path, gallery=0, test=0, other=0)
    known = tomllib.loads((tmp_path / "gallery" / "labels.toml").read_text(encoding="utf-8"))
    assert set(known) == set(LABELS)
    assert known["dyfxj_amount"] == {
        "brands": ["放心借", "抖音放心借", "抖音"],
        "outputs": ["dyfxj", "amount"],
    }
    assert outputs("zfb_my_homepage-zfb_my_name_card") == ["zfb_my_homepage", "zfb_my_name_card"]
