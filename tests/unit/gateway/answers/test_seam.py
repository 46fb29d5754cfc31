from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from holdfast.gateway.answers.seam import Seam

ALPHABET = st.sampled_from([*"ab \n\t.", "\u00a0", "é", "e\u0301", "\u0301", "👩‍👩‍👧", "🇩🇪", "漢", "\r\n", "\u2003"])
TEXTS = st.one_of(st.text(max_size=60), st.lists(ALPHABET, max_size=80).map("".join))
CHUNKS = st.lists(st.integers(1, 9), min_size=1, max_size=5)
FLAGS = st.booleans()


def cut(text: str, at: int) -> tuple[str, str]:
    place = at % (len(text) + 1)
    return text[:place], text[place:]


def chunked(text: str, sizes: Sequence[int]) -> list[str]:
    pieces, i = [], 0
    while text:
        size = sizes[i % len(sizes)]
        pieces.append(text[:size])
        text, i = text[size:], i + 1
    return pieces


def join(seam: Seam, sent: str, answer: str, sizes: Sequence[int], whole: str | None = None) -> str:
    """Feed an answer through a seam; where `whole` is known, check that every moment's text is a beginning of it."""
    joined = sent
    for piece in chunked(answer, sizes):
        joined += seam.feed(piece)
        assert whole is None or whole.startswith(joined)
    return joined + seam.end()


@given(TEXTS, st.integers(0), CHUNKS, FLAGS)
@example("Hello \n\n world", 7, [1], True)
@example("a 👩‍👩‍👧 b", 4, [1], False)
def test_an_answer_that_goes_on_after_the_prefill_joins_exactly(
    text: str, at: int, sizes: list[int], repeats: bool
) -> None:
    sent, _ = cut(text, at)
    seam = Seam(sent, continues=True, repeats=repeats)
    rest = text[len(seam.prefill) :]
    assume(not seam.prefill or not (repeats or len(seam.prefill) >= 24) or not rest.startswith(seam.prefill))
    assert join(seam, sent, rest, sizes, text) == text
    assert not seam.diverged


@given(TEXTS, st.integers(0), CHUNKS)
@example("Hello world", 6, [3])
def test_an_answer_that_goes_on_after_the_white_space_that_was_sent_joins_exactly(
    text: str, at: int, sizes: list[int]
) -> None:
    sent, rest = cut(text, at)
    seam = Seam(sent, continues=True)
    space = sent[len(seam.prefill) :]
    assume(not space or rest[:1] != space[:1])  # else nobody can tell whose white space it is
    assume(len(seam.prefill) < 24 or not rest.startswith(seam.prefill))
    assert join(seam, sent, rest, sizes, text) == text


@given(TEXTS, st.integers(0), CHUNKS)
def test_an_answer_that_repeats_the_prefill_by_habit_joins_exactly(text: str, at: int, sizes: list[int]) -> None:
    sent, _ = cut(text, at)
    assert join(Seam(sent, continues=True, repeats=True), sent, text, sizes, text) == text


@given(TEXTS, st.integers(0), CHUNKS)
def test_an_answer_that_took_no_notice_of_a_long_prefill_joins_exactly(text: str, at: int, sizes: list[int]) -> None:
    text = "The tide comes in and the kelp leans with it. " + text
    sent, _ = cut(text, 30 + at % (len(text) - 29))
    assert join(Seam(sent, continues=True), sent, text, sizes, text) == text


@given(TEXTS, st.integers(0), CHUNKS)
def test_an_identical_restart_joins_exactly(text: str, at: int, sizes: list[int]) -> None:
    sent, _ = cut(text, at)
    seam = Seam(sent, continues=False)
    assert join(seam, sent, text, sizes, text) == text
    assert not seam.diverged


@given(TEXTS, TEXTS, CHUNKS)
@example("Hello world", "Hello there", [4])
@example("Hello world", "Hello", [4])
def test_a_restart_passes_on_only_what_follows_a_repetition_of_all_that_was_sent(
    sent: str, answer: str, sizes: list[int]
) -> None:
    seam = Seam(sent, continues=False)
    joined = join(seam, sent, answer, sizes)
    if answer.startswith(sent):
        assert joined == answer
        assert not seam.diverged
    else:
        assert joined == sent
        assert seam.diverged


@given(TEXTS, TEXTS, CHUNKS, FLAGS)
def test_chunking_changes_nothing(sent: str, answer: str, sizes: list[int], continues: bool) -> None:
    whole, pieces = Seam(sent, continues), Seam(sent, continues)
    assert join(pieces, sent, answer, sizes) == join(whole, sent, answer, [len(answer) + 1])
    assert pieces.diverged == whole.diverged


@given(TEXTS)
def test_a_prefill_never_ends_in_white_space(sent: str) -> None:
    seam = Seam(sent, continues=True)
    assert seam.prefill == seam.prefill.rstrip()
    assert sent.startswith(seam.prefill)
    assert not sent[len(seam.prefill) :].strip()


@pytest.mark.parametrize(
    ("sent", "answer", "joined"),
    [
        ("one\n", " two", "one\n two"),
        ("one\n\n", "\ntwo", "one\n\ntwo"),
        ("one ", "\n\ntwo", "one \n\ntwo"),
        ("def f():\n", "\n    return 1", "def f():\n    return 1"),
        ("  \n", "text", "  \ntext"),
        ("wor", "ld", "world"),
        ("", "text", "text"),
    ],
)
def test_a_continued_answer_reads_as_one(sent: str, answer: str, joined: str) -> None:
    assert join(Seam(sent, continues=True), sent, answer, [1]) == joined


def test_a_short_beginning_that_the_model_says_twice_is_not_taken_for_a_restart() -> None:
    assert join(Seam("ha", continues=True), "ha", "haha", [1]) == "hahaha"


def test_what_only_looked_like_a_restart_is_passed_on_when_the_answer_ends() -> None:
    sent = "- one strand of kelp\n- two strands of kelp\n"
    assert join(Seam(sent, continues=True), sent, "\n- one", [2]) == sent + "- one"
    assert join(Seam(sent, continues=True), sent, "- one", [2]) == sent + "- one"


def test_nothing_is_passed_on_after_a_departure() -> None:
    seam = Seam("Hello world", continues=False)
    assert seam.feed("Hello t") == ""
    assert seam.diverged
    assert seam.feed("Hello world and more") == ""
    assert seam.end() == ""
