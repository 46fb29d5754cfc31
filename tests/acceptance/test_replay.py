"""The same question gets the same answer: from one process, whoever asks at once, streamed or not."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from acceptance.gateways import LAST_RESORT, Gateway, configuration
from holdfast.providers.simulated import RunningSimulator

CALLS = 10_000
AT_ONCE = 100
"""Connections of callers."""
MESSAGES = [{"role": "user", "content": "How deep is the kelp?"}]
FEATURES = f"""
[features.same]
models = ["gpt"]
reproducible = true

[features.foreign]
models = ["claude"]
reproducible = true

[features.safe]
models = ["gpt"]
reproducible = true
last_resort = {{ message = "{LAST_RESORT}" }}

[features.brief]
models = ["gpt"]
reproducible = true
replay_ttl = "200ms"

[features.rolled]
models = ["gpt"]
reproducible = true
rollout = 0.5
last_resort = {{ message = "{LAST_RESORT}" }}

[features.secret]
models = ["gpt"]
reproducible = true
store = "none"
"""


class Told:
    """What a caller got: the status, the headers and the bytes of the body."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body
        self.call = response.headers["x-holdfast-call"]

    @property
    def text(self) -> str:
        return json.loads(self.body)["choices"][0]["message"]["content"]

    @property
    def streamed(self) -> str:
        """The text of a whole stream."""
        events = [line.removeprefix(b"data: ") for line in self.body.split(b"\n\n") if line]
        assert events[-1] == b"[DONE]", self.body
        choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
        assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
        return "".join([choice["delta"].get("content") or "" for choice in choices])


@pytest.fixture
def gateway(serve, providers: RunningSimulator) -> Gateway:
    return serve(configuration(providers, more=FEATURES))


@contextlib.asynccontextmanager
async def callers(gateway: Gateway, limit: int = AT_ONCE):
    """Give a function that calls: `await ask(model="same", **fields)`."""
    connector = aiohttp.TCPConnector(limit=limit)
    async with aiohttp.ClientSession(gateway.url, connector=connector) as session:

        async def ask(model: str = "same", headers=None, path: str = "/v1/chat/completions", **fields) -> Told:
            body = {"model": model, "messages": MESSAGES, **fields}
            async with session.post(path, json=body, headers=headers) as response:
                return Told(response, await response.read())

        yield ask


@pytest.mark.parametrize("model", ["same", "foreign"])
async def test_ten_thousand_identical_calls_make_one_upstream_call_and_get_the_same_bytes(gateway, providers, model):
    upstream = {"same": "gpt", "foreign": "claude"}[model]
    providers.follow({"models": {upstream: "ttft=200ms"}})
    async with callers(gateway) as ask:
        told = await asyncio.gather(*[ask(model) for _ in range(CALLS)])
    assert {one.status for one in told} == {200}
    assert len({one.body for one in told}) == 1
    assert told[0].text == MESSAGES[0]["content"]
    assert len({one.call for one in told}) == CALLS
    assert len(providers.received(upstream)) == 1


async def test_the_model_is_asked_at_temperature_zero_with_a_seed(gateway, providers):
    async with callers(gateway) as ask:
        await ask(temperature=0.9, top_p=0.5)
        await ask(seed=17, n=2, temperature=0.9)
    first, second = [record.body for record in providers.received("gpt")]
    assert (first["temperature"], first.get("top_p")) == (0, None)
    assert isinstance(first["seed"], int)
    assert (second["temperature"], second["seed"], second["n"]) == (0.9, 17, 2)


async def test_a_call_that_is_given_an_answer_again_costs_nothing_and_says_whose_it_was(gateway, providers):
    async with callers(gateway) as ask:
        first, again = await ask(), await ask()
    assert (again.body, again.headers["x-holdfast-outcome"]) == (first.body, "answered")
    assert again.headers["x-holdfast-attempts"] == "0"
    assert float(again.headers["x-holdfast-cost"]) == 0
    assert again.headers["x-holdfast-model"] == first.headers["x-holdfast-model"] == "gpt"
    logged = gateway.call(again.call)
    assert (logged["replayed"], logged["attempts"], logged["outcome"]) == (first.call, [], "answered")
    assert gateway.call(first.call).get("replayed") is None


