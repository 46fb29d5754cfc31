"""How likely a model finds each of a few answers, whatever it tells and whatever goes wrong."""

import json
import math

import msgspec
import pytest

from holdfast.chat import Reply, ResponseFormat
from holdfast.errors import InvalidRequest
from holdfast.gateway.answers.distribution import Distribution, decode
from holdfast.gateway.fallback import Answered
from holdfast.gateway.record import Summary
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Constrained
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from integration.gateway.staged import SILENT, Caller, Play, fails
from unit.gateway.sampled import Scene, bodies, cancelled_after, play, says

NO_LOGPROBS = fails(400, message="logprobs are not supported with this model.")
ONE_AT_A_TIME = fails(400, message="n must be 1.")


def body(**more: object) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    return json.dumps({"model": "answer", "messages": messages, "choices": ["yes", "no"], **more}).encode()


def decoded(**more: object):
    return decode(body(**more), "/v1/distribution", OpenAISurface())


def told(**probabilities: float) -> list[dict[str, object]]:
    """Return what a provider says of the one token of its answer: the first of these."""
    top = [{"token": text, "logprob": math.log(p), "bytes": list(text.encode())} for text, p in probabilities.items()]
    return [top[0] | {"top_logprobs": top}]


def likely(**probabilities: float) -> Play:
    """Return an answer with log-probabilities."""
    return says(next(iter(probabilities)), logprobs=told(**probabilities))


class _Bodies(Caller):
    """Keeps the body of the answer too."""

    body: bytes | None = None

    async def reply(self, reply, raw, wire, summary: Summary) -> None:
        await super().reply(reply, raw, wire, summary)
        self.body = raw


def asking(*, retries: int = 2, **more: object):
    request, source = decoded(**more)

    async def call(scene: Scene) -> None:
        scene.caller = _Bodies()
        await scene.call(
            lambda arrival, caller, open_sample: Distribution(
                msgspec.structs.replace(arrival, source=source), request, caller, open_sample=open_sample
            ),
            request,
            retries=retries,
        )

    return call


def played(*models, settings=None, call=None) -> Scene:
    async def scene(made: Scene) -> None:
        for plays in models:
            made.model(*plays, **(settings or {}))
        await (call or asking())(made)

    return play(scene)


def answer(scene: Scene):
    assert isinstance(scene.verdict, Answered), scene.verdict
    return json.loads(scene.caller.body)


def probabilities(scene: Scene) -> dict[str, float]:
    return {share["choice"]: round(share["probability"], 6) for share in answer(scene)["choices"]}


def sent(scene: Scene, model: int = 0) -> list[dict]:
    return bodies(scene.models[model].transport)


# --- what can be asked ------------------------------------------------------------------------------------------------


def test_a_distribution_is_a_chat_with_choices():
    request, source = decoded(temperature=0.5, holdfast={"session": "s"}, samples=7, method="samples")
    assert request.response_format == ResponseFormat(type="choice", choices=("yes", "no"))
    assert (request.model, request.temperature, len(request.messages)) == ("answer", 0.5, 2)
    assert request.extra == {"holdfast": {"session": "s"}, "distribution": {"samples": 7, "method": "samples"}}
    assert source.wire == "openai"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"choices": ["yes"]}, "choices"),
        ({"choices": [str(number) for number in range(65)]}, "choices"),
        ({"choices": ["yes", "yes "]}, "choices"),
        ({"choices": ["caf\u00e9", "cafe\u0301"]}, "choices"),
        ({"choices": ["yes", " "]}, "choices"),
        ({"choices": ["yes", ""]}, "choices"),
        ({"choices": ["yes", 1]}, "choices"),
        ({"choices": ["yes", "n" * 201]}, "choices"),
        ({"choices": "yes"}, "choices"),
        ({"choices": None}, "choices"),
        ({"samples": 0}, "samples"),
        ({"samples": 101}, "samples"),
        ({"samples": "20"}, "samples"),
        ({"method": "guess"}, "method"),
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": []}, "tools"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": "Is it?"}, "messages"),
        ({"messages": None}, "messages"),
    ],
)
def test_what_can_not_be_asked_is_refused_by_its_name(more, param):
    with pytest.raises(InvalidRequest) as caught:
        decoded(**more)
    assert caught.value.param == param
    assert param in caught.value.message


