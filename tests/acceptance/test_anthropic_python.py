"""The `anthropic` package works unchanged, whatever wire the model behind the gateway speaks."""

import json
import time
import uuid

import anthropic
import pytest

from acceptance.gateways import CALLER_KEY, LAST_RESORT, MODELS, PROVIDER_KEY
from acceptance.sdks import PDF, PIXEL, QUESTION, USER, WEATHER, Depth, closed, each, listed, opened, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": WEATHER}
every_wire = pytest.mark.parametrize("model", MODELS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


async def _ask(claude, model, streamed=False, **parameters):
    """Take a whole message, also where it is streamed."""
    asked = {"model": model, "messages": USER, "max_tokens": 99, **parameters}
    if not streamed:
        return await settled(claude.messages.create(**asked))
    async with opened(claude.messages.stream(**asked)) as stream:
        return await settled(stream.get_final_message())


def _texts(message):
    return [block.text for block in message.content if block.type == "text"]


# --- messages ---------------------------------------------------------------------------------------------------------


@every_wire
@both_ways
async def test_a_message_is_answered_by_the_model_with_its_usage(claude, model, streamed):
    message = await _ask(claude, model, streamed, extra_body={"temperature": 0.5})
    assert (message.type, message.role, message.stop_reason) == ("message", "assistant", "end_turn")
    assert _texts(message) == [QUESTION]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (5, 5)
    assert message.id


@every_wire
async def test_what_is_told_beside_the_answer_is_in_the_headers(claude, gateway, model):
    raw = await settled(claude.messages.with_raw_response.create(model=model, messages=USER, max_tokens=99))
    told = {name: value for name, value in raw.headers.items() if name.startswith("x-holdfast-")}
    call = gateway.call(told.pop("x-holdfast-call"))
    assert told == {
        "x-holdfast-model": model,
        "x-holdfast-outcome": "answered",
        "x-holdfast-attempts": "1",
        "x-holdfast-cost": "0.000060000",
    }
    assert (call["wire"], call["cost_usd"], call["outcome"]) == ("anthropic", "0.000060000", "answered")


@every_wire
async def test_the_events_of_a_stream_are_those_of_the_wire(claude, gateway, model):
    events = await listed(claude.messages.create(model=model, messages=USER, max_tokens=99, stream=True))
    kinds = [event.type for event in events if event.type != "ping"]
    assert kinds == [
        "message_start", "content_block_start", *["content_block_delta"] * 5, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    deltas = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(deltas) == QUESTION
    told = events[-1].model_extra["holdfast"]
    assert told == {"call": told["call"], "outcome": "answered", "model": model, "attempts": 1, "cost": "0.000060000"}
    assert gateway.call(told["call"])["usage"]["output_tokens"] == 5


@every_wire
async def test_a_stream_is_relayed_as_it_comes(claude, providers, model):
    providers.follow({"models": {model: "words=9,tps=50"}})
    seen = []
    async for event in each(claude.messages.create(model=model, messages=USER, max_tokens=99, stream=True)):
        if event.type == "content_block_delta" and not seen:
            seen.append(providers.received(model)[0].fate)
    assert seen == ["pending"]


@every_wire
async def test_the_providers_key_is_sent_and_the_callers_never(claude, providers, model):
    await _ask(claude, model)
    (record,) = providers.received(model)
    sent = f"{record.path} {record.headers} {record.raw!r}"
    assert PROVIDER_KEY in sent
    assert CALLER_KEY not in sent


@every_wire
async def test_a_conversation_reaches_the_model_whole(claude, providers, model):
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello, diver."}]},
        {"role": "user", "content": [{"type": "text", "text": "Ünïcödé 🌊", "cache_control": {"type": "ephemeral"}}]},
    ]
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    message = await _ask(claude, model, messages=messages, system=system)
    assert _texts(message) == ["Ünïcödé 🌊"]
    body = providers.received(model)[0].body
    told = json.dumps(body, ensure_ascii=False)
    assert all(words in told for words in ("Be brief.", "Hello, diver.", "Ünïcödé 🌊"))
    assert ("cache_control" in told) == (model == "claude")


async def test_fields_that_the_gateway_does_not_know_reach_a_model_of_the_same_wire(claude, providers):
    own = {"metadata": {"user_id": "u1"}, "service_tier": "auto"}
    beta = {"anthropic-beta": "context-1m-2025-08-07"}
    await _ask(claude, "claude", extra_body={**own, "brand_new": {"a": [1, 2]}}, extra_headers=beta)
    body = providers.received("claude")[0].body
    assert {name: body[name] for name in own} == own
    assert body["brand_new"] == {"a": [1, 2]}
    assert body["max_tokens"] == 99


@every_wire
@both_ways
async def test_limits_and_stop_sequences_are_the_callers(claude, model, streamed):
    message = await _ask(claude, model, streamed, max_tokens=2)
    assert (_texts(message), message.stop_reason) == (["How deep"], "max_tokens")
    message = await _ask(claude, model, streamed, stop_sequences=[" the"])
    assert _texts(message) == ["How deep is"]
    assert message.stop_reason == ("end_turn" if model == "gemini" else "stop_sequence")


# --- tools ------------------------------------------------------------------------------------------------------------


@every_wire
@both_ways
@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "weather"}])
async def test_a_tool_is_called_with_arguments(claude, model, choice, streamed):
    message = await _ask(claude, model, streamed, tools=[TOOL], tool_choice=choice)
    (block,) = message.content
    assert (block.type, block.name, block.input) == ("tool_use", "weather", {"city": QUESTION, "days": 2})
    assert block.id
    assert message.stop_reason == "tool_use"


