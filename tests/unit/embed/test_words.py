"""Words of texts in any script."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.embed.words import MAX_TEXT, clipped, normal, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Where is my parcel?", ["where", "is", "my", "parcel"]),
        ("order_42, please\n\tnow", ["order", "42", "please", "now"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("cafe\u0301 CAFÉ ﬁne", ["café", "café", "fine"]),
        ("Где моя посылка?", ["где", "моя", "посылка"]),
        ("πού είναι το ΔΈΜΑ", ["πού", "είναι", "το", "δέμα"]),
        ("أين طَردي؟", ["أين", "طَردي"]),
        ("मेरा पार्सल कहाँ है?", ["मेरा", "पार्सल", "कहाँ", "है"]),
        ("איפה החבילה שלי?", ["איפה", "החבילה", "שלי"]),
        ("荷物はどこ", ["荷物", "物は", "はど", "どこ"]),
        ("猫", ["猫"]),
        ("iPhone用ケース", ["iphone", "用ケ", "ケー", "ース"]),
        ("พัสดุ", ["พั", "ัส", "สด", "ดุ"]),
        ("?!… \n", []),
        ("", []),
    ],
)
def test_words_are_found_in_every_script(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(st.text(max_size=200))
def test_words_hold_neither_white_space_nor_punctuation(text: str) -> None:
    for word in words(text):
        assert word
        assert not any(unicodedata.category(character)[0] in "ZPSC" for character in word) or not word.isascii()
        assert not any(character.isspace() for character in word)


@given(st.text(max_size=200))
def test_what_was_made_normal_stays_as_it_is(text: str) -> None:
    once = normal(text)
    assert normal(f"  {once}\n") == once


@given(st.text(st.characters(max_codepoint=127), max_size=100))
def test_case_and_white_space_are_no_matter(text: str) -> None:
    assert normal(text.upper().replace(" ", " \n\t ")) == normal(text.lower())


def test_of_a_long_text_the_words_at_both_ends_count() -> None:
    found = words("first " + "middle " * 100_000 + " last")
    assert (found[0], found[-1]) == ("first", "last")
    assert len(found) < MAX_TEXT


@given(st.text(max_size=40), st.integers(2, 20))
def test_a_text_is_cut_only_where_it_is_too_long(text: str, most: int) -> None:
    cut = clipped(text, most)
    assert cut == text if len(text) <= most else len(cut) <= most + 1