@pytest.mark.parametrize("sent_", [b"", b"[]", b"{", b'{"a": 1}', b"\xff", b'{"choices": ' + b"[" * 100_000])
def test_what_is_no_distribution_at_all_is_refused(sent_):
    with pytest.raises(InvalidRequest):
        decode(sent_, "/v1/distribution", OpenAISurface())


def test_fields_that_say_nothing_are_taken():
    request, _ = decoded(stream=False, tools=None, logprobs=False)
    scene = played([likely(yes=0.9, no=0.1)], call=asking(stream=False, logprobs=False, n=None))
    assert request.stream is False
    assert sent(scene)[0]["logprobs"] is True


# --- log-probabilities ------------------------------------------------------------------------------------------------


def test_one_answer_with_log_probabilities_tells_all():
    scene = played([likely(yes=0.6, no=0.3, maybe=0.05)])
    found = answer(scene)
    assert probabilities(scene) == {"yes": 0.666667, "no": 0.333333}
    assert (found["object"], found["method"], found["interval"]) == ("distribution", "logprobs", 1.0)
    assert found["coverage"] == pytest.approx(0.9)
    assert found["other"] == pytest.approx(0.05)
    assert "samples" not in found
    assert found["choices"][0]["low"] < 0.666 < found["choices"][0]["high"]
    assert found["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert found["holdfast"] == {
        "call": "call-1",
        "outcome": "answered",
        "model": "model-1",
        "attempts": 1,
        "cost": "0.000020000",
    }
    assert (found["id"], found["model"]) == ("call-1", "m-1")
    (request,) = sent(scene)
    assert (request["logprobs"], request["top_logprobs"]) == (True, 20)
    assert "distribution" not in request
    assert "response_format" not in request


def test_the_model_is_told_what_it_may_answer():
    scene = played([likely(yes=0.9, no=0.1)])
    system, user = sent(scene)[0]["messages"]
    assert user["content"] == "Is it?"
    said = (
        system["content"]
        if isinstance(system["content"], str)
        else "".join([part["text"] for part in system["content"]])
    )
    assert said.startswith("Be brief.")
    assert '"yes", "no"' in said


def test_the_log_has_the_most_likely_choice_as_the_answer():
    scene = played([likely(yes=0.4, no=0.6)])
    assert isinstance(scene.caller.whole, Reply)
    assert scene.caller.whole.text == "no"
    assert scene.caller.whole.extra["distribution"]["method"] == "logprobs"
    assert scene.record.event().reply == scene.caller.whole


class _Enforcing(OpenAIUpstream):
    """A server that enforces choices."""

    def constrain(self, format: ResponseFormat) -> Constrained:
        return Constrained(format=format)

    def encode(self, request, source=None):
        assert request.response_format == ResponseFormat(type="choice", choices=("yes", "no"))
        return super().encode(msgspec.structs.replace(request, response_format=None), source)


def test_the_choices_are_a_constraint_where_the_server_enforces_it():
    scene = played([likely(yes=0.6, n=0.4)], settings={"upstream": _Enforcing})
    assert answer(scene)["coverage"] == pytest.approx(1.0)


