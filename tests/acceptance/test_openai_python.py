"""The `openai` package works unchanged, whatever wire the model behind the gateway speaks."""

import json
import math
import struct
from base64 import b64decode

import openai
import pytest

from acceptance.gateways import CALLER_KEY, MODELS, PROVIDER_KEY
from acceptance.sdks import PDF, PIXEL, QUESTION, USER, WEATHER, Depth, each, listed, opened, settled

FUNCTION = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": WEATHER}}
pytestmark = pytest.mark.asyncio(loop_scope="session")
every_wire = pytest.mark.parametrize("model", MODELS)


def _said(chunks, index=0):
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join([delta.content or "" for delta in deltas])


def _ends(chunks):
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


# --- chat -------------------------------------------------------------------------------------------------------------


@every_wire
async def test_a_chat_is_answered_by_the_model_with_its_usage(gpt, providers, model):
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER, temperature=0.5))
    assert reply.choices[0].message.content == QUESTION
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (5, 5, 10)
    assert reply.object == "chat.completion"
    assert abs(reply.created - providers.requests[0].time) < 5
    assert reply.id


@every_wire
async def test_what_is_told_beside_the_answer_is_in_the_headers(gpt, gateway, model):
    raw = await settled(gpt.chat.completions.with_raw_response.create(model=model, messages=USER))
    told = {name: value for name, value in raw.headers.items() if name.startswith("x-holdfast-")}
    call = gateway.call(told.pop("x-holdfast-call"))
    assert told == {
        "x-holdfast-model": model,
        "x-holdfast-outcome": "answered",
        "x-holdfast-attempts": "1",
        "x-holdfast-cost": "0.000060000",  # 5 tokens at 2 and 5 at 10 dollars a million
    }
    assert (call["model"], call["outcome"], call["cost_usd"]) == (model, "answered", "0.000060000")
    assert call["reply"]["choices"][0]["parts"] == [{"type": "text", "text": QUESTION}]


@every_wire
async def test_the_providers_key_is_sent_and_the_callers_never(gpt, providers, model):
    await settled(gpt.chat.completions.create(model=model, messages=USER))
    (record,) = providers.received(model)
    sent = f"{record.path} {record.headers} {record.raw!r}"
    assert PROVIDER_KEY in sent
    assert CALLER_KEY not in sent
    assert "x-stainless" not in sent


async def test_an_unknown_price_is_not_told_as_zero(gpt, gateway):
    raw = await settled(gpt.chat.completions.with_raw_response.create(model="unpriced", messages=USER))
    assert "x-holdfast-cost" not in raw.headers
    assert gateway.call(raw.headers["x-holdfast-call"])["cost_usd"] is None


@every_wire
async def test_a_conversation_reaches_the_model_whole(gpt, providers, model):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, diver."},
        {"role": "user", "content": [{"type": "text", "text": "Ünïcödé 🌊"}, {"type": "text", "text": " and \u2028"}]},
    ]
    reply = await settled(gpt.chat.completions.create(model=model, messages=messages))
    assert reply.choices[0].message.content == "Ünïcödé 🌊 and \u2028"
    body = providers.received(model)[0].body
    told = json.dumps(body, ensure_ascii=False)
    assert all(words in told for words in ("Be brief.", "Hello, diver.", "Ünïcödé 🌊"))
    roles = [message["role"] for message in body.get("messages") or body["contents"]]
    assert roles[-3:] == (["user", "model", "user"] if model == "gemini" else ["user", "assistant", "user"])


@every_wire
async def test_limits_and_stop_sequences_are_the_callers(gpt, model):
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER, max_completion_tokens=2))
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("How deep", "length")
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER, stop=[" the"]))
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("How deep is", "stop")


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_several_choices_come_where_the_wire_has_them(gpt, model):
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER, n=3))
    assert [choice.message.content for choice in reply.choices] == [QUESTION] * 3
    chunks = await listed(gpt.chat.completions.create(model=model, messages=USER, n=2, stream=True))
    assert [_said(chunks, 0), _said(chunks, 1)] == [QUESTION] * 2


async def test_several_choices_are_refused_where_the_wire_has_none(gpt):
    with pytest.raises(openai.BadRequestError) as caught:
        await settled(gpt.chat.completions.create(model="claude", messages=USER, n=3))
    assert caught.value.param == "n"