@every_wire
async def test_the_arguments_of_a_tool_are_streamed(claude, model):
    stream = claude.messages.create(model=model, messages=USER, max_tokens=99, tools=[TOOL], stream=True)
    events = await listed(stream)
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"city": QUESTION, "days": 2}


@every_wire
@both_ways
async def test_the_result_of_a_tool_goes_back_to_the_model(claude, providers, model, streamed):
    first = await _ask(claude, model, streamed, tools=[TOOL])
    result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "3 metres of rain"}
    said = [block.model_dump(exclude_none=True) for block in first.content]
    turns = [*USER, {"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
    message = await _ask(claude, model, messages=turns, tools=[TOOL])
    assert _texts(message) == [QUESTION]
    body = json.dumps(providers.received(model)[1].body)
    assert "3 metres of rain" in body
    assert first.content[0].id in body or model == "gemini"


# --- images, files, structured output, thinking -----------------------------------------------------------------------


@every_wire
async def test_an_image_reaches_the_model_in_its_own_wire(claude, providers, model):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    content = [image, {"type": "text", "text": QUESTION}]
    message = await _ask(claude, model, messages=[{"role": "user", "content": content}])
    assert _texts(message) == [QUESTION]
    body = providers.received(model)[0].body
    match model:
        case "gpt":
            url = {"url": f"data:image/png;base64,{PIXEL}"}
            assert body["messages"][0]["content"][0] == {"type": "image_url", "image_url": url}
        case "claude":
            assert body["messages"][0]["content"] == content
        case "gemini":
            assert body["contents"][0]["parts"][0] == {"inlineData": {"mimeType": "image/png", "data": PIXEL}}


@every_wire
async def test_a_document_reaches_the_model_in_its_own_wire(claude, providers, model):
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    document = {"type": "document", "source": source, "title": "tides.pdf"}
    await _ask(claude, model, messages=[{"role": "user", "content": [document, {"type": "text", "text": QUESTION}]}])
    body = providers.received(model)[0].body
    match model:
        case "gpt":
            file = {"filename": "tides.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
            assert body["messages"][0]["content"][0] == {"type": "file", "file": file}
        case "claude":
            assert body["messages"][0]["content"][0] == document
        case "gemini":
            assert body["contents"][0]["parts"][0] == {"inlineData": {"mimeType": "application/pdf", "data": PDF}}


@every_wire
async def test_an_answer_is_parsed_into_the_callers_type(claude, model):
    parse = claude.messages.parse
    message = await settled(parse(model=model, messages=USER, max_tokens=99, output_format=Depth))
    assert message.parsed_output == Depth(place=QUESTION, metres=1)


@every_wire
@both_ways
async def test_thinking_is_told_apart_from_the_answer(claude, providers, model, streamed):
    providers.follow({"models": {model: "reasoning=3"}})
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = await _ask(claude, model, streamed, max_tokens=2000, thinking=thinking)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == "kelp anchors where"
    assert _texts(message) == [QUESTION]


@every_wire
async def test_thinking_can_be_sent_back(claude, providers, model):
    providers.follow({"models": {model: "reasoning=3"}})
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = await _ask(claude, model, max_tokens=2000, thinking=thinking)
    said = [block.model_dump(exclude_none=True) for block in first.content]
    turns = [*USER, {"role": "assistant", "content": said}, *USER]
    message = await _ask(claude, model, max_tokens=2000, thinking=thinking, messages=turns)
    assert _texts(message) == [QUESTION]
    sent = json.dumps(providers.received(model)[1].body)
    assert ("kelp anchors where" in sent) == (model != "gpt"), "not every wire takes it back"


# --- models -----------------------------------------------------------------------------------------------------------


async def test_models_and_features_are_listed(claude):
    ids = [model.id async for model in each(claude.models.list())]
    assert {*MODELS, "answer", "careful"} <= set(ids)
    one = await settled(claude.models.retrieve("answer"))
    assert (one.id, one.type, one.display_name) == ("answer", "model", "answer")


# --- errors -----------------------------------------------------------------------------------------------------------


@every_wire
@both_ways
@pytest.mark.parametrize(
    ("how", "error", "status", "kind"),
    [
        ("status=400", anthropic.BadRequestError, 400, "invalid_request_error"),
        ("status=401", anthropic.InternalServerError, 502, "api_error"),
        ("status=429,retry_after=7", anthropic.RateLimitError, 429, "rate_limit_error"),
        ("status=500", anthropic.InternalServerError, 502, "api_error"),
        ("status=503", anthropic.APIStatusError, 503, "overloaded_error"),
        ("context=2", anthropic.BadRequestError, 400, "invalid_request_error"),
        ("reset=start", anthropic.InternalServerError, 502, "api_error"),
    ],
)
async def test_failures_are_the_sdks_own_exceptions(
    claude, gateway, providers, model, streamed, how, error, status, kind
):
    providers.follow({"models": {model: how}})
    with pytest.raises(error) as caught:
        await _ask(claude, model, streamed)
    assert caught.value.status_code == status
    assert (caught.value.body["type"], caught.value.body["error"]["type"]) == ("error", kind)
    assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)
    call = gateway.call(caught.value.response.headers["x-holdfast-call"])
    assert (call["outcome"], call["status"], call["cost_usd"]) == ("error", status, "0.000000000")
    assert call["id"] in json.dumps(caught.value.body)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 2}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "pirate", "content": "Arr"}]}, "messages.0.role"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
        ({"holdfast": {"deadline_ms": -1}}, "holdfast.deadline_ms"),
    ],
)
async def test_what_is_wrong_with_a_request_is_named(claude, providers, wrong, param):
    with pytest.raises(anthropic.BadRequestError) as caught:
        await _ask(claude, "claude", extra_body=wrong)
    assert caught.value.body["error"]["message"].startswith(f"{param}")
    assert providers.requests == []


