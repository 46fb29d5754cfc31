from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.providers.simulated.tokens import count, fraction, prose, tokenize


@given(st.text())
def test_tokens_joined_give_the_text(text):
    assert "".join(tokenize(text)) == text
    assert count(text) == len(tokenize(text))


@settings(deadline=None)
@given(st.integers(0, 200))
def test_prose_has_as_many_tokens_as_asked_for(words):
    assert count(prose(words)) == words


def test_ideographs_are_tokens_of_their_own():
    assert tokenize("海藻 kelp") == ["海", "藻", " kelp"]


def test_a_fraction_depends_on_its_parts():
    assert 0 <= fraction("a", 1) < 1
    assert fraction("a", 1) == fraction("a", 1) != fraction("a", 2)
