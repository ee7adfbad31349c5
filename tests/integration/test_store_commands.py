"""The `pagesight-server gallery` commands: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesight_server.__main__ import main
from pagesight_server.gallery import Change, Gallery, KeepLimits, KeptAnswer, KeptPicture
from pagesight_server.gallery.digests import digest
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from tests.support.parts import BUNDLES, unit
from tests.support.pictures import BLUE, RED, solid
from tests.support.stores import enrol, file_of, picture_id

ONE = picture_id("one")


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `pagesight-server gallery ...` here: exit code, stdout, stderr."""

    def run(*argv: object, group: tuple[str, ...] = ("gallery",)) -> tuple[int, str, str]:
        words = ["pagesight-server", *group, *map(str, argv)]
        monkeypatch.setattr(sys, "argv", [*words, "--store", str(tmp_path / "gallery.db")])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with two pictures."""
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"one": "a", "two": "b"})
    store.close()
    return file_of(store)


Run = Callable[..., tuple[int, str, str]]


def test_check_says_that_a_store_is_sound(command: Run, path: Path) -> None:
    store = Gallery(path)
    digest = store.fingerprint()
    store.close()
    sound = f"{path} is sound: default at revision 1\ndigest {digest.sha256}\n"
    assert command("check") == (0, sound, "")
    code, out, _ = command("check", "--json")
    told = json.loads(out)
    assert (code, told["galleries"], told["findings"]) == (0, {"default": 1}, [])
    assert told["sha256"] == digest.sha256
    assert told["tables"]["images"] == {"rows": 2, "sha256": digest.tables["images"].sha256}


def test_a_store_is_copied_and_the_copy_goes_on_as_one(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    path: Path,
    tmp_path: Path,
) -> None:
    def copy(*words: object) -> tuple[int, str, str]:
        argv = ["pagesight-server", "gallery", "copy", *map(str, words)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    to = tmp_path / "to.db"
    store = Gallery(path)
    digest = store.fingerprint()
    store.close()
    rows = sum(table.rows for table in digest.tables.values())
    assert copy(path, to) == (
        0,
        f"copied {path} to {to}: {rows} rows, {rows} of them now; digest {digest.sha256}\n",
        "",
    )
    code, out, err = copy(path, to)
    refused = f"pagesight-server: {to} holds something already: name a new store to copy into\n"
    assert (code, out, err) == (1, "", refused)
    code, out, _ = copy(to, tmp_path / "third.db", "--json")
    told = json.loads(out)
    assert (code, told["put"], told["deleted"], told["sha256"]) == (0, rows, 0, digest.sha256)
    missing = tmp_path / "none.db"
    assert copy(missing, tmp_path / "x.db") == (1, "", f"pagesight-server: no store {missing}\n")
    assert not missing.exists()


def test_what_the_terminal_cannot_say_is_escaped_and_json_is_utf8(path: Path) -> None:
    store = Gallery(path)
    enrol(store, {"one": "a"}, gallery="¥ 店")
    store.close()
    command = [sys.executable, "-m", "pagesight_server", "gallery", "check", "--store", str(path)]

    def printed(*options: str) -> bytes:
        environment = {**os.environ, "PYTHONIOENCODING": "gbk"}
        return subprocess.run(
            [*command, *options], env=environment, stdout=subprocess.PIPE, check=True
        ).stdout

    assert (
        printed()
        .decode("gbk")
        .splitlines()[0]
        .endswith("default at revision 1, \\xa5 店 at revision 1")
    )
    assert json.loads(printed("--json"))["galleries"] == {"default": 1, "¥ 店": 1}


def test_check_fails_with_each_fault_on_a_line(command: Run, path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("UPDATE embeddings SET vector = zeroblob(6)")
    database.commit()
    database.close()
    code, out, err = command("check")
    assert (code, out, len(err.splitlines())) == (1, "", 2)
    code, out, _ = command("check", "--json")
    assert code == 1
    assert "has changed: `pagesight-server gallery reindex`" in json.loads(out)["findings"][0]


def test_a_backup_is_restored_into_a_new_store_and_over_the_old(
    command: Run, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "it.db"
    code, out, _ = command("backup", file)
    assert code == 0
    assert out.startswith(f"backed up {path} to {file}, ")
    code, _, err = command("restore", file)
    assert (code, "replace it with --force" in err, len(err.splitlines())) == (1, True, 1)
    assert command("restore", file, "--force")[0] == 0
    path.unlink()
    code, out, _ = command("restore", file, "--json")
    assert (code, json.loads(out)) == (0, {"store": str(path), "purged_again": []})
    assert command("check")[0] == 0


def test_a_purge_reaches_the_managed_backups_and_says_so(
    command: Run, path: Path, tmp_path: Path
) -> None:
    code, out, _ = command("backup", tmp_path / "copies", "--keep", 2, "--json")
    assert code == 0
    file = json.loads(out)["file"]
    code, out, _ = command("purge", ONE, "--json")
    nobody: dict[str, list[str]] = {"forgotten": [], "remembering": [], "silent": []}
    assert code == 0
    assert json.loads(out) == {
        "revisions": {"default": 2},
        "backups": [file],
        "replicas": nobody,
    }
    code, _, err = command("purge", "00" * 32)
    assert code == 1
    assert "nothing was purged" in err
    Path(file).unlink()
    code, _, err = command("purge", picture_id("two"))
    assert (code, f"the backups {file} are not there" in err) == (1, True)
    assert command("purge", picture_id("two"), "--forget-missing")[0] == 0


def test_a_purge_says_which_replicas_have_forgotten(
    command: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Gallery(path)
    store.beat("1", "a:50051", {"default": 2})
    store.beat("2", "b:50051", {"default": 1})
    store.beat("3", "c:50051", {"default": 1})
    with store.database.writing() as db:
        db.execute("UPDATE replicas SET seen_at_ms = seen_at_ms - 90000 WHERE id = '3'")
    code, out, err = command("purge", ONE)
    assert (code, out.splitlines()[1]) == (0, "forgotten by a:50051")
    assert "not yet forgotten by b:50051\n" in err
    assert "silent: c:50051 has not been heard of for 9" in err
    code, out, _ = command("purge", ONE, "--wait", "0.01", "--json")
    told = json.loads(out)["replicas"]
    assert (code, told["forgotten"], told["remembering"]) == (1, ["a:50051"], ["b:50051"])
    assert [replica["name"] for replica in told["silent"]] == ["c:50051"]

    def catches_up(_seconds: float) -> None:
        for number, name in (("2", "b:50051"), ("3", "c:50051")):
            store.beat(number, name, {"default": 2})

    monkeypatch.setattr("pagesight_server.cli.gallery.time.sleep", catches_up)
    code, out, err = command("purge", ONE, "--wait", "30")
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "forgotten by a:50051, b:50051, c:50051"
    store.close()


def test_a_picture_is_purged_by_the_first_characters_of_its_id(command: Run, path: Path) -> None:
    code, _, err = command("purge", "0" * 12)
    assert (code, err) == (
        1,
        "pagesight-server: the store has no picture whose id begins with 000000000000\n",
    )
    twin = bytes.fromhex(ONE[:12] + "0" * 52)
    database = sqlite3.connect(path)
    database.execute("INSERT INTO images VALUES (?, 1, 1, NULL)", (twin,))
    database.commit()
    code, _, err = command("purge", ONE[:12])
    assert (code, f"is short for several pictures: {twin.hex()}" in err) == (1, True)
    database.execute("DELETE FROM images WHERE id = ?", (twin,))
    database.commit()
    database.close()
    assert command("purge", ONE[:12])[0] == 0
    assert command("purge", ONE[:12].upper())[0] == 0  # once more, as after one that was killed
    store = Gallery(path)
    assert store.purged() == [ONE]
    store.close()
    for wrong in (ONE[:11], "x" * 12, "0" * 65):
        assert "is no image id" in command("purge", wrong)[2]


def test_expired_content_goes_by_the_setting(command: Run, path: Path, tmp_path: Path) -> None:
    store = Gallery(path, now_ms=lambda: 1000)  # long ago
    store.remove(Change(), [ONE])
    store.close()
    code, out, _ = command("purge", "--expired")
    assert code == 0
    assert out == (
        "deleted 0 pictures that were never enrolled; all removed pictures are kept "
        "(gallery.keep_removed_days = 0)\n"
    )
    settings = tmp_path / "pagesight.toml"
    settings.write_text("[gallery]\nkeep_removed_days = 30\n")
    code, out, _ = command("purge", "--expired", "--config", settings)
    assert (code, out) == (
        0,
        "deleted 0 pictures that were never enrolled, and 1 that were removed more than 30 days "
        "ago\n",
    )


@pytest.mark.parametrize("words", [["purge"], ["purge", ONE, "--expired"]])
def test_a_purge_is_of_pictures_or_of_what_expired(
    command: Run, path: Path, words: list[str]
) -> None:
    code, _, err = command(*words)
    assert (code, err) == (
        1,
        "pagesight-server: give either ids of pictures to purge, or --expired\n",
    )


@pytest.mark.parametrize("words", [["check"], ["backup", "it.db"], ["purge", ONE], ["reindex"]])
def test_a_store_that_is_not_there_is_not_made(
    command: Run, tmp_path: Path, words: list[str]
) -> None:
    code, _, err = command(*words)
    assert (code, "no store" in err, len(err.splitlines())) == (1, True, 1)
    assert not (tmp_path / "gallery.db").exists()


def test_a_gallery_moves_to_real_bundles(
    command: Run, path: Path, tmp_path: Path, bundles: Path
) -> None:
    path.unlink()
    for name, colour in (("a", RED), ("b", BLUE)):
        file = tmp_path / "DIR" / name / "1.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(solid(colour, width=96, height=96))
    assert command("index", tmp_path / "DIR", "--bundles", bundles, group=())[0] == 0
    # As if other bundles had made it.
    database = sqlite3.connect(path)
    database.execute("UPDATE galleries SET encoder_bundle = 'old@000000000000'")
    database.create_function("digest", 3, digest)
    database.execute("UPDATE embeddings SET bundle = 'old@000000000000'")
    database.execute("UPDATE embeddings SET sha256 = digest(image_id, bundle, vector)")
    database.commit()
    database.close()
    code, out, _ = command("reindex", "--bundles", bundles, "--prepare", "--json")
    assert (code, json.loads(out)) == (
        0,
        {"revision": 2, "computed": 2, "switched": False, "missing": []},
    )
    code, out, _ = command("reindex", "--bundles", bundles)
    assert (code, out) == (0, "gallery default is at revision 3: 0 pictures computed\n")
    store = Gallery(path)
    assert store.snapshot().encoder_bundle.startswith("builtin@")
    # It ends with the calibration of this revision.
    assert store.calibration("default", 3, f"pagesight 0.05 v{CALIBRATION_VERSION}") is not None
    store.close()
    assert command("check")[0] == 0


def test_a_move_that_would_lose_pictures_lists_them_and_fails(
    command: Run, path: Path, bundles: Path
) -> None:
    code, _, err = command("reindex", "--bundles", bundles)  # what is stored is no picture
    assert code == 1
    assert err.count("the bytes are no JPEG, PNG or WebP") == 2
    assert "was not switched: 2 pictures cannot be migrated." in err


def test_expiring_lets_go_of_answers_kept_for_review_where_settings_have_a_ring(
    command: Run, path: Path, tmp_path: Path
) -> None:
    store = Gallery(path)
    kept = KeptPicture(
        answer=KeptAnswer(
            image_id=picture_id("shot"),
            gallery="default",
            revision=1,
            label="other",
            closest_label="a",
            score=0.25,
            threshold=0.5,
            doubt=0.5,
            review_reasons=(),
            kept_reason="rejected",
            kept_at_ms=store.now_ms() - 2 * 86_400_000,
        ),
        image=b"shot",
        bundles=BUNDLES,
        embedding=unit(1, 2, 2),
        reading=None,
    )
    store.keep([kept], KeepLimits(answers=5))
    store.close()
    config = tmp_path / "pagesight.toml"
    config.write_text("[review]\nkeep = 5\nkeep_days = 1.5\n", "utf-8")
    assert json.loads(command("purge", "--expired", "--json")[1])["answers"] == 0
    code, out, _ = command("purge", "--expired", "--config", config)
    assert code == 0
    assert "1 answers that were kept for review" in out
    store = Gallery(path)
    assert store.kept("default") == []
    store.keep([kept], KeepLimits(answers=5))
    store.close()
    code, out, err = command("purge", picture_id("shot")[:12])
    assert (code, out) == (0, "purged 1 pictures, also from 0 backups\n"), err
    assert command("check")[0] == 0
