"""Examples that are near by the vectors of a model: what a call asks for is part of it, whatever comes of it."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.app import App
from holdfast.client import Holdfast
from holdfast.config import load
from holdfast.embed.near import BATCH, PAUSE_SECONDS
from holdfast.errors import CallError
from holdfast.events import Call
from holdfast.gateway.catalog import Feature, Model, Replay
from holdfast.gateway.hints import Hints
from holdfast.gateway.questions.examples import SHARE_OF_DEADLINE, ready
from holdfast.gateway.settings import Examples
from holdfast.log.base import Filter, Spend
from holdfast.log.sqlite import SqliteLog
from holdfast.log.telemetry import attempt_attributes
from holdfast.providers.prices import Price, PriceSettings
from holdfast.providers.simulated import Simulator
from integration.gateway.staged import SILENT, Caller, Gateway, Play, Staged, fails, play, vectors, whole

FILE = '{"input": "red", "output": "RED"}\n{"input": "green", "output": "GREEN"}'
SETTINGS = Examples(file="examples.jsonl", select="nearest", k=1, embeddings="vectors")
INDEX = vectors([1.0, 0.0], [0.0, 1.0], tokens=6)
RUBY, EMERALD = vectors([1.0, 0.1]), vectors([0.1, 1.0])
PRICE = Price.of(PriceSettings(input=2.0, output=10.0))
DEADLINE = 10.0
SHARE = DEADLINE * SHARE_OF_DEADLINE


class Scene:
    """A feature whose examples are found by vectors. The plays are those of the model that gives them."""

    def __init__(self, gateway: Gateway, *plays: Play, feature: Mapping[str, Any] = {}, **settings: Any) -> None:
        self.gateway = gateway
        self.answer = gateway.model("answer", Staged(whole("ok")), cost=PRICE)
        self.vectors = gateway.model("vectors", Staged(*plays), cost=PRICE, **settings)
        direct = Feature(name=None, models=(self.vectors,), deadline=60.0, max_answer=10**6, store="metadata")
        shots = ready(SETTINGS, lambda _: FILE)
        gateway.serve(deadline=DEADLINE, feature={"vectors": direct, "examples": shots} | feature)

    async def ask(self, text: str, **options: Any) -> Caller:
        """Make a call."""
        caller = Caller()
        await self.gateway.call(caller, stream=False, text=text, **options)
        return caller

    @property
    def shown(self) -> list[str]:
        """The example that each answered call was shown: the one whose answer is in what the model was asked."""
        return [_shown(request.body) for request in requests(self.answer)]


def requests(model: Model) -> Sequence[Any]:
    assert isinstance(model.transport, Staged)
    return model.transport.requests


def _shown(body: bytes) -> str:
    return "GREEN" if b"GREEN" in body else "RED" if b"RED" in body else "none"


def parts(call: Call) -> list[tuple[str, str, str | None]]:
    """What a call consists of: the reason, model and error of each attempt."""
    return [(attempt.reason, attempt.model, attempt.error) for attempt in call.attempts]


ANSWER = ("first", "answer", None)


# --- what a call asks for is part of it -------------------------------------------------------------------------------


def test_the_vector_of_a_call_is_an_attempt_of_it_and_its_cost_and_tokens_count():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, EMERALD)
        caller = await stage.ask("emerald")
        assert caller.said == "ok"
        assert caller.summary is not None
        assert caller.summary.attempts == 2
        assert stage.shown == ["GREEN"]

    call, index = play(scene)
    assert parts(call) == [("examples", "vectors", None), ANSWER]
    lookup = call.attempts[0]
    assert (lookup.usage.input_tokens, lookup.cost_nanousd) == (3, 6_000)
    assert call.usage.input_tokens == 3  # the answer tells none
    assert call.model == "answer"
    assert attempt_attributes(call, lookup)["gen_ai.operation.name"] == "embeddings"
    assert attempt_attributes(call, call.attempts[1])["gen_ai.operation.name"] == "chat"
    assert parts(index) == [("first", "vectors", None)]


def test_the_vectors_of_examples_are_a_call_of_their_own_whose_texts_are_not_kept():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, EMERALD, RUBY)
        await stage.ask("emerald", hints=Hints(subject="ann", session="s"))
        await stage.ask("ruby")
        assert stage.shown == ["GREEN", "RED"]
        assert len(requests(stage.vectors)) == 3

    *_, index = play(scene)
    assert (index.kind, index.name, index.feature, index.outcome) == ("embeddings", "vectors", None, "answered")
    assert (index.tags, index.store, index.request, index.reply) == ({"examples": "answer"}, "metadata", None, None)
    assert (index.usage.input_tokens, index.cost_nanousd) == (6, 12_000)
    assert (index.subject, index.session) == (None, None)


def test_examples_without_vectors_leave_the_call_as_it_is():
    async def scene(gateway: Gateway) -> None:
        gateway.model("answer", Staged(whole("ok")))
        gateway.serve(feature={"examples": ready("examples.jsonl", lambda _: FILE)})
        await gateway.call(Caller(), stream=False)

    (call,) = play(scene)
    assert parts(call) == [ANSWER]


def test_nothing_is_looked_up_for_an_answer_that_is_given_again_or_a_feature_that_is_off():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, EMERALD, feature={"replay": Replay(ttl=60.0, hash=b"x")})
        for _ in range(2):
            assert (await stage.ask("emerald")).said == "ok"
        assert len(requests(stage.vectors)) == 2

    asked, replayed, _ = play(scene)
    assert parts(asked) == [("examples", "vectors", None), ANSWER]
    assert (replayed.replayed, parts(replayed), replayed.cost_nanousd) == ("call-1", [], 0)

    async def off(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, EMERALD, feature={"enabled": False})
        assert (await stage.ask("emerald")).error is not None
        assert len(requests(stage.vectors)) == 0

    (call,) = play(off)
    assert parts(call) == []


# --- what goes wrong leaves the choice to words -----------------------------------------------------------------------


def test_an_error_of_the_provider_is_in_the_record_and_the_model_is_left_alone_for_a_while():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, RUBY, fails(500), EMERALD)
        await stage.ask("ruby")
        assert (await stage.ask("what is green")).said == "ok"
        assert (await stage.ask("what is green")).said == "ok"
        await asyncio.sleep(PAUSE_SECONDS)
        await stage.ask("emerald")
        assert stage.shown == ["RED", "GREEN", "GREEN", "GREEN"]

    _, failed, paused, again, _ = play(scene)
    assert parts(failed) == [("examples", "vectors", "provider_failed"), ANSWER]
    assert (failed.outcome, failed.attempts[0].provider_status) == ("answered", 500)
    assert parts(paused) == [ANSWER]
    assert parts(again) == [("examples", "vectors", None), ANSWER]


def test_vectors_that_cannot_be_read_are_a_failed_attempt():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, whole("no vectors"))
        await stage.ask("what is green")
        assert stage.shown == ["GREEN"]

    call, _ = play(scene)
    assert parts(call) == [("examples", "vectors", "malformed_response"), ANSWER]


def test_failures_of_the_index_are_calls_that_failed_and_no_part_of_the_call():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, fails(401))
        for _ in range(3):
            assert (await stage.ask("what is green")).said == "ok"
        assert stage.shown == ["GREEN"] * 3
        assert len(requests(stage.vectors)) == 1

    *calls, index = play(scene)
    assert [parts(call) for call in calls] == [[ANSWER]] * 3
    assert (index.outcome, index.error) == ("error", "provider_authentication")


def test_a_tenth_of_the_deadline_is_waited_for_and_what_was_late_is_told_as_late():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, SILENT)
        started = gateway.loop.time()
        assert (await stage.ask("what is green")).said == "ok"
        assert gateway.loop.time() == started + SHARE
        assert stage.shown == ["GREEN"]

    call, _ = play(scene)
    assert parts(call) == [("examples", "vectors", "timeout"), ANSWER]
    assert call.attempts[0].duration_us == SHARE * 1e6
    assert (call.attempts[0].cost_nanousd, call.cost_nanousd) == (None, None)  # it may be charged


def test_a_model_that_is_known_to_be_down_is_not_asked():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, RUBY, EMERALD)
        await stage.ask("ruby")
        for _ in range(5):
            stage.vectors.health.breaker.failed(probe=False)
        assert stage.vectors.health.breaker.open
        await stage.ask("what is green")
        assert len(requests(stage.vectors)) == 2
        await asyncio.sleep(1)
        await stage.ask("emerald")  # which is the probe
        assert not stage.vectors.health.breaker.open
        assert stage.shown == ["RED", "GREEN", "GREEN"]

    _, down, probe, _ = play(scene)
    assert parts(down) == [ANSWER]
    assert parts(probe) == [("examples", "vectors", None), ANSWER]


def test_what_comes_of_it_is_told_to_the_breaker():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, RUBY, fails(500))
        await stage.ask("ruby")
        for _ in range(4):
            stage.vectors.health.breaker.failed(probe=False)
        await stage.ask("what is green")
        assert stage.vectors.health.breaker.open

    play(scene)


def test_a_probe_that_fails_or_is_late_gives_its_token_back():
    for wrong in (fails(503), SILENT, fails(400)):

        async def scene(gateway: Gateway, wrong: Play = wrong) -> None:
            stage = Scene(gateway, INDEX, RUBY, wrong)
            await stage.ask("ruby")
            for _ in range(5):
                stage.vectors.health.breaker.failed(probe=False)
            await asyncio.sleep(1)
            assert (await stage.ask("what is green")).said == "ok"

        play(scene)  # which looks for what is left


def test_the_gate_of_the_model_is_entered_and_waited_for_no_longer_than_a_tenth_of_the_deadline():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, RUBY, concurrency=1)
        await stage.ask("ruby")
        gate = stage.vectors.health.gate
        assert gate is not None
        assert gate.try_enter()
        started = gateway.loop.time()
        assert (await stage.ask("what is green")).said == "ok"
        assert started < gateway.loop.time() <= started + SHARE
        assert len(requests(stage.vectors)) == 2
        gate.leave()
        await stage.ask("ruby")  # with no pause: the model was not at fault
        assert stage.shown == ["RED", "GREEN", "RED"]

    _, busy, again, _ = play(scene)
    assert parts(busy) == [ANSWER]
    assert parts(again) == [("examples", "vectors", None), ANSWER]


def test_a_caller_who_hangs_up_meanwhile_leaves_nothing_behind():
    async def scene(gateway: Gateway) -> None:
        stage = Scene(gateway, INDEX, SILENT)
        leaving = asyncio.create_task(stage.ask("ruby"))
        await asyncio.sleep(SHARE / 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving

    call, _ = play(scene)
    assert (call.outcome, parts(call)) == ("cancelled", [("examples", "vectors", "cancelled")])


# --- over HTTP, with all the rest -------------------------------------------------------------------------------------


TALK = ("first", "talk", None)


@pytest.fixture
async def sim():
    async with Simulator() as simulator:
        yield simulator


def configuration(sim: Simulator, *, wire: str = "openai", price: bool = True, limits: str = "") -> str:
    cost = "price = { input = 2.0, output = 10.0 }\n" if price else ""
    return f"""
