"""labels.toml: the server and the client read the same files alike, and name the same lines.

The two may share no code (`pagesight_server` sees only `pagesight.v1` of the client, the client
nothing of the server), so this table holds them together.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from pagesight import LabelInfo
from pagesight._cli import labels as client
from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import labels_file as server
from pagesight_server.gallery.snapshot import LabelUpdate

KNOWN = ("dyfxj_amount", "zsyh_amount", "a.b", "other_ads", "caf\u00e9")


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param(
            """
            [dyfxj_amount]
            brands = ["放心借"]
            outputs = ["dyfxj", "amount"]
            [zsyh_amount]
            ["a.b"]
            brands = ["A.B"]
            """,
            {
                "dyfxj_amount": (("放心借",), ("dyfxj", "amount")),
                "zsyh_amount": (None, None),
                "a.b": (("A.B",), None),
            },
            id="both, none, one",
        ),
        pytest.param(
            "[zsyh_amount]\nbrands = []\noutputs = []", {"zsyh_amount": ((), ())}, id="cleared"
        ),
        pytest.param(
            "\ufeff[zsyh_amount]\r\nbrands = ['招商银行']\r\n",
            {"zsyh_amount": (("招商银行",), None)},
            id="Windows line ends and a byte order mark",
        ),
        pytest.param(
            # Each of 129 characters as it is written, of 128 as it is kept.
            "[zsyh_amount]\noutputs = [" + 100 * f"'e\u0301{'x' * 127}', " + "]",
            {"zsyh_amount": (None, ("\u00e9" + "x" * 127,) * 100)},
            id="as many and as long as they may be",
        ),
        pytest.param(
            "['cafe\u0301']\nbrands = ['cafe\u0301']\noutputs = ['cafe\u0301']",
            {"caf\u00e9": (("caf\u00e9",), ("caf\u00e9",))},
            id="another normal form",
        ),
        pytest.param(
            "zsyh_amount = { brands = ['x'] }\n", {"zsyh_amount": (("x",), None)}, id="inline"
        ),
    ],
)
def test_a_file_says_the_same_to_both(
    tmp_path: Path,
    text: str,
    says: dict[str, tuple[tuple[str, ...] | None, tuple[str, ...] | None]],
) -> None:
    file = written(tmp_path, text)
    assert server.read_labels(file, KNOWN) == {
        label: LabelUpdate(brands=brands, outputs=outputs)
        for label, (brands, outputs) in says.items()
    }
    assert client.read(file) == [
        client.Section(label=label, brands=brands, outputs=outputs)
        for label, (brands, outputs) in says.items()
    ]


MISTAKES = [
    pytest.param(
        "# all\n[dyfxj_amount] # mine\n\nbrnads = ['x']\n",
        4,
        "unknown key 'brnads': use brands or outputs",
        id="unknown key",
    ),
    pytest.param(
        "[dyfxj_amount]\nbrands = ['a']\n[zsyh_amount]\nbrands = '招商银行'\n",
        4,
        "brands must be a list of names, like brands = ['放心借']",
        id="no list, in the second section",
    ),
    pytest.param("[zsyh_amount]\nbrands = [1]", 2, "must be a list of names", id="a number"),
    pytest.param("[zsyh_amount]\nbrands = [' ']", 2, "must be a list of names", id="a blank"),
    pytest.param("[zsyh_amount]\noutputs = ['']", 2, "outputs must be a list", id="an empty name"),
    pytest.param(
        f"[zsyh_amount]\nbrands = ['x']\noutputs = {['x'] * 101}",
        3,
        "outputs are at most 100 names, not 101",
        id="too many names",
    ),
    pytest.param(
        f"[zsyh_amount]\nbrands = ['x', '{'é' * 129}']",
        2,
        "brands are names of at most 128 characters, and one of them has 129",
        id="a name that is too long",
    ),
    pytest.param("\nbrands = ['x']", 2, "outside a [label] section", id="no section"),
    pytest.param("# first\na = 1\n", 2, "'a' is outside a [label] section", id="a number outside"),
    pytest.param('\n["zsyh_amount"]\n"x" = 1', 3, "unknown key 'x'", id="quoted names"),
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
    pytest.param(
        "['caf\u00e9']\n\n['cafe\u0301']", 3, "named twice, in two spellings", id="two spellings"
    ),
    pytest.param(
        b"[zsyh_amount]\nbrands = ['" + "招商银行".encode("gbk") + b"']\n",
        2,
        "not UTF-8",
        id="GBK",
    ),
]


@pytest.mark.parametrize(("text", "line", "problem"), MISTAKES)
def test_a_mistake_names_the_same_line_to_both(
    tmp_path: Path, text: str | bytes, line: int, problem: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SetupError) as at_the_server:
        server.read_labels(file, KNOWN)
    with pytest.raises(client.LabelsFileError) as at_the_client:
        client.read(file)
    message = str(at_the_server.value)
    assert message == str(at_the_client.value)
    assert message.startswith(f"{file}, line {line}: ")
    assert problem in message


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        pytest.param("\n\n[zsyh_amout]\n", 3, "has no label 'zsyh_amout'", id="unknown label"),
        pytest.param("\n\n['a/b']\n", 3, "cannot be a label", id="no label"),
        pytest.param('\n\n["a\\u202eb"]\n', 3, "cannot be a label", id="a direction mark"),
        pytest.param("\n[dyfxj.amount]\n", 2, "has no label 'dyfxj'", id="a dot without quotes"),
    ],
)
def test_what_only_a_gallery_can_tell_is_told_by_the_server(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SetupError, match=rf"labels\.toml, line {line}: .*{re.escape(problem)}"):
        server.read_labels(file, KNOWN)


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
        server.read_labels(file, KNOWN)
    with pytest.raises(client.LabelsFileError, match=rf"labels\.toml: .*\({place}"):
        client.read(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot read .*none\.toml: No such file"):
        server.read_labels(tmp_path / "none.toml", KNOWN)
    with pytest.raises(client.LabelsFileError, match=r"cannot read .*none\.toml: No such file"):
        client.read(tmp_path / "none.toml")


def test_what_finds_the_line_is_the_same_text_in_both() -> None:
    for name in ("_line", "_names"):
        assert inspect.getsource(getattr(server, name)) == inspect.getsource(getattr(client, name))


def test_what_is_written_is_read_alike(tmp_path: Path) -> None:
    known = [
        LabelInfo(label="dyfxj_amount", brands=("放心借",), outputs=("dyfxj", "amount")),
        LabelInfo(label='odd "label" \\ ]', brands=("a\x7fb",)),
    ]
    file = tmp_path / "labels.toml"
    file.write_text(client.write(known), "utf-8")
    assert client.over(client.read(file), []) == known
    read = server.read_labels(file, [row.label for row in known])
    assert [(label, row.brands, row.outputs) for label, row in read.items()] == [
        (row.label, row.brands, row.outputs) for row in known
    ]


def test_what_a_file_leaves_out_stays_as_it_is(tmp_path: Path) -> None:
    known = [LabelInfo(label="a.b", brands=("A",), outputs=("x",), images=3)]
    sections = client.read(written(tmp_path, "['a.b']\noutputs = []\n[new]\nbrands = ['N']\n"))
    assert client.over(sections, known) == [
        LabelInfo(label="a.b", brands=("A",)),
        LabelInfo(label="new", brands=("N",)),
    ]
