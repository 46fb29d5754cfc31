"""Replays and votes under attack: the same question gets the same answer, and nobody gets what was not for them."""

import asyncio
import json
from typing import Any

import pytest

from holdfast.contracts.load import make_contract
from holdfast.contracts.streaming.watch import complete_of
from holdfast.events import Call
from holdfast.gateway.catalog import Replay
from holdfast.gateway.hints import Hints
from holdfast.gateway.questions.examples import ready
from holdfast.gateway.settings import Vote
from holdfast.log.base import LogSettings
from holdfast.log.memory import MemoryLog
from holdfast.log.writer import LogWriter
from integration.gateway.contracted import CONTRACT, OTHER, RIGHT
from integration.gateway.staged import SILENT, Caller, Gateway, Play, Staged, answers, fails, play, whole

REPLAY = Replay(ttl=60.0, hash=b"x")


# --- replays ----------------------------------------------------------------------------------------------------------


def test_a_question_that_is_shown_other_examples_is_another_question():
    shots = ready("examples.jsonl", lambda _: '{"id": "1", "input": "a", "output": "b"}\n{"input": "c", "output": "d"}')
    callers = [Caller() for _ in range(3)]

    async def scene(gateway: Gateway) -> None:
        model = gateway.model("first", Staged(whole("with its own answer"), whole("without")))
        gateway.serve(feature={"replay": REPLAY, "examples": shots})
        await gateway.call(callers[0], stream=False)
        await gateway.call(callers[1], stream=False, hints=Hints(tags={"example": "1"}))
        await gateway.call(callers[2], stream=False, hints=Hints(tags={"run": "1"}))
        assert len(model.transport.requests) == 2

    play(scene)
    assert [caller.said for caller in callers] == ["with its own answer", "without", "with its own answer"]