[models.talk]
provider = "openai"
base_url = "{sim.url("openai")}"
name     = "sim-echo"
price    = {{ input = 2.0, output = 10.0 }}
max_output = 100

[models.vectors]
provider = "{wire}"
base_url = "{sim.url(wire)}"
name     = "sim-echo"
api_key  = {{ env = "PROVIDER_KEY" }}
{cost}
[features.answer]
models   = ["talk"]
examples = {{ file = "examples.jsonl", select = "nearest", k = 1, embeddings = "vectors" }}
{limits}
"""


MANY = "\n".join(f'{{"input": "kelp number {at}", "output": "{at}"}}' for at in range(2 * BATCH + 1))


class Served:
    """A gateway in this process."""

    def __init__(self, directory: Path, config: str) -> None:
        self.file = directory / "holdfast.toml"
        self.file.write_text(config)
        (directory / "examples.jsonl").write_text(MANY)

    async def ask(self, *texts: str) -> list[str]:
        """Make calls one after the other, and return the codes of their errors."""
        ends = []
        async with App(load(self.file)) as app:
            for text in texts:
                asked = Holdfast(app.pipeline, app.new_id)
                try:
                    await asked.chat("answer", text)
                    ends.append("answered")
                except CallError as error:
                    ends.append(error.code)
        return ends

    def logged(self) -> tuple[list[Call], list[Call], Sequence[Spend]]:
        """The calls, oldest first, those for the vectors of examples, and what was spent."""
        log = SqliteLog.read(self.file.parent / ".holdfast/log.db")
        try:
            found = [call for batch in log.scan(Filter()) for call in batch][::-1]
            mine = [call for call in found if call.kind == "chat"]
            return mine, [call for call in found if call.kind != "chat"], log.spend()
        finally:
            log.close()


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("PROVIDER_KEY", "key")


@pytest.mark.parametrize("wire", ["openai", "google"])
async def test_the_vectors_of_any_wire_tell_what_is_near(wire, sim, tmp_path):
    served = Served(tmp_path, configuration(sim, wire=wire))
    assert await served.ask("number 40, please") == ["answered"]
    assert b"kelp number 40" in sim.requests[-1].raw
    (call,), index, _ = served.logged()
    assert parts(call) == [("examples", "vectors", None), TALK]
    assert len(index) == 3  # batches
    assert {call.tags["examples"] for call in index} == {"answer"}


async def test_what_vectors_cost_is_in_the_spend_of_the_feature_and_of_the_model(sim, tmp_path):
    served = Served(tmp_path, configuration(sim))
    await served.ask("number 40, please", "number 41, please")
    calls, index, spend = served.logged()
    spent = {(row.name, row.model): (row.attempts, row.cost_nanousd) for row in spend}
    lookups = [call.attempts[0] for call in calls]
    assert spent["answer", "vectors"] == (2, sum(lookup.cost_nanousd for lookup in lookups))
    assert spent["vectors", "vectors"] == (3, sum(call.cost_nanousd for call in index))
    assert all(call.cost_nanousd == sum(attempt.cost_nanousd for attempt in call.attempts) for call in calls)
    assert all(row.cost_nanousd > 0 for row in spend)


async def test_requests_for_vectors_are_reserved_under_the_limits_of_the_feature(sim, tmp_path):
    served = Served(tmp_path, configuration(sim, limits='requests = "8/day"'))
    ends = await served.ask(*[f"number {at}, please" for at in range(40, 44)])
    assert ends == ["answered", "answered", "limit_exceeded", "limit_exceeded"]
    assert len(sim.requests) == 3 + 2 * 2 + 1  # the last pays for a vector, and not for an answer any more
    calls, _, _ = served.logged()
    assert parts(calls[3]) == [("examples", "vectors", "limit_exceeded"), ("first", "talk", "limit_exceeded")]


async def test_a_limit_that_leaves_nothing_for_a_vector_leaves_the_choice_to_words(sim, tmp_path):
    served = Served(tmp_path, configuration(sim, limits='budget = "0.001usd/day"'))
    assert await served.ask("number 40, please") == ["limit_exceeded"]
    assert sim.requests == []
    (call,), (index,), _ = served.logged()
    assert parts(call) == [("first", "talk", "limit_exceeded")]
    assert (index.outcome, index.error) == ("error", "limit_exceeded")


async def test_a_budget_in_money_keeps_vectors_of_unknown_price_from_being_asked_for(sim, tmp_path):
    served = Served(tmp_path, configuration(sim, price=False, limits='budget = "50usd/day"'))
    assert await served.ask("number 40, please", "number 41, please") == ["answered", "answered"]
    assert len(sim.requests) == 2
    calls, (index,), _ = served.logged()
    assert [parts(call) for call in calls] == [[TALK], [TALK]]
    assert index.error == "price_unknown"