async def test_fields_that_the_gateway_does_not_know_reach_a_model_of_the_same_wire(gpt, providers):
    own = {"min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}, "metadata": {"a": "b"}, "huge": 2**70}
    await settled(gpt.chat.completions.create(model="gpt", messages=USER, user="u1", extra_body=own))
    body = providers.received("gpt")[0].body
    assert {name: body[name] for name in own} == own
    assert body["user"] == "u1"
    assert "holdfast" not in body


async def test_fields_of_an_answer_that_the_gateway_does_not_know_reach_the_caller(gpt, providers):
    said = {"role": "assistant", "content": "Deep.", "mood": "wet"}
    answer = {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m", "citations": ["https://kelp.example"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
    }  # fmt: skip
    fault = {"kind": "status", "status": 200, "body": json.dumps(answer)}
    providers.follow({"models": {"gpt": {"faults": [fault]}}})
    reply = await settled(gpt.chat.completions.create(model="gpt", messages=USER))
    assert reply.choices[0].message.content == "Deep."
    assert reply.model_extra["citations"] == ["https://kelp.example"]
    assert reply.choices[0].message.model_extra["mood"] == "wet"


# --- streams ----------------------------------------------------------------------------------------------------------


@every_wire
async def test_a_stream_says_the_same_as_the_whole_answer(gpt, gateway, model):
    options = {"include_usage": True}
    create = gpt.chat.completions.create
    chunks = await listed(create(model=model, messages=USER, stream=True, stream_options=options))
    assert _said(chunks) == QUESTION
    assert _ends(chunks) == ["stop"]
    assert len([chunk for chunk in chunks if _said([chunk])]) == 5
    assert len({chunk.id for chunk in chunks}) == 1
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (5, 5)
    assert chunks[-1].choices == []
    told = chunks[-1].model_extra["holdfast"]
    assert told == {"call": told["call"], "outcome": "answered", "model": model, "attempts": 1, "cost": "0.000060000"}
    call = gateway.call(told["call"])
    assert (call["stream"], call["finish"], call["usage"]["output_tokens"]) == (True, "stop", 5)
    assert call["reply"]["choices"][0]["parts"] == [{"type": "text", "text": QUESTION}]
    assert 0 < call["first_token_us"] <= call["duration_us"]


@every_wire
async def test_usage_is_not_told_on_a_stream_unasked_and_still_counted(gpt, gateway, model):
    chunks = await listed(gpt.chat.completions.create(model=model, messages=USER, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert all(chunk.choices for chunk in chunks)
    told = chunks[-1].model_extra["holdfast"]
    assert told["cost"] == "0.000060000"
    assert gateway.call(told["call"])["usage"]["input_tokens"] == 5


@every_wire
async def test_a_stream_names_its_call_in_a_header(gpt, gateway, model):
    raw = gpt.chat.completions.with_streaming_response.create(model=model, messages=USER, stream=True)
    async with opened(raw) as response:
        id = response.headers["x-holdfast-call"]
        chunks = await listed(response.parse())
    assert chunks[-1].model_extra["holdfast"]["call"] == id


@every_wire
async def test_a_stream_is_relayed_as_it_comes(gpt, providers, model):
    providers.follow({"models": {model: "words=9,tps=50"}})
    seen = []
    async for chunk in each(gpt.chat.completions.create(model=model, messages=USER, stream=True)):
        if _said([chunk]) and not seen:
            seen.append(providers.received(model)[0].fate)
    assert seen == ["pending"], "the first word came while the model was still speaking"


@every_wire
async def test_the_helper_for_streams_puts_the_answer_together(gpt, model):
    async with opened(gpt.chat.completions.stream(model=model, messages=USER)) as stream:
        events = await listed(stream)
        final = await settled(stream.get_final_completion())
    assert [event.delta for event in events if event.type == "content.delta"] == [
        "How",
        " deep",
        " is",
        " the",
        " kelp?",
    ]
    assert final.choices[0].message.content == QUESTION


# --- tools ------------------------------------------------------------------------------------------------------------


@every_wire
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "weather"}}])
async def test_a_tool_is_called_with_arguments(gpt, providers, model, choice):
    create = gpt.chat.completions.create
    reply = await settled(create(model=model, messages=USER, tools=[FUNCTION], tool_choice=choice))
    (call,) = reply.choices[0].message.tool_calls
    assert (call.type, call.function.name) == ("function", "weather")
    assert call.id
    assert json.loads(call.function.arguments) == {"city": QUESTION, "days": 2}
    assert reply.choices[0].finish_reason == "tool_calls"
    assert reply.choices[0].message.content is None
    assert "Tells it." in json.dumps(providers.received(model)[0].body["tools"])


@every_wire
async def test_no_tool_is_called_where_the_caller_forbids_it(gpt, model):
    create = gpt.chat.completions.create
    reply = await settled(create(model=model, messages=USER, tools=[FUNCTION], tool_choice="none"))
    assert (reply.choices[0].message.tool_calls, reply.choices[0].message.content) == (None, QUESTION)


