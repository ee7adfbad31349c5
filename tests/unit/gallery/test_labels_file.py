"""labels.toml: what it says, and that every mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.labels_file import read_labels
from pagesight_server.gallery.snapshot import LabelFacts

KNOWN = ("dyfxj_amount", "zsyh_amount", "a.b", "other_ads")


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_brands_and_outputs_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        [dyfxj_amount]
        brands = ["放心借"]
        outputs = ["dyfxj", "amount"]
        [zsyh_amount]
        ["a.b"]
        brands = ["A.B"]
        """,
    )
    assert read_labels(file, KNOWN) == {
        "dyfxj_amount": LabelFacts(brands=("放心借",), outputs=("dyfxj", "amount")),
        "zsyh_amount": LabelFacts(),
        "a.b": LabelFacts(brands=("A.B",)),
    }


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read_labels(written(tmp_path, ""), KNOWN) == {}


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    file = written(tmp_path, "\ufeff[zsyh_amount]\r\nbrands = ['招商银行']\r\n")
    assert read_labels(file, KNOWN) == {"zsyh_amount": LabelFacts(brands=("招商银行",))}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        pytest.param("\n\n[zsyh_amout]\n", 3, "has no label 'zsyh_amout'", id="unknown label"),
        pytest.param(
            "# all\n[dyfxj_amount] # mine\n\nbrnads = ['x']\n",
            4,
            "unknown key 'brnads': use brands or outputs",
            id="unknown key",
        ),
        pytest.param(
            "[dyfxj_amount]\nbrands = ['a']\n[zsyh_amount]\nbrands = '招商银行'\n",
            4,
            "brands must be a list of names",
            id="no list, in the second section",
        ),
        pytest.param("[zsyh_amount]\nbrands = [1]", 2, "must be a list of names", id="a number"),
        pytest.param("[zsyh_amount]\nbrands = [' ']", 2, "must be a list of names", id="a blank"),
        pytest.param("\nbrands = ['x']", 2, "outside a [label] section", id="no section"),
        pytest.param("\n\n['a/b']\n", 3, "cannot be a label", id="no label"),
        pytest.param('\n["zsyh_amount"]\n"x" = 1', 3, "unknown key 'x'", id="quoted names"),
        pytest.param("\n[dyfxj.amount]\n", 2, "has no label 'dyfxj'", id="a dot without quotes"),
        pytest.param("\n\n[zsyh_amount.brands]", 3, "must be a list", id="a section too deep"),
        pytest.param("\n[[zsyh_amount]]\n", 2, "outside a [label] section", id="a list of tables"),
        pytest.param(
            "zsyh_amount = { brnads = [] }\n[dyfxj_amount]\nbrnads = []",
            1,
            "unknown key 'brnads'",
            id="an inline table",
        ),
        pytest.param(
            "zsyh_amount.brands = ['x']\n\nzsyh_amount.brnads = ['x']",
            3,
            "unknown key 'brnads'",
            id="dotted keys",
        ),
        pytest.param(
            "[dyfxj_amount]\nbrands = [\n  'brnads = 1',\n]\n[zsyh_amount]\nbrnads = 1",
            6,
            "unknown key",
            id="a name that looks like a key",
        ),
    ],
)
def test_every_mistake_names_its_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SetupError) as failed:
        read_labels(file, KNOWN)
    message = str(failed.value)
    assert message.startswith(f"{file}, line {line}: "), message
    assert problem in message


# The messages of tomllib (Python 3.11) end in the place.
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[zsyh_amount]\nbrands = ['x'\n\n[a]", "at line 4"),
        ("[zsyh_amount]\n\n[zsyh_amount]", "at line 3"),
        ("\n[zsyh_amount", "at "),
    ],
)
def test_what_is_no_toml_names_its_line(tmp_path: Path, text: str, place: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SetupError, match=rf"labels\.toml: .*\({place}"):
        read_labels(file, KNOWN)


def test_what_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    file = written(tmp_path, b"[zsyh_amount]\nbrands = ['" + "招商银行".encode("gbk") + b"']\n")
    with pytest.raises(SetupError, match=r"labels\.toml, line 2: not UTF-8"):
        read_labels(file, KNOWN)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"none\.toml: .*No such file"):
        read_labels(tmp_path / "none.toml", KNOWN)
