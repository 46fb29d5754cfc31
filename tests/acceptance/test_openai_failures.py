"""What the `openai` package makes of failures: its own exceptions, retries and timeouts, and never a false success."""

import asyncio
import contextlib
import re
import time
import uuid

import openai
import pytest

from acceptance.gateways import MODELS, configuration
from acceptance.sdks import QUESTION, USER, closed, each, listed, settled
from holdfast.providers.simulated import Simulator

HANG_UP_SECONDS = 0.1
"""How soon the provider must see that the caller has hung up."""
pytestmark = pytest.mark.asyncio(loop_scope="session")
every_wire = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


async def _ask(gpt, model, streamed=False, **parameters):
    """Take a whole answer, or a stream to its end."""
    reply = gpt.chat.completions.create(model=model, messages=USER, stream=streamed, **parameters)
    return await (listed(reply) if streamed else settled(reply))


async def _collect(stream, seen):
    async for chunk in each(stream):
        seen.append(chunk)


def _behave(providers, model, how):
    providers.follow({"models": {model: how}})


# --- errors -----------------------------------------------------------------------------------------------------------


@every_wire
@both_ways
@pytest.mark.parametrize(
    ("how", "error", "status", "code"),
    [
        ("status=400", openai.BadRequestError, 400, "bad_request"),
        ("status=401", openai.InternalServerError, 502, "provider_authentication"),
        ("status=403", openai.InternalServerError, 502, "provider_authentication"),
        ("status=404", openai.InternalServerError, 502, "model_unavailable"),
        ("status=429,retry_after=7", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("status=500", openai.InternalServerError, 502, "provider_failed"),
        ("status=503", openai.InternalServerError, 503, "overloaded"),
        ("context=2", openai.BadRequestError, 400, "context_length_exceeded"),
        ("reset=start", openai.InternalServerError, 502, "connection_failed"),
        ("cut=start", openai.InternalServerError, 502, "connection_failed"),
        ("cut=0", openai.InternalServerError, 502, "connection_failed"),
    ],
)
async def test_failures_are_the_sdks_own_exceptions(gpt, gateway, providers, model, streamed, how, error, status, code):
    _behave(providers, model, how)
    with pytest.raises(error) as caught:
        await _ask(gpt, model, streamed)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers["x-holdfast-outcome"] == "error"
    cost = None if how == "cut=0" else "0.000000000"  # nobody knows what is charged for an answer that has begun
    assert caught.value.response.headers.get("x-holdfast-cost") == cost
    call = gateway.call(caught.value.response.headers["x-holdfast-call"])
    assert caught.value.body["call"] == call["id"]
    assert (call["outcome"], call["status"], call["cost_usd"]) == ("error", status, cost)
    assert call["message"] == caught.value.body["message"]
    assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


@every_wire
@both_ways
async def test_a_refused_prompt_is_told_as_this_wire_tells_it(gpt, providers, model, streamed):
    _behave(providers, model, "refuse=prompt")
    if model == "claude":  # its own answer is a message without words
        answer = await _ask(gpt, model, streamed)
        choices = [choice for chunk in answer for choice in chunk.choices] if streamed else answer.choices
        assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["content_filter"]
        return
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, model, streamed)
    assert caught.value.code == "content_filter"


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "pirate", "content": "Arr"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"holdfast": {"deadline_ms": "soon"}}, "holdfast.deadline_ms"),
        ({"holdfast": {"colour": "blue"}}, "holdfast.colour"),
        ({"holdfast": "blue"}, "holdfast"),
        ({"model": ""}, "model"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(gpt, providers, wrong, param):
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, "gpt", extra_body=wrong)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.response.headers["x-holdfast-call"]
    assert providers.requests == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", b""),
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b"\xff\xfe"),
        ("/v1/chat/completions", b'{"model":"gpt","messages":[{"role":"user","content":"\xff"}]}'),
        ("/v1/chat/completions", b'{"model":"gpt","messages":' + b"[" * 100_000),
        ("/v1/chat/completions", b'{"model":"gpt\\ud800","messages":[{"role":"user","content":"a"}]}'),
        ("/v1/embeddings", b'{"model":"gpt","input":[]}'),
        ("/v1/embeddings", b'{"model":"gpt","input":[1,"a"]}'),
        ("/v1/embeddings", b'{"model":"gpt","input":"a","encoding_format":"morse"}'),
    ],
)
async def test_a_broken_body_is_a_bad_request(gateway, providers, path, body):
    status, answer = gateway.post(path, body)
    assert status in (400, 404)
    assert answer["error"]["message"]
    assert providers.requests == []


