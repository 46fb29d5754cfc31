"""`holdfast.open`: the same pipeline inside an application's own process."""

import asyncio
import time
from contextlib import aclosing
from decimal import Decimal

import pytest

import holdfast
from acceptance.gateways import FILES, LAST_RESORT, MODELS, PROVIDER_KEY, configuration
from acceptance.logs import opened_log
from acceptance.sdks import PIXEL, QUESTION, USER, WEATHER
from holdfast.errors import (
    BadRequest,
    BrokenStream,
    ContextTooLong,
    DeadlineExceeded,
    FeatureDisabled,
    InvalidRequest,
    RateLimited,
    UnknownModel,
)
from holdfast.log.base import Filter

every_wire = pytest.mark.parametrize("model", MODELS)
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]


@pytest.fixture
def file(providers, tmp_path, monkeypatch):
    monkeypatch.setenv("PROVIDER_KEY", PROVIDER_KEY)
    for name, text in {**FILES, "holdfast.toml": configuration(providers)}.items():
        (tmp_path / name).write_text(text)
    return tmp_path / "holdfast.toml"


@pytest.fixture
async def h(file):
    async with holdfast.open(file) as opened:
        yield opened


def _calls(file):
    with opened_log(file.parent / ".holdfast") as log:
        return [log.get(call.id) for batch in log.scan(Filter()) for call in batch]


@every_wire
async def test_a_chat_is_answered(h, model):
    answer = await h.chat(model, QUESTION)
    assert (answer.text, answer.outcome, answer.model, answer.attempts) == (QUESTION, "answered", model, 1)
    assert answer.cost == Decimal("0.00006")
    assert answer.reply.usage.output_tokens == 5
    assert abs(answer.reply.created - time.time()) < 5


@every_wire
async def test_a_stream_comes_as_it_is_spoken(h, providers, model):
    providers.follow({"models": {model: "words=9,tps=50"}})
    chunks, fate = [], None
    async for chunk in h.stream(model, USER):
        fate = fate or providers.received(model)[0].fate
        chunks.append(chunk)
    assert len("".join([chunk.text for chunk in chunks]).split()) == 9
    assert [chunk.finish for chunk in chunks if chunk.finish] == ["stop"]
    assert fate == "pending"


@every_wire
async def test_tools_images_and_formats_are_openais(h, providers, model):
    answer = await h.chat(model, QUESTION, tools=TOOLS, tool_choice="required")
    (call,) = answer.reply.choices[0].parts
    assert (call.name, answer.reply.choices[0].finish) == ("weather", "tool_calls")
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    await h.chat(model, [{"role": "user", "content": [{"type": "text", "text": QUESTION}, image]}], temperature=0.1)
    assert PIXEL.encode() in providers.received(model)[1].raw
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    assert '"city"' in (await h.chat(model, QUESTION, response_format=schema)).text


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_texts_are_embedded(h, model):
    reply = await h.embed(model, ["reset my password", "kelp forests"], dimensions=16)
    assert [len(vector) for vector in reply.vectors] == [16, 16]
    assert all(isinstance(value, float) for vector in reply.vectors for value in vector)


@pytest.mark.parametrize(
    ("how", "error"),
    [("status=429,retry_after=7", RateLimited), ("status=400", BadRequest), ("context=2", ContextTooLong)],
)
async def test_failures_are_raised_as_what_they_are(h, providers, how, error):
    providers.follow({"models": {"gpt": how}})
    with pytest.raises(error) as caught:
        await h.chat("gpt", QUESTION)
    assert caught.value.retry_after == (7 if error is RateLimited else None)
    with pytest.raises(error):
        _ = [chunk async for chunk in h.stream("gpt", QUESTION)]


@pytest.mark.parametrize(
    ("model", "messages", "more", "error"),
    [
        ("nope", QUESTION, {}, UnknownModel),
        ("gpt", [], {}, InvalidRequest),
        ("gpt", [{"role": "pirate", "content": "Arr"}], {}, InvalidRequest),
        ("gpt", QUESTION, {"temperature": 9}, InvalidRequest),
        ("gpt", QUESTION, {"metadata": object()}, InvalidRequest),
        ("gpt", QUESTION, {"hints": {"deadline_ms": 0}}, InvalidRequest),
        ("gpt", QUESTION, {"hints": {"colour": "blue"}}, InvalidRequest),
        ("greeting", QUESTION, {"hints": {"variables": {"name": "Ada"}}}, InvalidRequest),
        ("dark", QUESTION, {}, FeatureDisabled),
    ],
)
async def test_what_is_wrong_with_a_call_is_a_typed_error(h, providers, model, messages, more, error):
    with pytest.raises(error):
        await h.chat(model, messages, **more)
    with pytest.raises(error):
        _ = [chunk async for chunk in h.stream(model, messages, **more)]
    assert providers.requests == []


async def test_one_text_is_one_vector(h):
    assert len((await h.embed("gpt", "kelp")).vectors) == 1


@pytest.mark.parametrize("texts", [[], ["a", 1], [None], object()])
async def test_what_can_not_be_embedded_is_a_typed_error(h, providers, texts):
    with pytest.raises(InvalidRequest):
        await h.embed("gpt", texts)
    assert providers.requests == []