def ask_all(
    *scripts: list[Play],
    wishes: list[dict[str, Any]],
    stream: bool = False,
    feature: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[list[Caller], list[Call], list[Staged]]:
    """Ask the same question several times, a moment apart. A wish may be a caller who hangs up, or has own hints."""
    callers, transports = [Caller() for _ in wishes], [Staged(*script) for script in scripts]

    async def scene(gateway: Gateway) -> None:
        for name, transport in zip(("first", "other"), transports, strict=False):
            gateway.model(name, transport)
        gateway.serve(feature={"contract": CONTRACT, "replay": REPLAY} | (feature or {}), **options)
        tasks = []
        for caller, wish in zip(callers, wishes, strict=True):
            task = asyncio.create_task(gateway.call(caller, stream=stream, hints=Hints(**wish.get("hints", {}))))
            tasks.append(task)
            if "hang_up" in wish:
                gateway.loop.call_later(wish["hang_up"], task.cancel)
            await asyncio.sleep(wish.get("then", 0.01))
        await asyncio.wait(tasks)
        assert gateway._pipeline is not None
        assert gateway._pipeline.replays.waiting == 0

    return callers, play(scene), transports


def test_no_last_resort_and_no_error_is_given_again():
    wishes: list[dict[str, Any]] = [{}, {}, {}]
    for script, resort in (([fails(500, after=0.1)], RIGHT), ([whole("no", after=0.1)], RIGHT), ([fails(500)], None)):
        _, calls, (model,) = ask_all(script, wishes=wishes, retries=0, last_resort=resort)
        assert [call.replayed for call in calls] == [None] * 3
        assert len(model.requests) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_who_waits_for_the_answer_to_a_caller_who_hangs_up_gets_one_of_their_own(stream):
    said = answers(RIGHT, after=0.2) if stream else whole(RIGHT, after=0.2)
    callers, calls, (model,) = ask_all([said], wishes=[{"hang_up": 0.1}, {}, {}], stream=stream)
    assert [call.outcome for call in calls] == ["cancelled", "answered", "answered"]
    assert [call.replayed for call in calls] == [None, None, "call-2"]
    assert [caller.said for caller in callers] == ["", RIGHT, RIGHT]
    assert len(model.requests) == 2


def test_one_who_waits_and_hangs_up_takes_nothing_from_the_others():
    callers, calls, (model,) = ask_all([whole(RIGHT, after=0.2)], wishes=[{}, {"hang_up": 0.1}, {}])
    assert [call.outcome for call in calls] == ["answered", "cancelled", "answered"]
    assert (len(model.requests), callers[2].said) == (1, RIGHT)


@pytest.mark.parametrize("hang_up", [0.2, 0.2 - 1e-9, 0.2 + 1e-9])
def test_hanging_up_in_the_turn_in_which_the_answer_comes_leaves_no_question_open(hang_up):
    wishes: list[dict[str, Any]] = [{"hang_up": hang_up}, {"hang_up": hang_up - 0.01}, {}]
    callers, calls, _ = ask_all([whole(RIGHT, after=0.2)], wishes=wishes)
    assert callers[2].said == RIGHT
    assert all(call.outcome in ("answered", "cancelled") for call in calls)


def test_a_subject_gets_no_answer_that_was_for_another():
    wishes = [{"hints": {"subject": subject}} for subject in ("a", "b", "a")] + [{}]
    _, calls, (model,) = ask_all([whole(RIGHT, after=0.2)], wishes=wishes)
    assert [call.replayed for call in calls] == [None, None, "call-1", None]
    assert len(model.requests) == 3


def test_the_deadline_of_who_waits_is_its_own():
    wishes: list[dict[str, Any]] = [{}, {"hints": {"deadline_ms": 300}}, {"hints": {"deadline_ms": 1}}, {}]
    callers, calls, (model,) = ask_all([whole(RIGHT, after=1.0)], wishes=wishes)
    assert [call.error for call in calls] == [None, "deadline_exceeded", "deadline_exceeded", None]
    assert (len(model.requests), callers[3].said) == (1, RIGHT)
    assert [call.duration_us <= 350_000 for call in calls[1:3]] == [True, True]


def test_who_waits_for_a_silent_model_gets_the_last_resort_in_time():
    _, calls, _ = ask_all([SILENT], wishes=[{}, {}, {}], deadline=2.0, last_resort=RIGHT)
    assert {call.outcome for call in calls} == {"last_resort"}
    assert all(call.duration_us <= 2_050_000 for call in calls)


@pytest.mark.parametrize("how", ["hold", "pass", "object"])
@pytest.mark.parametrize("store", ["all", "metadata", "none"])
def test_all_at_once_a_question_is_asked_voted_on_hedged_streamed_and_given_again(store, how):
    feature = {"vote": Vote(samples=3), "stream": how, "store": store}
    scripts = [whole(RIGHT, after=0.5)], [whole(RIGHT, after=0.1)]
    callers, calls, _ = ask_all(*scripts, wishes=[{}, {}, {}], stream=True, feature=feature, hedge=0.1)
    assert [caller.said for caller in callers] == [RIGHT] * 3
    assert [caller.ends for caller in callers] == [1] * 3
    if store != "none":
        first, *others = calls
        assert (first.model, first.agreement) == ("other", 1.0)
        assert [call.replayed for call in others] == ["call-1", "call-1"]
        assert all(call.cost_nanousd == 0 and call.usage is None for call in others)
    if how == "object":
        value = json.loads(RIGHT)
        assert {str(caller.objects[-1]) for caller in callers} == {str((value, complete_of(value)))}


def test_a_mended_answer_is_given_again_as_it_was_mended():
    script = [whole(RIGHT.replace("42", '"many"'), after=0.1), whole('{"/answer": 42}', after=0.1)]
    callers, _, (model,) = ask_all(script, wishes=[{}, {}])
    assert callers[0].said == callers[1].said == RIGHT
    assert len(model.requests) == 2


@pytest.mark.parametrize("resort", [RIGHT, "Later."])
@pytest.mark.parametrize("switch", [{"enabled": False}, {"rollout": 0.0}])
def test_a_feature_that_is_off_answers_with_a_last_resort_that_meets_the_contract_or_an_error(switch, resort):
    callers, calls, (model,) = ask_all([whole(RIGHT)], wishes=[{}, {}], feature=switch, last_resort=resort)
    assert model.requests == []
    right = resort == RIGHT
    assert {call.outcome for call in calls} == {"last_resort" if right else "error"}
    assert {caller.said for caller in callers} == {RIGHT if right else ""}
    assert {call.error for call in calls} == {"feature_disabled"}


class Slow(Caller):
    """A caller who takes their time over every piece."""

    async def chunks(self, chunks: Any, wire: str) -> None:
        await super().chunks(chunks, wire)
        await asyncio.sleep(4.0)

    async def object(self, value: Any, complete: Any) -> None:
        await super().object(value, complete)
        await asyncio.sleep(4.0)


@pytest.mark.parametrize("contract", [None, CONTRACT])
@pytest.mark.parametrize("how", ["hold", "pass", "object"])
def test_nobody_waits_for_another_caller_who_is_slow(how, contract):
    slow, other, third = callers = [Slow(), Caller(), Caller()]
    ended: dict[int, float] = {}

    async def scene(gateway: Gateway) -> None:
        gateway.model("first", Staged(answers(RIGHT[:20], RIGHT[20:], every=0.1)))
        gateway.serve(feature={"contract": contract, "replay": REPLAY, "stream": how}, deadline=20.0)

        async def one(number: int) -> None:
            await gateway.call(callers[number])
            ended[number] = gateway.loop.time()

        await asyncio.gather(*map(one, range(3)))

    calls = play(scene)
    assert [caller.said for caller in (slow, other, third)] == [RIGHT] * 3
    assert {call.outcome for call in calls} == {"answered"}
    assert max(ended[1], ended[2]) < 2.0


# --- votes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vote", [Vote(samples=3), Vote(samples=3, fields=True), Vote(samples=3, on=("/answer",))])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_voted_for_meets_the_contract(vote, stream):
    said = ["no", RIGHT, OTHER, RIGHT, "", '{"reasoning": "six times seven", "answer": "x"}']
    callers, calls, _ = ask_all(
        [whole(text) for text in said], [whole(RIGHT)], wishes=[{}], stream=stream, feature={"vote": vote}
    )
    assert callers[0].error is None
    assert CONTRACT.check(callers[0].said).ok
    assert calls[0].outcome == "answered"


@pytest.mark.parametrize("at", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("end", ["hang up", "deadline"])
def test_a_vote_that_does_not_come_to_its_end_leaves_nothing_behind(end, at):
    script = [whole(RIGHT, after=after) for after in (0.1, 0.3, 0.6, 0.9, 2.0)]
    wish = {"hang_up": at} if end == "hang up" else {"hints": {"deadline_ms": int(at * 1000) or 1}}
    callers, calls, _ = ask_all(script, wishes=[wish], feature={"vote": Vote(samples=5, agree=1.0)})
    assert calls[0].outcome == ("cancelled" if end == "hang up" else "error")
    assert callers[0].whole is None


def test_values_that_json_can_hardly_say_are_put_together_or_refused():
    free = make_contract({"type": "object"}, name="free")
    texts = ['{"a": 123456789012345678901234567890, "b": 1}', '{"a": 123456789012345678901234567890, "b": 2}']
    texts += ['{"a": 1, "b": 2}']
    caller, call, _ = ask_all(
        [whole(text) for text in texts],
        wishes=[{}],
        feature={"contract": free, "vote": Vote(samples=3, fields=True)},
    )
    assert call[0].error != "internal_error"
    if caller[0].error is None:
        assert json.loads(caller[0].said) == {"a": 123456789012345678901234567890, "b": 2}


# --- a log that has to be written first -------------------------------------------------------------------------------


class RealLoop(asyncio.SelectorEventLoop):
    """A loop that is its own clock, for what threads do."""

    def monotonic(self) -> float:
        return self.time()

    def now(self) -> float:
        return self.time()


@pytest.mark.parametrize("how", ["whole", "hold", "pass", "object"])
@pytest.mark.parametrize("vote", [None, Vote(samples=3)])
def test_a_log_that_is_durable_at_once_has_every_call_once(vote, how):
    said = whole(RIGHT) if how == "whole" or vote else answers(RIGHT[:20], RIGHT[20:])
    callers = [Caller() for _ in range(3)]
    loop, ids = RealLoop(), []
    writer = LogWriter(
        MemoryLog(),
        LogSettings(durability="sync"),
        [lambda batch: ids.extend([e.id for e in batch if type(e) is Call])],
    )
    gateway = Gateway(loop, writer)  # type: ignore[arg-type]

    async def scene() -> None:
        gateway.model("first", Staged(whole("no") if how == "whole" or vote else answers("no"), said))
        feature = {"contract": CONTRACT, "replay": REPLAY, "vote": vote, "stream": "hold" if how == "whole" else how}
        gateway.serve(feature=feature, retries=5)
        await asyncio.gather(*[gateway.call(caller, stream=how != "whole") for caller in callers])

    try:
        loop.run_until_complete(scene())
    finally:
        writer.close()
        loop.close()
    assert sorted(ids) == ["call-1", "call-2", "call-3"]
    assert [caller.said for caller in callers] == [RIGHT] * 3


# --- what changes while a call runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["whole", "hold", "object"])
def test_a_call_keeps_its_contract_when_another_is_configured_while_it_is_mended(how):
    script = [RIGHT.replace("42", '"many"'), '{"/answer": 42}' if how == "whole" else RIGHT, "4.2"]
    played = [whole(text, after=0.2) if how == "whole" else answers(text, after=0.2) for text in script]
    first, second = callers = [Caller(), Caller()]

    async def scene(gateway: Gateway) -> None:
        gateway.model("first", Staged(*played))
        stream = "hold" if how == "whole" else how
        gateway.serve(feature={"contract": CONTRACT, "stream": stream, "replay": REPLAY})
        call = asyncio.create_task(gateway.call(first, stream=how != "whole"))
        await asyncio.sleep(0.3)  # it is being mended
        before = gateway._pipeline
        assert before is not None
        other = Replay(ttl=60.0, hash=b"y")
        number = make_contract({"type": "number"}, name="number.json")
        gateway.serve(feature={"contract": number, "stream": stream, "replay": other})
        assert gateway._pipeline is not None
        before.catalog = gateway._pipeline.catalog
        gateway._pipeline = before
        await call
        await gateway.call(second, stream=how != "whole")

    one, two = play(scene)
    assert [caller.said for caller in callers] == [RIGHT, "4.2"]
    assert (one.contract, two.contract, two.replayed) == ("answer.json", "number.json", None)


@pytest.mark.parametrize("how", ["hold", "pass"])
def test_how_to_stream_says_nothing_where_there_is_no_contract(how):
    callers, calls, _ = ask_all(
        [answers("Kelp ", "holds.")], wishes=[{"hints": {"stream": how}}], stream=True, feature={"contract": None}
    )
    assert (callers[0].said, callers[0].objects, calls[0].outcome) == ("Kelp holds.", [], "answered")
