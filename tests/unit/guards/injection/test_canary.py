"""Canaries: a prompt that was given away betrays itself."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.injection.canary import canary, escaped, planted

KEY = b"k" * 32
WORD = canary("call-1", KEY)


def test_each_call_has_its_own_and_keeps_it() -> None:
    assert canary("call-1", KEY) == WORD
    assert len({WORD, canary("call-2", KEY), canary("call-1", b"other")}) == 3


def test_it_stands_in_the_prompt() -> None:
    prompt = planted("Be kind.", WORD)
    assert prompt.startswith("Be kind.")
    assert escaped(prompt, (WORD,))


@pytest.mark.parametrize(
    "said",
    [
        WORD,
        WORD.upper(),
        WORD[::-1],
        " ".join(WORD),
        "-".join(WORD),
        base64.b64encode(f"my reference is {WORD}".encode()).decode(),
        WORD.encode().hex(),
        "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in WORD),
        "\u200b".join(WORD),
    ],
)
def test_is_found_however_it_is_said(said: str) -> None:
    assert escaped(f"Sure: {said}, as you asked.", (WORD,))


@given(st.text(max_size=200))
def test_no_other_text_holds_it(text: str) -> None:
    assert not escaped(text, (WORD,))


def test_nothing_escapes_where_there_is_none() -> None:
    assert not escaped("anything", ())
    assert not escaped("anything", ("", "hf-"))
