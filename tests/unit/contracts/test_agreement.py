"""Which answers say the same, and who wins a vote."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contracts.agreement import ABSENT, FAILED, MOST_VALUES, Ballot, Equality, same

TEXT = Equality("text")
JSON = Equality("json")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOATS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
ANSWERS = st.lists(st.sampled_from(["a", "b", "c", FAILED]), min_size=1, max_size=9)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from([1, 2, {"a": 1}, {"a": 2}]), max_size=3)
SHARES = st.sampled_from([0.0, 0.3, 0.5, 0.6, 2 / 3, 0.8, 1.0])


def ballot(answers, *, samples=None, agree=0.0, equality=TEXT, fields=False):
    made = Ballot(samples or len(answers), agree, equality, fields=fields)
    for answer in answers:
        made.add(answer)
    return made


# --- what says the same -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (100, 100.00000000001),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
        ("caf\u00e9", "cafe\u0301"),
        (" two\n words ", "two words"),
        (10**400, 10**400),
        (ABSENT, ABSENT),
    ],
)
def test_what_is_written_otherwise_says_the_same(a, b):
    assert same(a, b)
    assert same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, True),
        (0, None),
        (1, "1"),
        ([1, 2], [2, 1]),
        ([1], [1, 1]),
        ({"a": 1}, {"a": 1, "b": None}),
        ("Yes", "yes"),
        (10**400, 1.5),
        (ABSENT, None),
        (float("nan"), 1),
    ],
)
def test_what_says_another_thing_is_not_the_same(a, b):
    assert not same(a, b)
    assert not same(b, a)


def test_a_choice_is_the_same_in_any_case_and_another_text_is_not():
    assert Equality("choice")("STRASSE", "straße")
    assert not TEXT("Yes", "yes")


def test_numbers_are_the_same_up_to_the_tolerance():
    wide = Equality("json", 0.01)
    assert wide({"n": 100}, {"n": 100.9})
    assert not wide({"n": 100}, {"n": 101.1})


@given(VALUES)
def test_every_value_is_the_same_as_itself_after_a_round_trip(value):
    assert same(value, msgspec.json.decode(msgspec.json.encode(value)))


@given(VALUES, VALUES)
def test_to_be_the_same_goes_both_ways(a, b):
    assert same(a, b) == same(b, a)


def test_an_answer_of_many_values_is_compared_to_the_letter():
    long = [1] * (MOST_VALUES + 1)
    assert same(long, list(long))
    assert not same(long, [*long[:-1], 2])
    assert not same(long, [*long[:-1], 1.0])


def test_answers_nested_beyond_reason_are_compared_too():
    deep, other = [], []
    for _ in range(50_000):
        deep, other = [deep], [other]
    assert not same(deep, other)  # what can't be written can't be known
    assert not same(deep, [other])


def test_a_text_that_is_no_json_stands_for_itself():
    assert JSON.value('{"a": 1}') == {"a": 1}
    assert JSON.value("no json") == "no json"
    assert JSON.value("[" * 100_000) == "[" * 100_000
    assert TEXT.value('{"a": 1}') == '{"a": 1}'


def test_only_what_the_vote_is_about_counts():
    about = Equality("json", on=("/answer",))
    one, other = {"why": "It adds up.", "answer": 4}, {"why": "Because.", "answer": 4.0}
    assert about(one, other)
    assert not about(one, {"why": "It adds up.", "answer": 5})
    assert not about(one, {"why": "It adds up."})
    assert not about("no answer", "another")
    assert about("no answer", "no  answer")


# --- who wins ---------------------------------------------------------------------------------------------------------


def test_the_first_answer_of_the_majority_wins():
    result = ballot(["b", "a ", "a", "b", "a"]).result()
    assert result is not None
    assert (result.value, result.sample, result.agreement, result.samples) == ("a ", 1, 0.6, 5)


def test_samples_that_failed_are_votes_for_nothing():
    result = ballot([FAILED, "a", FAILED, FAILED]).result()
    assert result is not None
    assert (result.value, result.sample, result.agreement, result.samples) == ("a", 1, 0.25, 4)


def test_a_vote_without_an_answer_has_no_result():
    made = ballot([FAILED, FAILED])
    assert (made.state, made.result()) == ("failed", None)


@pytest.mark.parametrize(
    ("answers", "states"),
    [
        ("aaa", ["open", "open", "decided"]),
        ("ababa", ["open", "open", "open", "open", "decided"]),
        ("abcab", ["open", "open", "open", "open", "failed"]),
        ("ab" + "-" * 3, ["open", "open", "open", "failed", "failed"]),
        ("---", ["open", "open", "failed"]),
    ],
)
def test_a_vote_ends_as_soon_as_it_is_decided(answers, states):
    made = Ballot(5, 0.6, TEXT)
    assert [made.add(FAILED if answer == "-" else answer) for answer in answers] == states


def test_a_leader_that_nobody_can_overtake_still_needs_the_share_that_must_agree():
    made = Ballot(5, 0.8, TEXT)
    assert [made.add("a"), made.add("a"), made.add("a"), made.add("a")] == ["open", "open", "open", "decided"]


@given(ANSWERS, SHARES)
def test_to_end_early_never_changes_the_winner(answers, agree):
    made, early = Ballot(len(answers), agree, TEXT), None
    for answer in answers:
        state = made.add(answer)
        early = early or (None if state == "open" else (state, made.result()))
    assert early is not None, "a vote that is over is decided or failed"
    state, result = early
    assert made.state == state
    last = made.result()
    if state == "decided":
        assert result is not None
        assert last is not None
        assert (result.value, result.sample) == (last.value, last.sample)
        assert result.agreement >= agree
    else:
        assert last is None or last.agreement < agree or last.agreement == 0


@given(ANSWERS, SHARES)
def test_a_vote_is_not_left_open_once_nothing_can_change(answers, agree):
    made = ballot(answers[:-1], samples=len(answers), agree=agree) if len(answers) > 1 else None
    if made is None or made.state != "open":
        return
    ends = set()
    for last in ("a", "b", "c", "new", FAILED):
        other = ballot([*answers[:-1], last], agree=agree)
        result = other.result()
        ends.add((other.state, None if result is None or other.state == "failed" else result.value))
    assert len(ends) > 1


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.data())
def test_the_order_matters_only_between_classes_of_one_size(answers, data):
    shuffled = data.draw(st.permutations(answers))
    one, other = ballot(answers).result(), ballot(shuffled).result()
    assert one is not None
    assert other is not None
    assert one.agreement == other.agreement
    sizes = sorted([answers.count(answer) for answer in set(answers)], reverse=True)
    if len(sizes) == 1 or sizes[0] > sizes[1]:
        assert one.value == other.value


def test_numbers_further_apart_than_the_tolerance_are_classes_whatever_the_order():
    equality = Equality("json", 0.01)
    for answers in itertools.permutations([1.0, 1.001, 2.0, 2.001, 1.002]):
        result = ballot(answers, equality=equality).result()
        assert result is not None
        assert result.agreement == 0.6
        assert result.value in (1.0, 1.001, 1.002)


def test_a_class_is_no_wider_than_the_tolerance_around_its_leader():
    result = ballot([1.0, 1.05, 1.1, 1.15], equality=Equality("json", 0.06)).result()
    assert result is not None
    assert (result.value, result.agreement) == (1.0, 0.5)


# --- field by field ---------------------------------------------------------------------------------------------------


def test_each_field_is_voted_on_by_itself():
    answers = [{"x": 1, "y": 2}, {"x": 1, "y": 3}, {"x": 2, "y": 3}]
    result = ballot(answers, fields=True, equality=JSON).result()
    assert result is not None
    assert (result.value, result.sample, result.agreement) == ({"x": 1, "y": 3}, 1, 2 / 3)


def test_what_no_single_answer_says_is_put_together():
    answers = [{"x": 1, "y": 1, "z": 0}, {"x": 1, "y": 0, "z": 1}, {"x": 0, "y": 1, "z": 1}]
    result = ballot(answers, fields=True, equality=JSON).result()
    assert result is not None
    assert (result.value, result.sample, result.agreement) == ({"x": 1, "y": 1, "z": 1}, None, 2 / 3)


def test_whether_a_field_is_there_is_voted_on_too():
    result = ballot([{"x": 1}, {"x": 1, "y": 2}, {"x": 1}], fields=True, equality=JSON).result()
    assert result is not None
    assert (result.value, result.agreement) == ({"x": 1}, 2 / 3)


def test_objects_in_objects_are_voted_on_by_their_fields():
    answers = [{"a": {"x": 1, "y": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"x": 2, "y": 2}}]
    result = ballot(answers, fields=True, equality=JSON).result()
    assert result is not None
    assert (result.value, result.agreement) == ({"a": {"x": 1, "y": 2}}, 2 / 3)


def test_an_object_of_many_fields_or_an_answer_that_is_none_is_voted_on_as_a_whole():
    many = {str(number): number for number in range(300)}
    result = ballot([many, dict(many), [1], [1], [1]], fields=True, equality=JSON).result()
    assert result is not None
    assert (result.value, result.sample, result.agreement) == ([1], 2, 0.6)


@given(st.lists(OBJECTS | st.just(FAILED), min_size=1, max_size=7), SHARES)
def test_to_end_early_never_changes_any_field(answers, agree):
    made, early = Ballot(len(answers), agree, JSON, fields=True), None
    for answer in answers:
        state = made.add(answer)
        early = early or (None if state == "open" else (state, made.result()))
    assert early is not None
    state, result = early
    assert made.state == state
    if state == "decided":
        last = made.result()
        assert result is not None
        assert last is not None
        assert result.value == last.value
        assert result.agreement >= agree


@given(st.lists(VALUES | st.just(FAILED), min_size=1, max_size=6), SHARES, st.booleans())
def test_any_answers_can_be_voted_on(answers, agree, fields):
    made = ballot(answers, agree=agree, equality=JSON, fields=fields)
    result = made.result()
    assert made.state in ("decided", "failed")
    assert (result is None) == all(answer is FAILED for answer in answers)
    if result is not None:
        assert 0 < result.agreement <= 1