async def test_a_feature_falls_back_and_ends_in_its_last_resort(h, providers):
    providers.follow({"models": {"gpt": "status=503"}})
    answer = await h.chat("answer", QUESTION)
    assert (answer.text, answer.model, answer.attempts) == (QUESTION, "claude", 2)
    providers.follow({"default": "status=503"})
    answer = await h.chat("careful", QUESTION)
    assert (answer.text, answer.outcome, answer.model) == (LAST_RESORT, "last_resort", None)
    assert "".join([chunk.text async for chunk in h.stream("careful", QUESTION)]) == LAST_RESORT


async def test_a_stream_that_breaks_raises_after_what_was_said(h, providers):
    providers.follow({"models": {"gpt": "words=9,cut=3"}})
    chunks = []

    async def read():
        async for chunk in h.stream("gpt", QUESTION):
            chunks.append(chunk)  # noqa: PERF401 - kept when it breaks

    with pytest.raises(BrokenStream):
        await read()
    assert len("".join([chunk.text for chunk in chunks]).split()) == 3
    assert not any(chunk.finish for chunk in chunks)


@pytest.mark.parametrize("how", ["closed", "dropped"])
async def test_leaving_a_stream_early_cancels_it_at_the_provider(h, providers, how):
    providers.follow({"models": {"gpt": "words=500,tps=100"}})
    if how == "closed":
        async with aclosing(h.stream("gpt", QUESTION)) as stream:
            await anext(stream)
    else:
        async for _ in h.stream("gpt", QUESTION):
            break
    left = time.monotonic()
    record = await asyncio.to_thread(providers.wait_for, lambda record: record.hung_up_at is not None)
    assert record.hung_up_at - left < 0.1


async def test_cancelling_a_call_cancels_it_at_the_provider(h, providers):
    providers.follow({"models": {"gpt": "stall=start"}})
    asking = asyncio.ensure_future(h.chat("gpt", QUESTION))
    await asyncio.to_thread(providers.wait_for, lambda record: record.model == "gpt")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    left = time.monotonic()
    record = await asyncio.to_thread(providers.wait_for, lambda record: record.hung_up_at is not None)
    assert record.hung_up_at - left < 0.1


async def test_a_slow_reader_slows_the_stream_and_gets_all_of_it(h, providers):
    providers.follow({"models": {"gpt": "words=2000"}})
    words = 0
    async for chunk in h.stream("gpt", QUESTION):
        words += len(chunk.text.split())
        if words % 500 == 0:
            await asyncio.sleep(0.01)
    assert words == 2000


async def test_who_reads_on_after_the_deadline_gets_what_was_said_and_the_error(h, providers):
    providers.follow({"models": {"gpt": "words=2000"}})
    chunks = []

    async def read():
        async for chunk in h.stream("gpt", QUESTION, hints={"deadline_ms": 100}):
            if not chunks:
                await asyncio.sleep(1.3)  # nobody reads until long after the call has ended
            chunks.append(chunk)

    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(read(), 5)
    assert 1 < len(chunks) < 200


async def test_a_deadline_ends_in_a_typed_error(h, providers):
    providers.follow({"default": "stall=start"})
    begin = time.monotonic()
    with pytest.raises((DeadlineExceeded, holdfast.CallError)) as caught:
        await h.chat("answer", QUESTION, hints={"deadline_ms": 150})
    assert time.monotonic() - begin < 0.15 + 0.05 + 0.1
    assert caught.value.status == 504


async def test_every_call_is_in_the_log_with_its_hints(file, providers):
    async with holdfast.open(file) as h:
        hints = {"session": "s1", "subject": "ada@example.com", "tags": {"a": "b"}}
        answer = await h.chat("answer", QUESTION, hints=hints)
        with pytest.raises(UnknownModel):
            await h.chat("nope", QUESTION)
        providers.follow({"models": {"gpt": "words=500,tps=100"}})
        async with aclosing(h.stream("gpt", QUESTION)) as stream:
            async for chunk in stream:
                if chunk.text:
                    break
    by_outcome = {call.outcome: call for call in _calls(file)}
    assert set(by_outcome) == {"answered", "error", "cancelled"}
    call = by_outcome["answered"]
    assert (call.id, call.session, call.tags, call.feature) == (answer.call, "s1", {"a": "b"}, "answer")
    assert call.subject
    assert "ada" not in call.subject
    assert call.reply.text == QUESTION
    assert by_outcome["error"].error == "model_not_found"


async def test_many_calls_at_once_each_get_their_own_answer(h):
    answers = await asyncio.gather(*[h.chat(MODELS[number % 3], f"number {number}") for number in range(60)])
    assert [answer.text for answer in answers] == [f"number {number}" for number in range(60)]
    assert len({answer.call for answer in answers}) == 60


async def test_a_wrong_configuration_is_refused(tmp_path):
    (tmp_path / "holdfast.toml").write_text('[features.a]\nmodels = ["nope"]\n')
    with pytest.raises(holdfast.ConfigError, match=r"holdfast\.toml:2: features\.a\.models\[0\]"):
        async with holdfast.open(tmp_path / "holdfast.toml"):
            pass
    with pytest.raises(holdfast.ConfigError):
        async with holdfast.open(tmp_path / "missing.toml"):
            pass
