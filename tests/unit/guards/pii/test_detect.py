"""Personal data is found by its form, what only looks like it is not, and neither takes long."""

import importlib.util
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.pii import detect, national
from holdfast.guards.pii.detect import find

_spec = importlib.util.spec_from_file_location("pii_samples", Path(__file__).with_name("samples.py"))
assert _spec is not None
assert _spec.loader is not None
samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(samples)

MARKED = [(kind, text) for kind, texts in samples.FOUND.items() for text in texts]
HOSTILE = [
    *("1", "1 ", "12 34 ", "1.", "(", "+", "@", "a@", "@a.", ":", "a:", "a1", "1-", "Aa 1 ", "1 A A A A ", "1x", "1/"),
    *("_1", "GB82 ", "Box 1 ", "路1", "安", "born 1 Jan ", "é1", "sk-a1", "eyJa1.", "AB 12 34 56 C ", "1.1.1980 "),
    *(" ", "a@b.co ", "phone ", "4111 1111 1111 1111 ", "a.", "1 A", "1, rue de la "),
]


@pytest.mark.parametrize(("kind", "marked"), MARKED)
def test_what_is_personal_is_found_in_full_and_nothing_else(kind, marked):
    start, end = marked.index("<"), marked.index(">") - 1
    found = find(marked.replace("<", "").replace(">", ""))
    assert [(finding.kind, finding.start, finding.end) for finding in found] == [(kind, start, end)]


@pytest.mark.parametrize("text", samples.HARMLESS)
def test_what_only_looks_personal_is_let_be(text):
    assert find(text) == []


@pytest.mark.parametrize("digits", ["٤١١١١١١١١١١١١١١١", "４１１１１１１１１１１１１１１１", "४१११११११११११११११"])
def test_digits_of_other_scripts_are_digits(digits):
    assert [finding.kind for finding in find(f"x {digits} y")] == ["card"]


@pytest.mark.parametrize("gap", ["\u00a0", "\u202f", "\u2011", "\u2013"])
def test_typographic_separators_are_separators(gap):
    found = find(gap.join(["call +1", "415", "555", "2671"]))
    assert [finding.kind for finding in found] == ["phone"]


@pytest.mark.parametrize("word", ["Order", "Rechnung", "pedido", "заказ", "订单"])
def test_a_word_that_says_otherwise_is_believed(word):
    assert find(f"{word} 415-555-2671") == []


def test_the_nearest_word_counts():
    assert find("phone order 4673395") == []
    assert [finding.kind for finding in find("order by phone 4673395")] == ["phone"]


PIECES = [
    *(marked.replace("<", "").replace(">", "") for _, marked in MARKED),
    *samples.HARMLESS,
    *("\n", ", ", " and ", "1 2 3 ", "a", "0", "-", "(", "x" * 60),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join) | st.text("01 4-+.(@a:/é电", max_size=80)


@given(text=TEXTS | st.text(max_size=60))
def test_findings_are_in_order_apart_and_within_the_text(text):
    at = 0
    for finding in find(text):
        assert at <= finding.start < finding.end <= len(text)
        assert finding.kind in detect.KINDS
        at = finding.end


@given(before=TEXTS, text=TEXTS, after=TEXTS)
def test_what_is_found_does_not_depend_on_what_is_further_than_the_span(before, text, after):
    gap = "\nlorem ipsum dolor sit amet " * (detect.SPAN // 20)
    alone = {(f.kind, f.start + len(before) + len(gap), f.end + len(before) + len(gap)) for f in find(text)}
    start = len(before) + len(gap)
    within = [f for f in find(before + gap + text + gap + after) if start <= f.start and f.end <= start + len(text)]
    assert {(f.kind, f.start, f.end) for f in within} == alone


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_take_time_linear_in_their_length(piece):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            find(text)
            best = min(best, time.process_time() - started)
        return best

    small, large = seconds(4_000), seconds(32_000)
    assert large < 8 * 4 * small + 0.01


def test_the_numbers_of_more_than_forty_countries_are_known():
    assert len(national.COUNTRIES) >= 40
