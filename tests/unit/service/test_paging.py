"""The size of a page, and the token of the next."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.service import paging


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_the_size_asked_for_within_limits(asked: int, size: int) -> None:
    assert paging.page_size(asked) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="page_size"):
        paging.page_size(-1)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_page_token_is_read_back(number: int, text: str) -> None:
    token = paging.page_token(number, text)
    assert paging.position_of(token, int, str) == (number, text)


def test_without_a_token_the_first_page_is_meant() -> None:
    assert paging.position_of("", int) is None


def token_of(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode()


@given(
    st.text()
    | st.recursive(st.integers() | st.text() | st.booleans(), st.lists)
    .map(json.dumps)
    .map(token_of)
)
@example("页")
@example("a")
@example(token_of("[" * 100_000))
@example(token_of("[99999999999999999999, 1]"))
@example(token_of("[true, 1]"))
@example(token_of('["\\ud800", 1]'))
@example(token_of("[1]"))
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    if token == "":
        return
    try:
        position = paging.position_of(token, str, int)
    except InvalidRequestError:
        return
    # Whoever makes up a token of the right form gets the position it says.
    assert position is not None
    assert [type(part) for part in position] == [str, int]
    position[0].encode()
    position[1].to_bytes(8, signed=True)