def test_a_model_that_tells_fewer_alternatives_is_asked_for_fewer_from_then_on():
    async def scene(made: Scene) -> None:
        made.model(
            fails(400, message="top_logprobs must be at most 5."), likely(yes=0.9, no=0.1), likely(yes=0.8, no=0.2)
        )
        await asking()(made)
        assert made.attempts == [("model-1", "first", "bad_request"), ("model-1", "sample", None)]
        await asking()(made)

    made = play(scene)
    assert [request["top_logprobs"] for request in sent(made)] == [20, 5, 5]
    assert probabilities(made) == {"yes": 0.8, "no": 0.2}


# --- where they don't tell enough -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        NO_LOGPROBS,
        fails(403, message="You are not allowed to request logprobs from this model"),
        says("yes"),
        likely(maybe=0.8, yes=0.1, no=0.1),
        says("yes", logprobs=told(yes=0.9, no=0.1), reasoning_content="Hm."),
    ],
    ids=["refused", "not allowed", "not told", "little covered", "after thought"],
)
def test_samples_tell_where_log_probabilities_do_not(first):
    scene = played([first, says("yes", "yes", "No.", "perhaps")], call=asking(samples=4))
    found = answer(scene)
    assert probabilities(scene) == {"yes": 0.666667, "no": 0.333333}
    assert (found["method"], found["samples"], found["interval"]) == ("samples", 4, 0.95)
    assert (found["coverage"], found["other"]) == (0.75, 0.25)
    assert found["usage"] == msgspec.to_builtins(
        {
            "prompt_tokens": scene.record.usage.input_tokens,
            "completion_tokens": scene.record.usage.output_tokens,
            "total_tokens": scene.record.usage.input_tokens + scene.record.usage.output_tokens,
        }
    )


def test_a_model_that_tells_none_is_not_asked_for_them_again():
    async def scene(made: Scene) -> None:
        made.model(NO_LOGPROBS, says("yes", "no"))
        await asking(samples=2)(made)
        await asking(samples=2)(made)

    assert ["logprobs" in request for request in sent(play(scene))] == [True, False, False]


def test_on_a_wire_without_log_probabilities_samples_tell():
    reply = {"id": "m", "type": "message", "role": "assistant", "model": "c", "stop_reason": "end_turn"}
    said = reply | {"content": [{"type": "text", "text": "no"}], "usage": {"input_tokens": 3, "output_tokens": 1}}
    one = Play(((0.0, json.dumps(said).encode()),), headers=((b"content-type", b"application/json"),))
    scene = played([one], settings={"upstream": AnthropicUpstream}, call=asking(samples=3))
    assert probabilities(scene) == {"yes": 0.0, "no": 1.0}
    assert answer(scene)["samples"] == 3
    assert len(sent(scene)) == 3


def test_log_probabilities_that_were_asked_for_by_name_are_all_there_is():
    scene = played([likely(maybe=0.8, yes=0.1, no=0.1)], call=asking(method="logprobs"))
    assert answer(scene)["method"] == "logprobs"
    assert answer(scene)["coverage"] == pytest.approx(0.2)
    for first in (NO_LOGPROBS, says("yes")):
        assert played([first], call=asking(method="logprobs")).error.code == "bad_request"
    assert played([likely(maybe=1.0)], call=asking(method="logprobs")).error.code == "contract_violated"


def test_where_one_model_can_not_do_what_was_asked_for_the_next_one_may():
    scene = played([NO_LOGPROBS], [likely(yes=0.9, no=0.1)], call=asking(method="logprobs"))
    assert answer(scene)["holdfast"]["model"] == "model-2"


# --- samples ----------------------------------------------------------------------------------------------------------


def test_samples_that_were_asked_for_by_name_are_taken_at_once():
    scene = played([says("yes", "no", "yes")], call=asking(method="samples", samples=3))
    (request,) = sent(scene)
    assert (request["n"], request["temperature"]) == (3, 1.0)
    assert "logprobs" not in request


def test_a_model_that_gives_several_answers_is_asked_for_several_at_once():
    eight, four = says(*["yes"] * 8), says(*["no"] * 4)
    scene = played([eight, eight, four], call=asking(method="samples", samples=20))
    assert [request["n"] for request in sent(scene)] == [8, 8, 4]
    assert answer(scene)["samples"] == 20
    assert answer(scene)["usage"]["prompt_tokens"] == 30


