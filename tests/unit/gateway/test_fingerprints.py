"""What providers serve is watched: news is told once, and what comes and goes is no news."""

import itertools

import pytest

from holdfast.events import FingerprintChanged
from holdfast.gateway.fingerprints import REMEMBERED, Fingerprints


class FixedClock:
    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return 1_700_000_000.5


@pytest.fixture
def fingerprints() -> Fingerprints:
    return Fingerprints(FixedClock())


def test_the_first_answer_of_a_model_is_no_change(fingerprints: Fingerprints) -> None:
    assert fingerprints.seen("gpt", "openai", "gpt-5-mini-2025", "fp_1") is None


def test_another_fingerprint_is_told_once_with_what_it_was_before(fingerprints: Fingerprints) -> None:
    fingerprints.seen("gpt", "openai", "gpt-5-mini-2025", "fp_1")
    assert fingerprints.seen("gpt", "openai", "gpt-5-mini-2025", "fp_2") == FingerprintChanged(
        at_us=1_700_000_000_500_000,
        model="gpt",
        provider="openai",
        before="gpt-5-mini-2025 fp_1",
        after="gpt-5-mini-2025 fp_2",
    )
    assert fingerprints.seen("gpt", "openai", "gpt-5-mini-2025", "fp_2") is None


@pytest.mark.parametrize(("served", "mark"), [("two", "fp_1"), ("one", "fp_2"), ("two", None), (None, "fp_2")])
def test_a_change_of_either_is_a_change(fingerprints: Fingerprints, served: str | None, mark: str | None) -> None:
    fingerprints.seen("gpt", "openai", "one", "fp_1")
    change = fingerprints.seen("gpt", "openai", served, mark)
    assert change is not None
    assert change.after == " ".join(word for word in (served, mark) if word)


@pytest.mark.parametrize(("served", "mark"), [("one", None), (None, "fp_1"), (None, None)])
def test_what_an_answer_leaves_open_is_no_change(
    fingerprints: Fingerprints, served: str | None, mark: str | None
) -> None:
    fingerprints.seen("gpt", "openai", "one", "fp_1")
    assert fingerprints.seen("gpt", "openai", served, mark) is None
    assert fingerprints.seen("gpt", "openai", "one", "fp_1") is None


def test_a_provider_that_tells_nothing_is_never_news(fingerprints: Fingerprints) -> None:
    assert [fingerprints.seen("house", "ollama", None, None) for _ in range(3)] == [None] * 3
    assert fingerprints.seen("house", "ollama", "llama", None) is None
    assert fingerprints.seen("house", "ollama", "qwen", None) is not None


def test_models_are_watched_each_by_itself(fingerprints: Fingerprints) -> None:
    assert fingerprints.seen("a", "openai", "one", "fp_1") is None
    assert fingerprints.seen("b", "openai", "two", "fp_2") is None
    assert fingerprints.seen("a", "openai", "one", "fp_1") is None


def test_machines_that_take_turns_are_told_of_once_each(fingerprints: Fingerprints) -> None:
    marks = [f"fp_{number}" for number in range(REMEMBERED)]
    told = [fingerprints.seen("gpt", "openai", "one", mark) for _ in range(5) for mark in marks]
    assert [change.after for change in told if change] == [f"one {mark}" for mark in marks[1:]]


def test_what_has_not_been_seen_for_long_is_news_again(fingerprints: Fingerprints) -> None:
    for number in range(REMEMBERED + 1):
        fingerprints.seen("gpt", "openai", "one", f"fp_{number}")
    assert fingerprints.seen("gpt", "openai", "one", f"fp_{REMEMBERED}") is None
    assert fingerprints.seen("gpt", "openai", "one", "fp_0") is not None


def test_what_is_remembered_is_bounded(fingerprints: Fingerprints) -> None:
    for number in itertools.islice(itertools.count(), 1000):
        fingerprints.seen("gpt", "openai", f"served_{number}", None)
    assert len(fingerprints._known["gpt"]) == REMEMBERED
