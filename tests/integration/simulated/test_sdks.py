"""The real SDKs against the simulated providers."""

import json

import anthropic
import openai
import pytest
from pydantic import BaseModel

from holdfast.providers.simulated import Simulator

USER = [{"role": "user", "content": "How deep is the kelp?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
TOOL = {"name": "weather", "input_schema": WEATHER}


class Depth(BaseModel):
    place: str
    metres: int


@pytest.fixture
async def sim():
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def gpt(sim):
    async with openai.AsyncOpenAI(base_url=sim.url("openai"), api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(sim):
    async with anthropic.AsyncAnthropic(base_url=sim.url("anthropic"), api_key="key", max_retries=0) as client:
        yield client


# --- openai -----------------------------------------------------------------------------------------------------------


async def test_openai_gets_an_answer_with_usage(gpt):
    reply = await gpt.chat.completions.create(model="any", messages=USER)
    assert reply.choices[0].message.content == "How deep is the kelp?"
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 5)
    assert reply.model == "any"


async def test_openai_gets_a_stream_with_reasoning_and_usage(gpt):
    stream = await gpt.chat.completions.create(
        model="any:reasoning=3", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join([delta.content or "" for delta in deltas]) == "How deep is the kelp?"
    assert "".join([getattr(delta, "reasoning_content", None) or "" for delta in deltas]) == "kelp anchors where"
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 3


async def test_openai_can_switch_usage_off_or_fix_it(sim, gpt):
    reply = await gpt.chat.completions.create(model="any:usage=none", messages=USER)
    assert reply.usage is None
    sim.follow({"models": {"m": {"usage": {"input_tokens": 7, "output_tokens": 9}}}})
    reply = await gpt.chat.completions.create(model="m", messages=USER)
    assert reply.usage.total_tokens == 16


async def test_openai_gets_as_many_choices_as_it_asks_for(gpt):
    stream = await gpt.chat.completions.create(model="any", messages=USER, n=2, stream=True)
    texts = ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["How deep is the kelp?"] * 2


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "weather"}}])
async def test_openai_gets_a_tool_call_with_fitting_arguments(gpt, choice):
    reply = await gpt.chat.completions.create(model="any", messages=USER, tools=[FUNCTION], tool_choice=choice)
    call = reply.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "How deep is the kelp?", "days": 2}
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_openai_gets_words_after_the_result_of_a_tool(gpt):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        *USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
    ]
    reply = await gpt.chat.completions.create(model="any", messages=messages, tools=[FUNCTION])
    assert reply.choices[0].message.content == "How deep is the kelp?"


@pytest.mark.parametrize(
    ("model", "choice"), [("any", "none"), ("any:tools=never", "required"), ("any:tools=forced", "auto")]
)
async def test_openai_gets_no_tool_call_where_none_is_wanted(gpt, model, choice):
    reply = await gpt.chat.completions.create(model=model, messages=USER, tools=[FUNCTION], tool_choice=choice)
    assert reply.choices[0].message.tool_calls is None


async def test_openai_gets_the_object_that_it_describes(gpt):
    reply = await gpt.chat.completions.parse(model="any", messages=USER, response_format=Depth)
    assert reply.choices[0].message.parsed == Depth(place="How deep is the kelp?", metres=1)


async def test_openai_gets_log_probabilities_that_add_up(gpt):
    reply = await gpt.chat.completions.create(model="any", messages=USER, logprobs=True, top_logprobs=3)
    told = reply.choices[0].logprobs.content
    assert [one.token for one in told] == ["How", " deep", " is", " the", " kelp?"]
    for one in told:
        assert one.logprob == max(top.logprob for top in one.top_logprobs)
        assert sum(2.718281828459045**top.logprob for top in one.top_logprobs) <= 1
    with pytest.raises(openai.PermissionDeniedError, match="logprobs"):
        await gpt.chat.completions.create(model="any:logprobs=false", messages=USER, logprobs=True)


async def test_limits_and_stop_sequences_are_obeyed(gpt):
    reply = await gpt.chat.completions.create(model="any", messages=USER, max_tokens=2)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("How deep", "length")
    reply = await gpt.chat.completions.create(model="any", messages=USER, stop=[" the"])
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("How deep is", "stop")