@both_ways
async def test_an_unknown_model_is_not_found_and_the_known_are_named(gpt, streamed):
    with pytest.raises(openai.NotFoundError, match=r"no feature or model 'nope'\. Known: answer, careful") as caught:
        await _ask(gpt, "nope", streamed)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


async def test_other_addresses_and_methods_are_refused(gpt):
    with pytest.raises(openai.NotFoundError):
        await settled(gpt.moderations.create(input="x"))
    with pytest.raises(openai.APIStatusError) as caught:
        await settled(gpt.get("/chat/completions", cast_to=object))
    assert caught.value.status_code == 405


async def test_a_body_that_is_too_large_is_refused_also_to_who_is_still_sending(serve, simulator, providers):
    gateway = serve(configuration(simulator, gateway='max_body = "1MB"'))
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:
        for size in (1_000_000, 20_000_000, 20_000_000):
            with pytest.raises(openai.APIStatusError, match="larger than 1000000 bytes") as caught:
                gpt.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "k" * size}])
            assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
        assert (await _ask(gpt, "gpt")).choices[0].message.content == QUESTION
    assert len(providers.requests) == 1


@pytest.mark.parametrize(
    ("header", "value", "status", "code"),
    [
        ("origin", "https://evil.example", 403, "not_allowed"),
        ("host", "evil.example", 403, "not_allowed"),
        ("x-large", "a" * 70_000, 431, "headers_too_large"),
    ],
)
async def test_what_a_web_page_elsewhere_or_a_large_head_sends_is_refused(
    gateway, providers, header, value, status, code
):
    answer = gateway.post("/v1/chat/completions", {"model": "gpt", "messages": USER}, {header: value})
    assert (answer[0], answer[1]["error"]["code"]) == (status, code)
    assert providers.requests == []


async def test_a_head_that_never_ends_is_refused(gateway):
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
    for _ in range(50):
        writer.write(b"x-filler: " + b"a" * 8000 + b"\r\n")
        await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


# --- streams that break -----------------------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize(
    "how", ["cut=3", "reset=3", "cut=6e", "cut=3u", "cut=end", "error_event=3", "malformed=bad_json,at=3"]
)
async def test_a_stream_that_breaks_raises_and_never_ends_well(gpt, gateway, providers, model, how):
    _behave(providers, model, f"words=9,{how}")
    seen = []
    with pytest.raises(openai.APIError) as caught:
        await _collect(gpt.chat.completions.create(model=model, messages=USER, stream=True), seen)
    choices = [choice for chunk in seen for choice in chunk.choices]
    text = "".join([choice.delta.content or "" for choice in choices])
    assert text
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == []
    call = gateway.call(caught.value.body["call"])
    assert (call["outcome"], call["status"]) == ("error", 503 if how.startswith("error_event") else 502)
    said = [part["text"] for choice in call["reply"].get("choices", ()) for part in choice.get("parts", ())]
    assert "".join(said) == text
    assert [attempt["estimated"] for attempt in call["attempts"]] == [True] * len(call["attempts"])
    assert float(call["cost_usd"]) == sum([float(attempt["cost_usd"]) for attempt in call["attempts"]]) > 0


@every_wire
async def test_a_stream_that_falls_silent_raises(gpt, gateway, providers, model):
    """The gateway gives up after `idle`, long before the caller's own timeout."""
    _behave(providers, "gpt", "words=9,stall=3")
    with pytest.raises(openai.APIError) as caught:
        await _ask(gpt, "impatient", streamed=True)
    first, *_ = gateway.call(caught.value.body["call"])["attempts"]
    assert first["error"] == "broken_stream"
    assert "idle" in first["message"]


# --- the SDK's retries ------------------------------------------------------------------------------------------------


async def test_the_sdk_waits_as_long_as_the_provider_asks(gpt, gateway, providers):
    providers.follow({"models": {"gpt": {"steps": ["status=429,retry_after=1"], "text": "Yes."}}})
    reply = await _ask(gpt.with_options(max_retries=2), "gpt")
    assert reply.choices[0].message.content == "Yes."
    first, second = providers.received("gpt")
    assert [first.status, second.status] == [429, 200]
    assert 1.0 <= second.at - first.at < 2.0


async def test_the_sdk_tries_an_outage_again_and_a_bad_request_never(gpt, providers):
    providers.follow({"models": {"gpt": {"steps": ["status=503", "status=400"]}}})
    with pytest.raises(openai.BadRequestError):
        await _ask(gpt.with_options(max_retries=5), "gpt")
    assert [record.status for record in providers.received("gpt")] == [503, 400]


# --- callers that hang up ---------------------------------------------------------------------------------------------


def _session():
    return {"x-holdfast-session": uuid.uuid4().hex}


