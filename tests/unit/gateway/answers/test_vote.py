"""Several answers of one model vote within one attempt."""

import asyncio

import pytest

from holdfast.chat import Reply, ResponseFormat
from holdfast.contracts.agreement import Equality
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import ChoiceForm
from holdfast.contracts.load import parse_contract
from holdfast.contracts.predicates import Predicate
from holdfast.errors import ContractViolated, DeadlineExceeded, InvalidRequest, NoAgreement, RateLimited
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.answers.vote import VotedChat, equality_of
from holdfast.gateway.fallback import Answered
from holdfast.gateway.settings import Vote
from integration.gateway.staged import SILENT, Play, cut, fails
from unit.gateway.sampled import Scene, asked, bodies, cancelled_after, play, says

TEXT = Equality("text")
JSON = Equality("json")


def voted(request=None, equality=TEXT, judge=None, *, refuses=False, retries=2, hedge=False, **vote):
    """Return a call that votes."""
    request = request or asked()

    async def call(scene: Scene) -> None:
        await scene.call(
            lambda arrival, caller, open_sample: VotedChat(
                arrival,
                request,
                caller,
                vote=Vote(**vote),
                equality=equality,
                open_sample=open_sample,
                refuses=refuses,
                judge=judge,
            ),
            request,
            retries=retries,
            hedge=hedge,
        )

    return call


def keeping(schema, predicate):
    """Return a judge that holds answers to a schema and a predicate."""
    contract = Contract(compile_schema(schema), (Predicate(predicate),))
    return Judge([contract], {}, name="answer", reask_tokens=100)


def played(*models, settings=None, call=None):
    """Return what came of a voted call; each model is the plays of its transport."""

    async def scene(made: Scene) -> None:
        for plays in models:
            made.model(*plays, **(settings or {}))
        await (call or voted())(made)

    return play(scene)


# --- the winner -------------------------------------------------------------------------------------------------------


def test_the_caller_gets_what_most_answers_say_with_the_usage_of_all():
    plays = [says("four"), says("five"), says(" four\n"), says("five"), says("four")]
    scene = played(plays)
    assert isinstance(scene.verdict, Answered)
    assert scene.caller.said == "four"
    assert isinstance(scene.caller.whole, Reply)
    assert scene.caller.whole.usage is not None
    assert (scene.caller.whole.usage.input_tokens, scene.caller.whole.usage.output_tokens) == (50, 25)
    assert scene.attempts == [("model-1", "first", None)] + [("model-1", "sample", None)] * 4
    event = scene.record.event()
    assert (event.usage, event.cost_nanousd) == (scene.caller.whole.usage, 100_000)
    assert event.served_model == "m-1"


def test_how_the_vote_went_is_told():
    exchanges = []

    async def scene(made: Scene) -> None:
        made.model(says("a"), says("b"), says("a"), says("a", after=1.0), says("b"))
        request = asked()

        def exchange_of(arrival, caller, open_sample):
            exchanges.append(
                VotedChat(arrival, request, caller, vote=Vote(), equality=TEXT, open_sample=open_sample, refuses=False)
            )
            return exchanges[0]

        await made.call(exchange_of, request)

    play(scene)
    assert (exchanges[0].samples, exchanges[0].agreement) == (5, 0.6)


def test_the_samples_run_at_once():
    scene = played([says("a", after=1.0)])
    assert scene.loop.time() == pytest.approx(1.0)


def test_the_rest_is_cancelled_as_soon_as_the_vote_is_decided():
    scene = played([says("a", after=1.0), says("a", after=1.0), says("a", after=1.0), SILENT, SILENT])
    assert scene.caller.said == "a"
    assert scene.loop.time() == pytest.approx(1.0)
    assert [error for _, _, error in scene.attempts] == [None, None, None, "cancelled", "cancelled"]