@every_wire
async def test_the_arguments_of_a_tool_are_streamed(gpt, model):
    create = gpt.chat.completions.create
    chunks = await listed(create(model=model, messages=USER, tools=[FUNCTION], stream=True))
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert {piece.index for piece in pieces} == {0}
    assert [piece.function.name for piece in pieces if piece.function.name] == ["weather"]
    assert len([piece.id for piece in pieces if piece.id]) == 1
    assert json.loads("".join([piece.function.arguments or "" for piece in pieces])) == {"city": QUESTION, "days": 2}
    assert _ends(chunks) == ["tool_calls"]


@every_wire
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_the_result_of_a_tool_goes_back_to_the_model(gpt, providers, model, streamed):
    create, parameters = gpt.chat.completions.create, {"model": model, "tools": [FUNCTION]}
    if streamed:
        async with opened(gpt.chat.completions.stream(messages=USER, **parameters)) as stream:
            first = (await settled(stream.get_final_completion())).choices[0].message
    else:
        first = (await settled(create(messages=USER, **parameters))).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "3 metres of rain"}
    said = first.model_dump(exclude_none=True, exclude={"parsed"})
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    reply = await settled(create(messages=[*USER, said, result], **parameters))
    assert reply.choices[0].message.content == QUESTION
    body = json.dumps(providers.received(model)[1].body)
    assert "3 metres of rain" in body
    assert "weather" in body


# --- images, files, audio ---------------------------------------------------------------------------------------------


@every_wire
async def test_an_image_reaches_the_model_in_its_own_wire(gpt, providers, model):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": QUESTION}, image]
    reply = await settled(gpt.chat.completions.create(model=model, messages=[{"role": "user", "content": content}]))
    assert reply.choices[0].message.content == QUESTION
    body = providers.received(model)[0].body
    match model:
        case "gpt":
            assert body["messages"][0]["content"][1] == image
        case "claude":
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            assert body["messages"][0]["content"][1] == {"type": "image", "source": source}
        case "gemini":
            inline = {"mimeType": "image/png", "data": PIXEL}
            assert body["contents"][0]["parts"][1] == {"inlineData": inline}


@every_wire
async def test_a_file_reaches_the_model_in_its_own_wire(gpt, providers, model):
    file = {"type": "file", "file": {"filename": "tides.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
    content = [file, {"type": "text", "text": QUESTION}]
    await settled(gpt.chat.completions.create(model=model, messages=[{"role": "user", "content": content}]))
    body = providers.received(model)[0].body
    match model:
        case "gpt":
            assert body["messages"][0]["content"][0] == file
        case "claude":
            source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
            block = {"type": "document", "source": source, "title": "tides.pdf"}
            assert body["messages"][0]["content"][0] == block
        case "gemini":
            assert body["contents"][0]["parts"][0] == {"inlineData": {"mimeType": "application/pdf", "data": PDF}}


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_audio_reaches_the_model_where_its_wire_has_it(gpt, providers, model):
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, audio]}]
    await settled(gpt.chat.completions.create(model=model, messages=messages))
    assert "UklGRg==" in json.dumps(providers.received(model)[0].body)


@every_wire
@pytest.mark.parametrize("size", [60_000, 70_000, 200_000, 300_000, 8_000_000])
async def test_a_large_image_is_no_trouble(gpt, providers, model, size):
    data = PIXEL + "A" * (size - len(PIXEL))
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": QUESTION}, image]}]
    reply = await settled(gpt.chat.completions.create(model=model, messages=messages))
    assert reply.choices[0].message.content == QUESTION
    assert data.encode() in providers.received(model)[0].raw


async def test_what_no_model_of_the_wire_can_take_is_refused_and_named(gpt, providers):
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    with pytest.raises(openai.BadRequestError) as caught:
        await settled(gpt.chat.completions.create(model="claude", messages=[{"role": "user", "content": [audio]}]))
    assert caught.value.param
    assert providers.requests == []


# --- structured output, log-probabilities, reasoning ------------------------------------------------------------------


@every_wire
async def test_an_answer_is_parsed_into_the_callers_type(gpt, providers, model):
    reply = await settled(gpt.chat.completions.parse(model=model, messages=USER, response_format=Depth))
    assert reply.choices[0].message.parsed == Depth(place=QUESTION, metres=1)
    assert "metres" in json.dumps(providers.received(model)[0].body)


@every_wire
async def test_a_streamed_answer_is_parsed_into_the_callers_type(gpt, model):
    stream = gpt.chat.completions.stream(model=model, messages=USER, response_format=Depth)
    async with opened(stream) as events:
        final = await settled(events.get_final_completion())
    assert final.choices[0].message.parsed == Depth(place=QUESTION, metres=1)


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_any_json_object_can_be_asked_for(gpt, model):
    create = gpt.chat.completions.create
    reply = await settled(create(model=model, messages=USER, response_format={"type": "json_object"}))
    assert json.loads(reply.choices[0].message.content) == {"text": QUESTION}