@both_ways
async def test_an_unknown_model_is_not_found(claude, streamed):
    with pytest.raises(anthropic.NotFoundError, match="no feature or model 'nope'") as caught:
        await _ask(claude, "nope", streamed)
    assert caught.value.body["error"]["type"] == "not_found_error"


@every_wire
@pytest.mark.parametrize("how", ["cut=3", "reset=3", "cut=6e", "cut=end", "error_event=3", "malformed=bad_json,at=3"])
async def test_a_stream_that_breaks_raises_and_never_ends_well(claude, providers, model, how):
    providers.follow({"models": {model: f"words=9,{how}"}})
    seen = []

    async def read():
        async for event in each(claude.messages.create(model=model, messages=USER, max_tokens=99, stream=True)):
            seen.append(event.type)  # noqa: PERF401 - kept when it breaks

    with pytest.raises(anthropic.APIStatusError) as caught:
        await read()
    assert caught.value.body["type"] == "error"
    assert "content_block_delta" in seen
    assert "message_stop" not in seen
    assert "message_delta" not in seen
    with pytest.raises(anthropic.APIStatusError):
        await _ask(claude, model, streamed=True)


# --- retries, timeouts, features --------------------------------------------------------------------------------------


async def test_the_sdk_waits_as_long_as_the_provider_asks(claude, providers):
    providers.follow({"models": {"claude": {"steps": ["status=429,retry_after=1"]}}})
    assert _texts(await _ask(claude.with_options(max_retries=2), "claude")) == [QUESTION]
    first, second = providers.received("claude")
    assert 1.0 <= second.at - first.at < 2.0