def test_what_was_cancelled_costs_what_it_is_likely_to_have_cost():
    scene = played([says("a", after=2.0, tokens=(10, 8))] * 3 + [says("b", after=4.0)] * 2)
    first, *_, last = scene.record.event().attempts
    assert not first.estimated
    assert last.estimated
    assert last.usage is not None
    assert (last.usage.input_tokens, last.usage.output_tokens) == (10, 8)
    assert scene.record.event().cost_nanousd == 5 * 26_000
    assert scene.caller.whole.usage == scene.record.event().usage


def test_what_was_cancelled_half_way_has_not_said_all():
    async def scene(made: Scene) -> None:
        made.model(*[says("a", after=2.0, tokens=(10, 8))] * 2, SILENT, concurrency=2)
        await voted(samples=3, agree=0.6)(made)

    ended = play(scene).record.event().attempts[-1]
    assert ended.usage is not None
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (10, 0)


def test_json_is_compared_by_its_values_and_given_as_it_came():
    scene = played(
        [says('{"b": 2, "a": 1}'), says('{"a":1.0,"b":2}'), says('{"a":3,"b":2}')],
        call=voted(equality=JSON, samples=3),
    )
    assert scene.caller.said == '{"b": 2, "a": 1}'


def test_only_what_the_vote_is_about_has_to_agree():
    plays = [says('{"why": "one", "is": 4}'), says('{"why": "two", "is": 4}'), says('{"why": "three", "is": 5}')]
    scene = played(plays, call=voted(equality=Equality("json", on=("/is",)), samples=3))
    assert scene.caller.said == '{"why": "one", "is": 4}'


def test_the_fields_of_several_answers_are_put_together_and_checked_again():
    checked = []

    def note(answer: dict[str, int]) -> None:
        checked.append(answer)

    plays = [says('{"x":1,"y":1,"z":0}'), says('{"x":1,"y":0,"z":1}'), says('{"x":0,"y":1,"z":1}')]
    judge = keeping({"type": "object"}, note)
    scene = played(plays, call=voted(equality=JSON, judge=judge, samples=3, fields=True))
    assert scene.caller.said == '{"x":1,"y":1,"z":1}'
    assert len(checked) == 4
    assert checked[-1] == {"x": 1, "y": 1, "z": 1}


def test_fields_that_do_not_go_together_are_a_failed_attempt():
    plays = [says('{"x":1,"y":1,"z":0}'), says('{"x":1,"y":0,"z":1}'), says('{"x":0,"y":1,"z":1}')]
    judge = keeping({"type": "object"}, lambda answer: not all(answer.values()))
    scene = played(plays, call=voted(equality=JSON, judge=judge, samples=3, fields=True))
    assert isinstance(scene.error, ContractViolated)


def test_calls_of_tools_are_compared_by_name_and_arguments():
    def calls(arguments: str) -> Play:
        tool = {"id": "t", "type": "function", "function": {"name": "add", "arguments": arguments}}
        return says("", tool_calls=[tool], finish="tool_calls")

    scene = played([calls('{"a":1,"b":2}'), calls('{"a":2,"b":2}'), calls('{"b": 2, "a": 1}')], call=voted(samples=3))
    assert isinstance(scene.caller.whole, Reply)
    assert scene.caller.whole.choices[0].parts[0].arguments == '{"a":1,"b":2}'


def test_a_caller_of_a_stream_gets_the_winner_as_one():
    scene = played([says("a"), says("b"), says("a")], call=voted(asked(stream=True), samples=3))
    assert scene.caller.text == "a"
    assert scene.caller.got[-1].finish == "stop"
    assert scene.caller.ends == 1
    assert all("stream" not in body for body in bodies(scene.models[0].transport))


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_each_sample_has_a_seed_of_its_own_where_the_request_has_one():
    scene = played([says("a")], call=voted(asked(seed=7), samples=3, agree=1.0))
    assert [body["seed"] for body in bodies(scene.models[0].transport)] == [7, 8, 9]


def test_the_largest_seed_has_others_beside_it():
    scene = played([says("a")], call=voted(asked(seed=2**63 - 1), samples=2, agree=1.0))
    assert [body["seed"] for body in bodies(scene.models[0].transport)] == [2**63 - 1, 2**63 - 2]