async def test_similar_texts_have_similar_embeddings(gpt):
    texts = ["reset my password", "how to reset a password", "kelp forests"]
    for encoding in ("float", "base64"):
        reply = await gpt.embeddings.create(model="any", input=texts, dimensions=64, encoding_format=encoding)
        assert reply.usage.prompt_tokens == 10
    vectors = [one.embedding for one in (await gpt.embeddings.create(model="any", input=texts)).data]
    near, far = [sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:]]
    assert len(vectors[0]) == 256
    assert near > 0.4 > far


async def test_openai_lists_models(sim, gpt):
    sim.follow({"strict": True, "models": {"mine": "text=yes"}})
    assert [model.id async for model in gpt.models.list()] == ["mine"]
    assert (await gpt.models.retrieve("mine")).id == "mine"
    for model in ("other", "other:cut=1"):
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await gpt.chat.completions.create(model=model, messages=USER)


async def test_azure_names_the_model_in_the_path(sim):
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=sim.address, api_key="key", api_version="2024-10-21", azure_deployment="mine"
    ) as client:
        reply = await client.chat.completions.create(model="", messages=USER)
    assert reply.choices[0].message.content == "How deep is the kelp?"
    assert sim.received("mine")[0].path.startswith("/openai/deployments/mine/chat/completions?api-version=")


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("sim-limited", openai.RateLimitError, "Rate limit"),
        ("sim-down", openai.InternalServerError, "overloaded"),
        ("any:status=401", openai.AuthenticationError, "API key"),
        ("any:context=2", openai.BadRequestError, "maximum context length is 2 tokens"),
        ("sim-refuses", openai.BadRequestError, "content management policy"),
        ("sim-reset", openai.APIConnectionError, "Connection"),
        ("any:prefil=1", openai.BadRequestError, 'there is no "prefil"'),
    ],
)
async def test_openai_raises_its_own_errors(gpt, model, error, message):
    with pytest.raises(error, match=message):
        await gpt.chat.completions.create(model=model, messages=USER)


async def test_openai_errors_carry_the_codes_that_applications_look_for(gpt):
    for model, code in (("any:context=2", "context_length_exceeded"), ("sim-refuses", "content_filter")):
        with pytest.raises(openai.BadRequestError) as caught:
            await gpt.chat.completions.create(model=model, messages=USER)
        assert caught.value.code == code


async def test_openai_refusals_in_the_answer(gpt):
    reply = await gpt.chat.completions.create(model="any:refuse=answer", messages=USER)
    assert (reply.choices[0].finish_reason, reply.choices[0].message.content) == ("content_filter", "How deep")
    reply = await gpt.chat.completions.create(model="any:refuse=message", messages=USER)
    assert "can't help" in reply.choices[0].message.refusal


async def test_the_sdk_retries_a_step_of_the_script(sim):
    sim.follow({"models": {"m": {"steps": ["status=429,retry_after=0.05", "status=500"], "text": "Yes."}}})
    async with openai.AsyncOpenAI(base_url=sim.url("openai"), api_key="key", max_retries=2) as client:
        reply = await client.chat.completions.create(model="m", messages=USER)
    assert reply.choices[0].message.content == "Yes."
    first, second, third = sim.received("m")
    assert [first.status, second.status, third.status] == [429, 500, 200]
    assert second.at - first.at >= 0.05
    assert third.body["messages"] == USER


async def test_openai_notices_an_error_event(gpt):
    stream = await gpt.chat.completions.create(model="any:error_event=2", messages=USER, stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    "what",
    ["comments", "crlf", "cr", "bom", "fields", "no_space", "multiline", "no_done", "duplicate_finish", "usage_every"],
)
async def test_openai_bears_what_loses_nothing(gpt, what):
    stream = await gpt.chat.completions.create(model=f"any:malformed={what}", messages=USER, stream=True)
    text = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
    assert text.endswith("deep is the kelp?")


# --- prefill ----------------------------------------------------------------------------------------------------------

BEGUN = [*USER, {"role": "assistant", "content": "How deep"}]