@pytest.mark.parametrize("model", ["gpt", "gemini"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_log_probabilities_come_with_their_alternatives(gpt, model, streamed):
    create = gpt.chat.completions.create
    reply = create(model=model, messages=USER, logprobs=True, top_logprobs=2, stream=streamed)
    if streamed:
        parts = [choice.logprobs for chunk in await listed(reply) for choice in chunk.choices if choice.logprobs]
    else:
        parts = [(await settled(reply)).choices[0].logprobs]
    tokens = [token for part in parts for token in part.content or ()]
    assert "".join([token.token for token in tokens]) == QUESTION
    assert [len(token.top_logprobs) for token in tokens] == [2] * 5
    assert all(0 < math.exp(token.logprob) <= 1 for token in tokens)


async def test_log_probabilities_are_refused_where_the_wire_has_none(gpt):
    with pytest.raises(openai.BadRequestError) as caught:
        await settled(gpt.chat.completions.create(model="claude", messages=USER, logprobs=True))
    assert "logprobs" in caught.value.param


@every_wire
async def test_reasoning_is_told_apart_from_the_answer(gpt, gateway, providers, model):
    providers.follow({"models": {model: "reasoning=3"}})
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER))
    assert reply.choices[0].message.reasoning_content == "kelp anchors where"
    assert reply.choices[0].message.content == QUESTION
    chunks = await listed(gpt.chat.completions.create(model=model, messages=USER, stream=True))
    deltas = [choice.delta.model_extra or {} for chunk in chunks for choice in chunk.choices]
    assert "".join([delta.get("reasoning_content") or "" for delta in deltas]) == "kelp anchors where"
    assert _said(chunks) == QUESTION


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_reasoning_is_counted_where_the_provider_counts_it(gpt, providers, model):
    providers.follow({"models": {model: "reasoning=3"}})
    reply = await settled(gpt.chat.completions.create(model=model, messages=USER))
    assert reply.usage.completion_tokens_details.reasoning_tokens == 3
    assert reply.usage.completion_tokens == 8


@every_wire
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_an_answer_withheld_midway_says_so(gpt, providers, model, streamed):
    providers.follow({"models": {model: "refuse=answer"}})
    reply = gpt.chat.completions.create(model=model, messages=USER, stream=streamed)
    if streamed:
        assert _ends(await listed(reply)) == ["content_filter"]
    else:
        assert (await settled(reply)).choices[0].finish_reason == "content_filter"


# --- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt", "gemini"])
async def test_embeddings_are_the_same_as_floats_and_as_base64(gpt, providers, model):
    texts = ["reset my password", "kelp forests"]
    usual = await settled(gpt.embeddings.create(model=model, input=texts, dimensions=32))
    plain = await settled(gpt.embeddings.create(model=model, input=texts, dimensions=32, encoding_format="float"))
    packed = await settled(gpt.embeddings.create(model=model, input=texts, dimensions=32, encoding_format="base64"))
    assert [len(one.embedding) for one in plain.data] == [32, 32]
    assert [one.index for one in plain.data] == [0, 1]
    for one, other, third in zip(usual.data, plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        octets = b64decode(third.embedding)
        assert struct.unpack(f"<{len(octets) // 4}f", octets) == pytest.approx(other.embedding, abs=1e-6)
    assert plain.data[0].embedding != plain.data[1].embedding


async def test_embeddings_are_logged_and_paid(gpt, gateway):
    raw = await settled(gpt.embeddings.with_raw_response.create(model="gpt", input="kelp forests"))
    call = gateway.call(raw.headers["x-holdfast-call"])
    assert (call["kind"], call["model"], call["cost_usd"]) == ("embeddings", "gpt", "0.000004000")
    assert raw.headers["x-holdfast-cost"] == "0.000004000"


async def test_embeddings_fall_back_to_the_next_model_that_has_them(gpt, providers):
    providers.follow({"models": {"gpt": "status=503"}})
    raw = await settled(gpt.embeddings.with_raw_response.create(model="answer", input="kelp"))
    assert raw.headers["x-holdfast-model"] == "gemini"
    assert len(raw.parse().data[0].embedding) == 256


# --- models -----------------------------------------------------------------------------------------------------------


async def test_models_and_features_are_listed(gpt):
    ids = [model.id async for model in each(gpt.models.list())]
    assert {*MODELS, "answer", "careful", "half"} <= set(ids)
    assert len(ids) == len(set(ids))
    one = await settled(gpt.models.retrieve("answer"))
    assert (one.id, one.object) == ("answer", "model")


async def test_an_unknown_model_is_not_found(gpt):
    with pytest.raises(openai.NotFoundError) as caught:
        await settled(gpt.models.retrieve("nope"))
    assert caught.value.code == "model_not_found"