def test_the_temperature_of_the_vote_overrides_that_of_the_request():
    scene = played([says("a")], call=voted(asked(temperature=0.0), samples=2, temperature=0.7))
    assert [body["temperature"] for body in bodies(scene.models[0].transport)] == [0.7, 0.7]


def test_several_answers_that_are_voted_on_can_not_be_asked_for():
    with pytest.raises(InvalidRequest) as caught:
        played([says("a")], call=voted(asked(n=2)))
    assert caught.value.param == "n"


# --- disagreement -----------------------------------------------------------------------------------------------------


def test_below_the_share_the_next_model_is_asked():
    scene = played([says(text) for text in "abc"], [says("d")], call=voted(samples=3))
    assert scene.caller.said == "d"
    assert [(model, error) for model, _, error in scene.attempts if model == "model-1"] == [
        ("model-1", "no_agreement"),
        ("model-1", None),
        ("model-1", None),
    ]
    assert scene.caller.whole.usage == scene.record.event().usage
    assert not scene.models[0].health.breaker.open


def test_a_vote_without_agreement_says_so():
    scene = played([says(text) for text in "abc"], call=voted(samples=3))
    assert isinstance(scene.error, NoAgreement)
    assert "at most 1 agree" in scene.error.message
    assert "60% of 3" in scene.error.message


def test_a_vote_that_can_not_succeed_any_more_ends_at_once():
    scene = played([says("a"), says("b"), says("c"), SILENT, SILENT], call=voted(agree=0.8))
    assert isinstance(scene.error, NoAgreement)
    assert scene.loop.time() == 0.0


# --- failures ---------------------------------------------------------------------------------------------------------


def test_samples_that_fail_do_no_harm_while_enough_agree():
    scene = played([fails(500), says("a"), says("a"), fails(503), says("a")])
    assert scene.caller.said == "a"
    assert [error for _, _, error in scene.attempts] == ["provider_failed", None, None, "overloaded", None]
    assert scene.record.event().served_model == "m-1"
    assert scene.record.event().outcome == "answered"


def test_samples_that_break_their_contract_are_votes_for_nothing():
    judge = Judge([Contract(ChoiceForm(["A", "B"]))], {}, name="letters", reask_tokens=100)
    scene = played([says("bad"), says("a"), says("bad"), says("a"), says("a")], call=voted(judge=judge))
    assert scene.caller.said == "A"
    assert [error for _, _, error in scene.attempts] == ["contract_violated", None] * 2 + [None]
    assert scene.record.answered_by is not None
    assert [repair.kind for repair in scene.record.answered_by.ledger] == ["enum_case"]


def test_where_all_break_their_contract_the_model_is_not_asked_to_mend_one():
    judge = Judge([Contract(ChoiceForm(["A", "B"]))], {}, name="letters", reask_tokens=100)
    scene = played([says("bad")], call=voted(judge=judge, samples=3))
    assert isinstance(scene.error, ContractViolated)
    assert not scene.error.reask


def test_where_all_fail_the_most_telling_error_is_told():
    scene = played([fails(400), fails(500), fails(400)], call=voted(samples=3, retries=0))
    assert scene.error.code == "provider_failed"


def test_where_those_that_answered_agree_the_failures_are_to_blame():
    limited = fails(429, retry_after="2")
    scene = played([says("a"), limited, limited, SILENT, SILENT], [says("b")], call=voted(agree=1.0))
    assert scene.caller.said == "b"
    assert isinstance(scene.record.attempts[1].error, RateLimited)
    assert scene.record.attempts[0].error is not None
    assert scene.record.attempts[0].error.code == "rate_limited"


def test_an_answer_that_is_cut_or_refused_is_no_vote():
    plays = [says("a", finish="length"), says("a", finish="length"), says("b")]
    assert played(plays, call=voted(samples=3)).error.code == "truncated"
    refused = says("", finish="content_filter")
    scene = played([refused, refused, says("b")], call=voted(samples=3, refuses=True))
    assert scene.error.code == "content_refused"
    assert played([refused, refused, says("b")], call=voted(samples=3)).caller.whole.choices[0].finish == "refused"


