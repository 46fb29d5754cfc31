"""How likely each of a closed set of answers is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Logprob
from holdfast.gateway.answers.likelihood import Choices, Estimate, from_counts, from_logprobs, wilson

YES_NO = Choices(["yes", "no"])


def token(text: str, probability: float, /, **others: float) -> Logprob:
    """Return a token with its alternatives."""
    top = {text: probability} | others
    return Logprob(
        token=text,
        logprob=math.log(probability),
        top=tuple([Logprob(token=k, logprob=math.log(p)) for k, p in top.items()]),
    )


def shares(estimate: Estimate | None) -> dict[str, tuple[float, float, float]]:
    assert estimate is not None
    return {
        share.choice: (round(share.low, 6), round(share.probability, 6), round(share.high, 6))
        for share in estimate.choices
    }


# --- which choice a text is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["yes", " Yes.", '"yes"', "**YES**", "\nyes\n"])
def test_a_choice_is_recognised_in_any_case_and_between_marks(text):
    assert YES_NO.match(text) == 0


@pytest.mark.parametrize("text", ["yes, it is", "yesterday", "", "...", "noyes"])
def test_any_other_text_is_no_choice(text):
    assert YES_NO.match(text) is None


def test_choices_that_only_case_or_marks_tell_apart_are_kept_apart():
    cases = Choices(["us", "US"])
    assert (cases.match("us "), cases.match("US"), cases.match("Us")) == (0, 1, None)
    marks = Choices(["A", "A.", "B"])
    assert (marks.match("a"), marks.match(" a."), marks.match("a!")) == (0, 1, None)


def test_a_choice_that_is_all_marks_is_recognised():
    marks = Choices(["?", "!"])
    assert (marks.match(" ? "), marks.match("")) == (0, None)


def test_white_space_inside_a_choice_may_be_written_otherwise():
    assert Choices(["very good", "bad"]).match("Very\n good") == 0


@pytest.mark.parametrize(
    ("text", "found", "whole"),
    [
        ("", (0, 1, 2), False),
        ("n", (0, 1), False),
        ("no", (0, 1), False),
        ("no.", (0,), True),
        (' "No i', (1,), False),
        ("no idea!", (1,), True),
        ("nope", (), False),
    ],
)
def test_a_beginning_tells_what_it_may_become(text, found, whole):
    assert Choices(["no", "no idea", "yes"]).begun(text) == (found, whole)


# --- from log-probabilities -------------------------------------------------------------------------------------------


def test_the_first_token_tells_the_probabilities():
    estimate = from_logprobs(YES_NO, [token("yes", 0.7, no=0.2, maybe=0.1)], "yes", enforced=False)
    assert estimate is not None
    assert shares(estimate) == {"yes": (0.777778, 0.777778, 0.777778), "no": (0.222222, 0.222222, 0.222222)}
    assert (estimate.method, estimate.interval, estimate.samples) == ("logprobs", 1.0, None)
    assert estimate.coverage == pytest.approx(0.9)
    assert estimate.other == pytest.approx(0.1)
    assert estimate.best.choice == "yes"


def test_tokens_that_spell_a_choice_otherwise_are_added_up():
    path = [token("Yes", 0.5, yes=0.2, **{" no": 0.1, "No": 0.2}), token(".", 0.9)]
    assert shares(from_logprobs(YES_NO, path, "Yes.", enforced=False))["yes"][1] == pytest.approx(0.7)


def test_what_the_model_left_untold_widens_the_bounds():
    estimate = from_logprobs(YES_NO, [token("yes", 0.7, no=0.1)], "yes", enforced=False)
    assert shares(estimate) == {"yes": (0.7, 0.875, 0.9), "no": (0.1, 0.125, 0.3)}


def test_a_beginning_that_several_choices_share_is_followed():
    choices = Choices(["unlikely", "unknown", "sure"])
    path = [token("un", 0.8, sure=0.2), token("likely", 0.75, known=0.25)]
    estimate = from_logprobs(choices, path, "unlikely", enforced=False)
    assert shares(estimate) == {"unlikely": (0.6,) * 3, "unknown": (0.2,) * 3, "sure": (0.2,) * 3}


def test_what_may_still_become_several_choices_is_any_of_theirs():
    choices = Choices(["unlikely", "unknown", "sure"])
    estimate = from_logprobs(choices, [token("sure", 0.6, un=0.4)], "sure", enforced=True)
    assert shares(estimate) == {"unlikely": (0, 0.2, 0.4), "unknown": (0, 0.2, 0.4), "sure": (0.6, 0.6, 1.0)}
    assert estimate is not None
    assert estimate.coverage == pytest.approx(0.6)


@pytest.mark.parametrize(("enforced", "low"), [(True, 0.4), (False, 0.0)])
def test_the_beginning_of_one_choice_is_that_choice_only_where_the_server_enforces_it(enforced, low):
    estimate = from_logprobs(YES_NO, [token("yes", 0.6, n=0.4)], "yes", enforced=enforced)
    found = shares(estimate)["no"]
    assert (found[0], found[1]) == (low, 0.4)


def test_a_choice_that_begins_another_is_not_known_to_be_the_end():
    choices = Choices(["no", "no idea"])
    short = shares(from_logprobs(choices, [token("no", 0.9, **{"no idea": 0.1})], "no", enforced=True))
    assert short == {"no": (0.0, 0.9, 0.9), "no idea": (0.1, 0.1, 1.0)}
    ended = [token("no", 1.0), token("<eos>", 0.7, **{" idea": 0.3})]
    assert shares(from_logprobs(choices, ended, "no", enforced=True))["no idea"][1] == pytest.approx(0.3)


def test_tokens_before_and_after_the_answer_do_not_count():
    path = [token("<think>", 0.5), token("yes", 0.8, no=0.2), token("<end>", 0.3, more=0.7)]
    assert shares(from_logprobs(YES_NO, path, "yes", enforced=False))["yes"][1] == 0.8


def test_an_answer_that_is_no_choice_covers_what_its_alternatives_do():
    estimate = from_logprobs(YES_NO, [token("Maybe", 0.8, yes=0.15, no=0.05)], "Maybe", enforced=False)
    assert estimate is not None
    assert estimate.coverage == pytest.approx(0.2)
    assert shares(estimate)["yes"][1] == 0.75


def test_an_answer_that_goes_on_after_a_choice_is_another_one():
    path = [token("no", 0.6, yes=0.4), token("body", 0.9)]
    estimate = from_logprobs(YES_NO, path, "nobody", enforced=False)
    assert estimate is not None
    assert (estimate.coverage, estimate.other) == (pytest.approx(0.4), pytest.approx(0.6))


@pytest.mark.parametrize(
    ("tokens", "text"),
    [([], "yes"), ([token("other", 1.0)], "yes"), ([token("", 1.0)], ""), ([token("perhaps", 1.0)], "perhaps")],
)
def test_tokens_that_tell_of_no_choice_give_nothing(tokens, text):
    assert from_logprobs(YES_NO, tokens, text, enforced=False) is None


def test_tokens_that_split_a_character_are_put_together():
    choices = Choices(["é", "è"])
    first = Logprob(token="\\xc3", logprob=0.0, bytes=(0xC3,))
    second = Logprob(
        token="\\xa9",
        logprob=math.log(0.9),
        bytes=(0xA9,),
        top=(Logprob(token="\\xa8", logprob=math.log(0.1), bytes=(0xA8,)),),
    )
    assert shares(from_logprobs(choices, [first, second], "é", enforced=False)) == {"é": (0.9,) * 3, "è": (0.1,) * 3}


NUMBERS = st.sampled_from([0.0, -0.1, -0.5, -1.0, -2.0, -5.0, -9999.0, float("nan"), 3.0, float("-inf")])
WORDS = st.sampled_from(["a", "b", "ab", "abc", "c", " ", ".", "x", "", "A", "\ud800"])
LEAVES = st.builds(Logprob, token=WORDS, logprob=NUMBERS)
TOKENS = st.builds(Logprob, token=WORDS, logprob=NUMBERS, top=st.lists(LEAVES, max_size=5).map(tuple))


@given(
    st.lists(TOKENS, min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([["a", "ab", "abc"], ["a", "b"], ["A", "a"]]),
)
def test_whatever_the_tokens_say_probabilities_sum_to_one_within_their_bounds(tokens, enforced, choices):
    text = "".join([token.token for token in tokens])
    estimate = from_logprobs(Choices(choices), tokens, text, enforced=enforced)
    if estimate is None:
        return
    assert sum([share.probability for share in estimate.choices]) == pytest.approx(1.0)
    assert all(0 <= share.low <= share.probability <= share.high <= 1 for share in estimate.choices)
    assert 0 <= estimate.coverage + estimate.other <= 1 + 1e-9


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "other", "else"]), st.floats(0.01, 1.0), min_size=2),
    st.integers(1, 4),
)
def test_the_bounds_contain_what_all_alternatives_would_have_told(weights, told):
    total = sum(weights.values())
    true = {text: weight / total for text, weight in weights.items()}
    first, *rest = sorted(true, key=true.__getitem__, reverse=True)
    inside = sum([true.get(choice, 0.0) for choice in "abc"])
    estimate = from_logprobs(
        Choices("abc"),
        [token(first, true[first], **{text: true[text] for text in rest[: told - 1]})],
        first,
        enforced=False,
    )
    for share in () if estimate is None else estimate.choices:
        assert share.low - 1e-9 <= true.get(share.choice, 0.0) / inside <= share.high + 1e-9


# --- from counts ------------------------------------------------------------------------------------------------------


def test_counts_tell_probabilities_among_the_choices_and_what_lies_outside():
    estimate = from_counts(YES_NO, [6, 2], 2)
    assert [share.probability for share in estimate.choices] == [0.75, 0.25]
    assert (estimate.method, estimate.coverage, estimate.other, estimate.samples) == ("samples", 0.8, 0.2, 10)
    assert estimate.interval == 0.95


def test_the_interval_is_wilsons():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1, 1)[1] == 1.0


@given(st.integers(1, 200), st.data())
def test_an_interval_contains_what_was_seen_and_narrows_with_more_of_it(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    wide, wider = wilson(10 * successes, 10 * trials), (low, high)
    assert wide[1] - wide[0] < wider[1] - wider[0]