@pytest.mark.parametrize("order", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("model", ["same", "foreign"])
async def test_an_answer_is_given_again_in_the_way_it_is_asked_for(gateway, providers, model, order):
    async with callers(gateway) as ask:
        for stream in (*order, *order):
            told = await ask(model, stream=stream)
            assert (told.streamed if stream else told.text) == MESSAGES[0]["content"]
    assert len(providers.received({"same": "gpt", "foreign": "claude"}[model])) == 1


async def test_streams_and_whole_answers_at_once_make_one_upstream_call(gateway, providers):
    providers.follow({"models": {"gpt": "ttft=200ms,tps=50"}})
    async with callers(gateway) as ask:
        told = await asyncio.gather(*[ask(stream=n % 2 == 0) for n in range(200)])
    assert {one.streamed for one in told[::2]} == {one.text for one in told[1::2]} == {MESSAGES[0]["content"]}
    assert len({one.body for one in told[1::2]}) == 1
    assert len(providers.received("gpt")) == 1


async def test_whatever_can_change_the_answer_is_asked_anew(gateway, providers):
    changes = [
        {},
        {"messages": [*MESSAGES, {"role": "user", "content": "Really?"}]},
        {"max_tokens": 100},
        {"unheard_of": 1},
        {"user": "ann"},
        {"headers": {"x-holdfast-subject": "ann"}},
        {"headers": {"x-holdfast-subject": "bob"}},
        {"model": "safe"},
    ]
    async with callers(gateway) as ask:
        for _ in range(2):
            for change in changes:
                await ask(**change)
    assert len(providers.received("gpt")) == len(changes)


async def test_when_the_first_fails_the_others_are_answered_by_the_next(gateway, providers):
    providers.follow({"models": {"gpt": {"steps": ["status=500,ttft=100ms"]}}})
    async with callers(gateway) as ask:
        told = await asyncio.gather(*[ask() for _ in range(50)])
    assert sorted(one.status for one in told) == [200] * 49 + [502]
    assert len({one.body for one in told if one.status == 200}) == 1
    assert len(providers.received("gpt")) == 2


async def test_when_the_first_caller_hangs_up_the_next_one_takes_over(gateway, providers):
    providers.follow({"models": {"gpt": "ttft=400ms"}})
    async with callers(gateway) as ask:
        first = asyncio.create_task(ask())
        await asyncio.to_thread(providers.wait_for, lambda record: record.model == "gpt")
        others = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0.1)
        first.cancel()
        told = await asyncio.gather(*others)
    assert {one.status for one in told} == {200}
    assert len({one.body for one in told}) == 1
    assert len(providers.received("gpt")) == 2


async def test_who_can_not_wait_for_the_first_gets_a_last_resort_in_time_which_is_never_given_again(gateway, providers):
    providers.follow({"models": {"gpt": "ttft=1s"}})
    async with callers(gateway) as ask:
        first = asyncio.create_task(ask("safe"))
        await asyncio.to_thread(providers.wait_for, lambda record: record.model == "gpt")
        hurried = await ask("safe", headers={"x-holdfast-deadline-ms": "300"})
        assert (hurried.text, hurried.headers["x-holdfast-outcome"]) == (LAST_RESORT, "last_resort")
        assert (await first).text == MESSAGES[0]["content"]
        assert (await ask("safe")).text == MESSAGES[0]["content"]
    assert len(providers.received("gpt")) == 1


async def test_a_last_resort_is_not_given_again(gateway, providers):
    providers.follow({"models": {"gpt": {"steps": ["status=500"]}}})
    async with callers(gateway) as ask:
        assert (await ask("safe")).text == LAST_RESORT
        assert (await ask("safe")).text == MESSAGES[0]["content"]


async def test_an_answer_is_asked_for_anew_once_its_time_is_over(gateway, providers):
    async with callers(gateway) as ask:
        await ask("brief")
        await ask("brief")
        assert len(providers.received("gpt")) == 1
        await asyncio.sleep(0.25)
        await ask("brief")
    assert len(providers.received("gpt")) == 2


async def test_what_is_not_to_be_stored_is_shared_at_once_and_not_later(gateway, providers):
    providers.follow({"models": {"gpt": "ttft=200ms"}})
    async with callers(gateway) as ask:
        await asyncio.gather(*[ask("secret") for _ in range(10)])
        assert len(providers.received("gpt")) == 1
        await ask("secret")
    assert len(providers.received("gpt")) == 2


async def test_who_is_not_served_by_models_gets_no_answer_of_theirs_again(gateway, providers):
    sessions = [{"x-holdfast-session": str(number)} for number in range(40)]
    async with callers(gateway) as ask:
        told = [await ask("rolled", headers=headers) for headers in sessions]
    outcomes = [one.headers["x-holdfast-outcome"] for one in told]
    assert {"answered", "last_resort"} == set(outcomes)
    assert [one.text == LAST_RESORT for one in told] == [outcome == "last_resort" for outcome in outcomes]
    assert len(providers.received("gpt")) == 1