def test_a_secret_header_that_a_provider_repeats_reaches_no_log():
    told = fails(400, message="What is hush-hush?")
    scene = played([says("a"), told, says("a"), says("a"), told])
    assert "hush-hush" not in str(scene.record.event())
    assert "***" in str(scene.record.event())


def test_a_stale_connection_is_replaced_once():
    stale = cut()
    stale.stale = True
    scene = played([says("a"), Play(((0.0, stale),)), says("b"), says("a")], call=voted(samples=3, agree=0.6))
    assert scene.caller.said == "a"
    assert [error for _, _, error in scene.attempts] == [None, "connection_failed", None, None]


def test_failed_samples_count_for_the_breaker():
    async def scene(made: Scene) -> None:
        made.model(fails(500))
        await voted(samples=8, retries=0)(made)
        assert made.models[0].health.breaker.open

    assert play(scene).error.code == "provider_failed"


# --- time and places --------------------------------------------------------------------------------------------------


def test_a_vote_that_is_not_decided_by_the_deadline_leaves_nothing_behind():
    scene = played([says("a"), SILENT])
    assert isinstance(scene.error, DeadlineExceeded) or scene.error.code == "timeout"
    assert scene.loop.time() <= 10.0


def test_a_silent_model_leaves_the_next_one_time_to_vote():
    scene = played([SILENT], [says("b", after=1.0)])
    assert scene.caller.said == "b"
    assert scene.loop.time() < 10.0


def test_a_caller_who_hangs_up_leaves_nothing_behind():
    async def scene(made: Scene) -> None:
        made.model(says("a"), says("b"), SILENT, concurrency=4)
        await cancelled_after(1.0, voted()(made))

    assert [error for _, _, error in play(scene).attempts] == [None, None, *["cancelled"] * 3]


@pytest.mark.parametrize(("places", "seconds"), [(1, 3.0), (2, 2.0), (3, 1.0), (9, 1.0)])
def test_samples_take_no_more_places_than_the_model_has(places, seconds):
    scene = played([says("a", after=1.0)], settings={"concurrency": places}, call=voted(samples=3, agree=1.0))
    assert scene.caller.said == "a"
    assert scene.loop.time() == pytest.approx(seconds)


def test_samples_take_no_place_from_another_call():
    async def scene(made: Scene) -> None:
        made.model(says("a", after=1.0), concurrency=2)
        gate = made.models[0].health.gate
        assert gate is not None
        assert gate.try_enter()
        task = asyncio.create_task(voted(samples=3, agree=1.0)(made))
        await asyncio.sleep(0.5)
        assert gate.inside == 2
        gate.leave()
        await task

    assert play(scene).caller.said == "a"


def test_a_hedge_that_outruns_a_vote_ends_all_its_samples():
    scene = played([says("a"), SILENT], [says("b")], call=voted(hedge=0.5, samples=3, agree=1.0))
    assert scene.caller.said == "b"
    ends = [(model, error) for model, _, error in scene.attempts]
    assert ends == [("model-1", None), *[("model-1", "cancelled")] * 2, *[("model-2", None)] * 3]


# --- what is compared, and how ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "kind"),
    [('choice = ["yes", "no"]', "choice"), ('[schema]\ntype = "object"', "json"), ('pattern = "a+"', "text")],
)
def test_the_contract_says_how_answers_are_compared(contract, kind):
    vote = Vote(tolerance=0.5, on=("/a",))
    assert equality_of(vote, asked(), parse_contract("contract.toml", contract)) == Equality(kind, 0.5, ("/a",))


def test_without_a_contract_the_format_that_was_asked_for_says_it():
    schema = asked(response_format=ResponseFormat(type="schema", schema={}))
    assert equality_of(Vote(), schema, None).kind == "json"
    assert equality_of(Vote(), asked(), None).kind == "text"