async def test_a_prefill_is_continued_ignored_or_refused(gpt, claude):
    async def openai_says(model):
        return (await gpt.chat.completions.create(model=model, messages=BEGUN)).choices[0].message.content

    async def anthropic_says(model):
        return (await claude.messages.create(model=model, max_tokens=9, messages=BEGUN)).content[0].text

    for says in (openai_says, anthropic_says):
        assert await says("any") == " is the kelp?"
        assert await says("any:prefill=ignore") == "How deep is the kelp?"
    with pytest.raises(openai.BadRequestError, match="Expected last role User"):
        await openai_says("any:prefill=refuse")
    with pytest.raises(anthropic.BadRequestError, match="does not support assistant message prefill"):
        await anthropic_says("any:prefill=refuse")


async def test_anthropic_refuses_a_prefill_that_ends_with_a_space(claude):
    begun = [*USER, {"role": "assistant", "content": "How deep "}]
    with pytest.raises(anthropic.BadRequestError, match="trailing whitespace"):
        await claude.messages.create(model="any", max_tokens=9, messages=begun)


# --- anthropic --------------------------------------------------------------------------------------------------------


async def test_anthropic_gets_an_answer_and_a_stream(claude):
    reply = await claude.messages.create(model="any:reasoning=2", max_tokens=99, messages=USER)
    assert [block.type for block in reply.content] == ["thinking", "text"]
    async with claude.messages.stream(model="any:reasoning=2", max_tokens=99, messages=USER) as stream:
        streamed = await stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in reply.content]
    assert (streamed.usage.input_tokens, streamed.usage.output_tokens) == (5, 7)
    assert streamed.stop_reason == "end_turn"


async def test_anthropic_streams_the_arguments_of_a_tool(claude):
    async with claude.messages.stream(model="any", max_tokens=99, messages=USER, tools=[TOOL]) as stream:
        reply = await stream.get_final_message()
    assert reply.content[0].input == {"city": "How deep is the kelp?", "days": 2}
    assert reply.stop_reason == "tool_use"


async def test_anthropic_counts_tokens_and_lists_models(claude):
    assert (await claude.messages.count_tokens(model="any", messages=USER)).input_tokens == 5
    assert "sim-echo" in [model.id async for model in claude.models.list()]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("sim-limited", anthropic.RateLimitError, "rate_limit_error"),
        ("any:status=529", anthropic.APIStatusError, "overloaded_error"),
        ("any:context=2", anthropic.BadRequestError, "prompt is too long: 5 tokens > 2 maximum"),
        ("any:status=401", anthropic.AuthenticationError, "authentication_error"),
    ],
)
async def test_anthropic_raises_its_own_errors(claude, model, error, message):
    with pytest.raises(error, match=message):
        await claude.messages.create(model=model, max_tokens=9, messages=USER)


async def test_anthropic_refuses_with_its_stop_reason(claude):
    reply = await claude.messages.create(model="sim-refuses", max_tokens=9, messages=USER)
    assert (reply.stop_reason, reply.content) == ("refusal", [])


async def test_anthropic_notices_an_error_event(claude):
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async with claude.messages.stream(model="any:error_event=2", max_tokens=9, messages=USER) as stream:
            await stream.get_final_message()


# --- keys and limits --------------------------------------------------------------------------------------------------


async def test_only_known_keys_are_served(sim, gpt, claude):
    sim.follow({"api_keys": ["another"]})
    with pytest.raises(openai.AuthenticationError):
        await gpt.chat.completions.create(model="any", messages=USER)
    with pytest.raises(anthropic.AuthenticationError):
        await claude.messages.create(model="any", max_tokens=9, messages=USER)
    await gpt.with_options(api_key="another").chat.completions.create(model="any", messages=USER)
    await claude.with_options(api_key="another").messages.create(model="any", max_tokens=9, messages=USER)


async def test_too_many_requests_at_once_are_limited(sim, gpt):
    sim.follow({"models": {"m": "words=500,tps=50,concurrency=1"}})
    stream = await gpt.chat.completions.create(model="m", messages=USER, stream=True)
    with pytest.raises(openai.RateLimitError, match="the limit is 1"):
        await gpt.chat.completions.create(model="m", messages=USER)
    await stream.close()
    await sim.wait_for(lambda record: record.fate == "hung_up")
    sim.follow({"models": {"m": "concurrency=1"}})
    await gpt.chat.completions.create(model="m", messages=USER)
