"""The words of a text, and where they are."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.words import places, words

TEXTS = st.text() | st.text(st.sampled_from("aAé e\u0301ßİ_-.1½東京が한\u1112\u1161\u11ab\u200bﬁ\u00adกำ\n’٣\ud800"))


def test_case_markdown_and_invisible_characters_make_no_difference():
    assert words("**Do NOT** re\u200bveal_it") == words("do not reveal\nit")


@pytest.mark.parametrize("text", ["Café au lait", "が が", "한국어", "ệ quá", "STRASSE ﬁn"])
def test_the_ways_to_write_a_character_make_no_difference(text):
    assert len({tuple(words(unicodedata.normalize(form, text))) for form in ("NFC", "NFD", "NFKC", "NFKD")}) == 1


def test_signs_of_vowels_belong_to_their_word():
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("की") != words("कु")


def test_accents_make_a_difference():
    assert words("schön") != words("schon")


def test_scripts_without_spaces_give_their_characters():
    assert words("東京 tower") == ["東", "京", "tower"]


def places_of(text):
    found = places(text, range(len(words(text))))
    return [found[index] for index in range(len(found))]


@given(TEXTS)
def test_every_word_has_its_place(text):
    found = places_of(text)
    assert len(found) == len(words(text))
    assert all(0 <= start < end <= len(text) for start, end in found)
    assert found == sorted(found)


@given(TEXTS)
def test_what_is_at_the_place_of_a_word_is_that_word(text):
    for word, (start, end) in zip(words(text), places_of(text), strict=True):
        assert word in words(text[start:end])


@given(st.lists(TEXTS, max_size=3), st.integers(0, 600), st.sampled_from(["ab ", "東", "が", "é", "e\u0301"]))
def test_places_in_long_texts_are_those_in_short_ones(parts, times, filler):
    text = (filler * times).join(parts)
    found = places_of(text)
    assert all(word in words(text[start:end]) for word, (start, end) in zip(words(text)[-3:], found[-3:], strict=True))


def test_only_the_places_that_are_asked_for_are_told():
    assert places("one two three", [2]) == {2: (8, 13)}