@every_wire
@both_ways
async def test_when_the_callers_patience_ends_the_provider_hears_it_at_once(
    claude, gateway, providers, model, streamed
):
    providers.follow({"models": {model: "stall=start"}})
    session = uuid.uuid4().hex
    impatient = claude.with_options(timeout=0.15)
    with pytest.raises(anthropic.APITimeoutError):
        await _ask(impatient, model, streamed, extra_headers={"x-holdfast-session": session})
    left = time.monotonic()
    record = providers.wait_for(lambda record: record.hung_up_at is not None)
    assert record.hung_up_at - left < 0.1
    (call,) = gateway.calls(session=session)
    assert (call["outcome"], call["wire"]) == ("cancelled", "anthropic")


async def test_a_stream_that_is_left_early_is_cancelled_at_the_provider(claude, providers):
    providers.follow({"default": "words=500,tps=100"})
    stream = await settled(claude.messages.create(model="gemini", messages=USER, max_tokens=999, stream=True))
    async for event in each(stream):
        if event.type == "content_block_delta":
            break
    await closed(stream)
    left = time.monotonic()
    assert providers.wait_for(lambda record: record.hung_up_at is not None).hung_up_at - left < 0.1


@both_ways
async def test_when_a_model_fails_the_next_one_answers(claude, providers, streamed):
    providers.follow({"models": {"gpt": "status=503"}})
    message = await _ask(claude, "answer", streamed)
    assert (_texts(message), message.model) == ([QUESTION], "claude")
    assert [record.model for record in providers.requests] == ["gpt", "claude"]


@both_ways
async def test_the_last_resort_answers_when_no_model_can_and_says_so(claude, providers, streamed):
    providers.follow({"default": "status=503"})
    message = await _ask(claude, "careful", streamed)
    assert (_texts(message), message.stop_reason) == ([LAST_RESORT], "end_turn")
    raw = await settled(claude.messages.with_raw_response.create(model="careful", messages=USER, max_tokens=9))
    assert raw.headers["x-holdfast-outcome"] == "last_resort"
    events = await listed(claude.messages.create(model="careful", messages=USER, max_tokens=9, stream=True))
    assert events[-1].model_extra["holdfast"]["outcome"] == "last_resort"


@both_ways
async def test_a_deadline_ends_in_a_typed_error(claude, providers, streamed):
    providers.follow({"default": "stall=start"})
    begin = time.monotonic()
    with pytest.raises(anthropic.InternalServerError) as caught:
        await _ask(claude, "answer", streamed, extra_headers={"x-holdfast-deadline-ms": "150"})
    assert time.monotonic() - begin < 0.15 + 0.05 + 0.15  # deadline, what is allowed, and the slack of a busy machine
    assert (caught.value.status_code, caught.value.body["error"]["type"]) == (504, "timeout_error")