def _hung_up_in_time(gateway, providers, model, session, left):
    record = providers.wait_for(lambda record: record.hung_up_at is not None)
    assert record.model == model
    assert record.hung_up_at - left < HANG_UP_SECONDS
    (call,) = gateway.calls(session=session["x-holdfast-session"])
    assert (call["outcome"], call["error"], call["status"]) == ("cancelled", "cancelled", 499)
    assert [attempt["error"] for attempt in call["attempts"]] == ["cancelled"]


@every_wire
@both_ways
async def test_when_the_callers_patience_ends_the_provider_hears_it_at_once(gpt, gateway, providers, model, streamed):
    _behave(providers, model, "stall=start")
    session = _session()
    with pytest.raises(openai.APITimeoutError):
        await _ask(gpt.with_options(timeout=0.15), model, streamed, extra_headers=session)
    _hung_up_in_time(gateway, providers, model, session, time.monotonic())


@every_wire
async def test_a_stream_that_is_left_early_is_cancelled_at_the_provider(gpt, gateway, providers, model):
    _behave(providers, model, "words=500,tps=100")
    session, create = _session(), gpt.chat.completions.create
    stream = await settled(create(model=model, messages=USER, stream=True, extra_headers=session))
    seen = []
    async for chunk in each(stream):
        seen.append(chunk)
        if len(seen) == 3:
            break
    await closed(stream)
    _hung_up_in_time(gateway, providers, model, session, time.monotonic())


async def test_a_cancelled_task_is_cancelled_at_the_provider(gateway, providers):
    _behave(providers, "gpt", "ttft=30s")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:
        session, create = _session(), gpt.chat.completions.create
        asking = asyncio.ensure_future(create(model="gpt", messages=USER, extra_headers=session))
        await asyncio.to_thread(providers.wait_for, lambda record: record.model == "gpt")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    _hung_up_in_time(gateway, providers, "gpt", session, time.monotonic())


async def test_a_caller_who_leaves_takes_no_other_with_it(gateway, providers):
    _behave(providers, "gpt", "words=40,tps=100")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:

        async def ask(leave):
            words = 0
            stream = await gpt.chat.completions.create(model="gpt", messages=USER, stream=True)
            async for _ in stream:
                words += 1
                if words == leave:
                    break
            await stream.close()
            return words

        words = await asyncio.gather(*[ask(leave) for leave in (3, 999, 5, 999, 7, 999)])
    assert words[::2] == [3, 5, 7]
    assert len(set(words[1::2])) == 1
    assert words[1] > 40


async def test_many_callers_at_once_get_each_their_own_answer(gateway, providers):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:

        async def ask(number, streamed):
            said = [{"role": "user", "content": f"number {number} of them"}]
            reply = gpt.chat.completions.create(model=MODELS[number % 3], messages=said, stream=streamed)
            if not streamed:
                return (await reply).choices[0].message.content
            return "".join([c.delta.content or "" for chunk in await listed(reply) for c in chunk.choices])

        texts = await asyncio.gather(*[ask(number, number % 2 == 0) for number in range(60)])
    assert texts == [f"number {number} of them" for number in range(60)]


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "close=true"])
async def test_a_connection_that_the_provider_closes_between_calls_is_never_noticed(gpt, providers, how):
    _behave(providers, "gpt", f"{how.partition('=')[0]}={'true' if '=' in how else 'false'}")
    for _ in range(5):
        assert (await _ask(gpt, "gpt")).choices[0].message.content == QUESTION


async def test_a_connection_that_dies_before_its_headers_is_tried_once_more(serve, simulator, providers):
    providers.follow({"models": {"gpt": {"steps": ["reset=start"]}}})
    gateway = serve(configuration(simulator, retry_share=1.0))
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:
        raw = gpt.chat.completions.with_raw_response.create(model="gpt", messages=USER)
    assert raw.headers["x-holdfast-attempts"] == "2"
    call = gateway.call(raw.headers["x-holdfast-call"])
    assert [attempt["error"] for attempt in call["attempts"]] == ["connection_failed", None]
    assert call["cost_usd"] == "0.000060000"


async def test_a_provider_that_is_not_there_is_a_typed_error(serve, tmp_path):
    async with Simulator() as gone:
        address = gone.url("openai")
    gateway = serve(f'[models.gone]\nprovider = "openai"\nbase_url = "{address}"\n')
    gpt = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
    with gpt, pytest.raises(openai.InternalServerError) as caught:
        gpt.chat.completions.create(model="gone", messages=USER)
    assert (caught.value.status_code, caught.value.code) == (502, "connection_failed")
    assert re.search(r"127\.0\.0\.1:\d+", caught.value.body["message"])