@pytest.mark.parametrize("first", [ONE_AT_A_TIME, says("yes")], ids=["refused", "ignored"])
def test_a_model_that_gives_one_answer_is_asked_as_often_as_needed(first):
    async def scene(made: Scene) -> None:
        made.model(first, says("yes", after=1.0))
        await asking(method="samples", samples=20)(made)
        assert answer(made)["samples"] == 20
        assert made.loop.time() == pytest.approx(3.0)
        await asking(method="samples", samples=2)(made)

    made = play(scene)
    assert sent(made)[0]["n"] == 8
    assert {request.get("n", 1) for request in sent(made)[1:]} == {1}


def test_each_request_has_a_seed_of_its_own():
    scene = played([ONE_AT_A_TIME, says("no")], call=asking(method="samples", samples=3, seed=5))
    assert sorted([request["seed"] for request in sent(scene)[1:]]) == [8, 9, 10]


def test_the_temperature_that_was_asked_for_is_kept():
    scene = played([says("yes", "no")], call=asking(method="samples", samples=2, temperature=0.3))
    assert sent(scene)[0]["temperature"] == 0.3


def test_some_samples_may_fail():
    plays = [ONE_AT_A_TIME, says("yes"), fails(500), says("no"), fails(503)]
    scene = played([*plays, says("yes")], call=asking(method="samples", samples=6))
    assert answer(scene)["samples"] == 4
    assert probabilities(scene) == {"yes": 0.75, "no": 0.25}


def test_where_most_fail_the_next_model_is_asked():
    call = asking(method="samples", samples=2, retries=0)
    half = played([ONE_AT_A_TIME, says("yes"), fails(503)], [says("no", "no")], call=call)
    assert (answer(half)["samples"], answer(half)["holdfast"]["model"]) == (1, "model-1")
    scene = played([ONE_AT_A_TIME, fails(503)], [says("no", "no")], call=call)
    assert probabilities(scene) == {"yes": 0.0, "no": 1.0}
    assert scene.attempts[-1] == ("model-2", "fallback", None)


def test_where_all_fail_the_error_is_told():
    assert played([fails(500)], call=asking(retries=0)).error.code == "provider_failed"
    assert played([ONE_AT_A_TIME], call=asking(method="samples")).error.code == "bad_request"


def test_answers_of_which_none_is_a_choice_are_no_distribution():
    scene = played([says("maybe", "perhaps")], [says("no", "no")], call=asking(method="samples", samples=2))
    assert probabilities(scene) == {"yes": 0.0, "no": 1.0}
    assert played([says("maybe", "x")], call=asking(method="samples", samples=2)).error.code == "contract_violated"
    refused = says("", "", finish="content_filter")
    assert played([refused], call=asking(method="samples", samples=2)).error.code == "content_refused"


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_silent_model_leaves_the_next_one_time():
    scene = played([SILENT], [likely(yes=0.9, no=0.1)])
    assert answer(scene)["holdfast"]["model"] == "model-2"
    assert scene.loop.time() < 10.0


def test_samples_that_are_late_end_with_the_deadline():
    scene = played([ONE_AT_A_TIME, says("yes"), SILENT], call=asking(method="samples", retries=0))
    assert scene.error.code in ("timeout", "deadline_exceeded")
    assert scene.loop.time() <= 10.0


def test_a_caller_who_hangs_up_leaves_nothing_behind():
    async def scene(made: Scene) -> None:
        made.model(ONE_AT_A_TIME, says("yes"), SILENT, concurrency=3)
        await cancelled_after(1.0, asking(method="samples")(made))

    assert {error for _, _, error in play(scene).attempts} == {"bad_request", None, "cancelled"}
