import msgspec
import pytest

from holdfast.contracts.load import make_contract
from holdfast.drill.observation import Observation
from holdfast.drill.verdict import Expected, Verdict, judge, judge_hang_up, worst

REPLY = "The ferry leaves at six."
OTHER = "There is a boat at six."
EXPECTED = Expected(deadline=8.0, replies=(REPLY,))
ANSWERED = Observation(
    took=1.5,
    stream=True,
    status=200,
    text=REPLY,
    pieces=((0.4, 10), (1.4, 14)),
    finish="stop",
    done=True,
    outcome="answered",
    model="gpt",
)


def seen(**changes) -> Observation:
    return msgspec.structs.replace(ANSWERED, **changes)


def failed(**changes) -> Observation:
    told = {"text": "", "pieces": (), "finish": None, "done": False, "outcome": "error", "error": "timeout"}
    return seen(**{**told, **changes})


# --- promises that are kept ---


@pytest.mark.parametrize("stream", [True, False])
def test_a_whole_answer_within_the_deadline_is_one(stream):
    assert judge(seen(stream=stream), EXPECTED) == Verdict(end="answered", note="by gpt")


def test_any_models_own_words_are_an_answer():
    told = Expected(deadline=8.0, replies=(REPLY, OTHER))
    assert judge(seen(text=OTHER), told).end == "answered"


@pytest.mark.parametrize("said", ["The ferry", "The ferry ", "The"])
def test_the_first_models_beginning_with_anothers_words_after_it_is_an_answer(said):
    told = Expected(deadline=8.0, replies=(REPLY, OTHER))
    assert judge(seen(text=said + OTHER), told).end == "answered"


@pytest.mark.parametrize("text", ["Later.", ""])
def test_a_last_resort_that_says_it_is_one_is_kept(text):
    assert judge(seen(text=text, outcome="last_resort", model=None), EXPECTED).end == "last_resort"


def test_a_typed_error_is_kept_and_told_by_our_own_code():
    assert judge(failed(error="rate_limit_exceeded", status=429), EXPECTED) == Verdict(end="error", note="rate_limited")


def test_an_error_event_after_a_part_of_the_answer_is_a_typed_error():
    assert judge(failed(text="The", pieces=((0.4, 3),), error="broken_stream"), EXPECTED).end == "error"


def test_an_answer_that_its_provider_withheld_and_says_so_is_told_as_a_refusal():
    refused = seen(text="", pieces=(), finish="content_filter")
    assert judge(refused, EXPECTED) == Verdict(end="error", note="content_refused")


def test_an_end_within_the_grace_after_the_deadline_is_in_time():
    assert judge(failed(took=8.049, error="deadline_exceeded"), EXPECTED).kept


# --- promises that are broken ---


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (seen(took=8.06), "late: 60 ms after the deadline"),
        (failed(took=8.2, error="deadline_exceeded"), "late: 200 ms"),
        (failed(took=13.0, hung=True, error=None), "hung: no end 5.0 s after the deadline"),
        (seen(text="The ferry"), "a cut answer presented as success"),
        (seen(text=""), "a cut answer presented as success"),
        (seen(text="The ferry The ferry leaves at six"), "a garbled answer presented as success"),
        (seen(text=OTHER), "a garbled answer"),
        (seen(text=REPLY + REPLY), "a garbled answer"),
        (seen(done=False), "neither an end nor an error"),
        (seen(done=False, finish=None, text="The ferry"), "neither an end nor an error"),
        (seen(finish=None), "does not say why it ended"),
        (failed(error="broken_stream", finish="stop"), "also says it is complete"),
        (failed(error="broken_stream", done=True), "also says it is complete"),
        (failed(error=None, untyped="Bad Gateway", status=502), "an untyped error: Bad Gateway"),
        (failed(error="oops", status=500), "whose code nobody knows: oops"),
        (failed(error="internal_error", status=500), "the gateway itself failed"),
        (failed(error=None, broke="it reset the connection", status=None), "failed without a word: it reset"),
        (seen(outcome=None), "labelled None"),
        (seen(stream=False, status=502), "an answer with the status 502"),
    ],
)
def test_a_broken_promise_is_found_out(broken, why):
    verdict = judge(broken, EXPECTED)
    assert verdict.end == "broken"
    assert not verdict.kept
    assert why in verdict.note


# --- contracts ---

SIX = '{"hour": 6}'
HELD = Expected(
    deadline=8.0,
    replies=(SIX,),
    contract=make_contract({"properties": {"hour": {"type": "integer"}}, "type": "object"}),
)


@pytest.mark.parametrize(("outcome", "text"), [("answered", SIX), ("last_resort", '{"hour": 12}')])
def test_an_answer_that_meets_its_contract_is_one_and_so_are_the_objects_before_it(outcome, text):
    told = msgspec.json.decode(text)
    assert judge(seen(text=text, outcome=outcome), HELD).end == outcome
    assert judge(seen(text=text, outcome=outcome, objects=(0.4, 0.5), object=told), HELD).end == outcome


@pytest.mark.parametrize("outcome", ["answered", "last_resort"])
@pytest.mark.parametrize("text", ['{"hour": "six"}', "six", "", '```json\n{"hour": 6}\n```'])
def test_an_answer_that_breaks_its_contract_breaks_the_promise(outcome, text):
    verdict = judge(seen(text=text, outcome=outcome), HELD)
    assert verdict.end == "broken"
    assert "does not meet the contract: " in verdict.note


@pytest.mark.parametrize("last", [{}, {"hour": 7}, None])
def test_objects_of_which_the_last_is_not_the_answer_break_the_promise(last):
    verdict = judge(seen(text=SIX, objects=(0.4,), object=last), HELD)
    assert (verdict.end, verdict.note) == ("broken", "the last object that was told is not the answer")


def test_objects_before_an_error_are_a_kept_promise():
    assert judge(failed(objects=(0.4,), object={}, error="contract_violated"), HELD).note == "contract_violated"


# --- callers who leave ---


def test_a_call_whose_models_stop_with_their_caller_is_cancelled():
    assert judge_hang_up(seen(left=0.5), [0.2, 0.55]).end == "cancelled"


@pytest.mark.parametrize(("end", "told"), [(None, "never"), (0.7, "0.20 s later")])
def test_a_model_that_works_on_after_its_caller_has_left_breaks_the_promise(end, told):
    verdict = judge_hang_up(seen(left=0.5), [0.4, end])
    assert verdict.end == "broken"
    assert told in verdict.note


def test_an_answer_that_came_before_the_caller_could_leave_is_one():
    assert judge_hang_up(seen(), [1.5]).end == "answered"


def test_the_worst_of_many_calls_stands_for_them():
    ends = [Verdict(end=end) for end in ("answered", "last_resort", "error", "broken", "broken")]
    assert worst(ends) == 3
    assert worst(ends[:3]) == 2
    assert worst(ends[:2]) == 1
