"""Answers that another model goes on with: which models can, and how each wire says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.chat import Chunk, Image, Message, Request, ResponseFormat, Text, Tool, ToolChoice, Usage
from holdfast.errors import BadRequest, ContextTooLong, RateLimited
from holdfast.http.sse import SSEParser
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint, ModelSettings, Surface, Upstream
from holdfast.providers.google import GoogleSurface, GoogleUpstream
from holdfast.providers.known import PROVIDERS, resolve
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from holdfast.providers.prefill import continued, refuses_prefill
from holdfast.providers.simulated.failures import prefill_refused

UPSTREAMS: dict[str, type[Upstream]] = {
    "openai": OpenAIUpstream,
    "anthropic": AnthropicUpstream,
    "google": GoogleUpstream,
}
SURFACES: dict[str, Surface] = {
    "openai": OpenAISurface(),
    "anthropic": AnthropicSurface(),
    "google": GoogleSurface(),
}
QUESTION = Message(role="user", parts=(Text(text="What holds kelp?"),))


def model(provider: str, name: str = "house", **settings: Any) -> Upstream:
    known = PROVIDERS[provider]
    if known.base_url is None:
        settings.setdefault("base_url", "http://127.0.0.1:8000/v1")
    return UPSTREAMS[known.wire](resolve(name, ModelSettings(provider=provider, **settings), Path()))


def ask(*messages: Message, **fields: Any) -> Request:
    return Request(model="answer", messages=messages or (QUESTION,), **fields)


def said(upstream: Upstream, request: Request, text: str = "A holdfast") -> Any:
    return json.loads(upstream.encode_continued(request, text).body)


# --- who continues ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("anthropic", "claude-haiku-4-5"),
        ("anthropic", "claude-opus-4-1-20250805"),
        ("anthropic", "claude-3-5-sonnet-20241022"),
        ("mistral", "mistral-large-latest"),
        ("deepseek", "deepseek-chat"),
        ("moonshot", "moonshot-v1-8k"),
        ("groq", "llama-3.3-70b-versatile"),
        ("vllm", "house-8b"),
        ("sglang", "house-8b"),
        ("llamacpp", "house-8b"),
        ("simulated", "sim-echo"),
        ("simulated", "gpt:prefill=refuse"),
    ],
)
def test_models_that_are_known_to_continue_an_answer_do(provider, name):
    upstream = model(provider, name)
    assert upstream.continues
    assert upstream.continues_request(ask())


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("anthropic", "claude-opus-4-6"),
        ("anthropic", "claude-sonnet-4-6"),
        ("anthropic", "claude-sonnet-5"),
        ("anthropic", "claude-next"),
        ("openai", "gpt-5-mini"),
        ("azure", "gpt-5-mini"),
        ("google", "gemini-2.5-flash"),
        ("deepseek", "deepseek-reasoner"),
        ("moonshot", "kimi-k2-thinking"),
        ("groq", "openai/gpt-oss-120b"),
        ("groq", "qwen/qwen3-32b"),
        ("mistral", "magistral-medium-latest"),
        ("openrouter", "anthropic/claude-haiku-4.5"),
        ("xai", "grok-4"),
        ("perplexity", "sonar"),
        ("together", "some/model"),
        ("fireworks", "some/model"),
        ("cerebras", "some-model"),
        ("ollama", "llama3:8b"),
        ("tgi", "house-8b"),
        ("simulated", "gpt:prefill=ignore"),
    ],
)
def test_models_of_which_it_is_not_known_begin_anew(provider, name):
    upstream = model(provider, name)
    assert not upstream.continues
    assert not upstream.continues_request(ask())


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google", "mistral"])
@pytest.mark.parametrize("prefill", [True, False])
def test_the_setting_of_a_model_has_the_last_word(provider, prefill):
    assert model(provider, "claude-opus-5", prefill=prefill).continues is prefill


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"response_format": ResponseFormat(type="json")},
        {"response_format": ResponseFormat(type="schema", schema={})},
        {"top_logprobs": 0},
        {"reasoning_effort": "low"},
        {"reasoning_tokens": 2048},
        {"tools": (Tool(name="look"),), "tool_choice": ToolChoice(mode="required")},
        {"tools": (Tool(name="look"),), "tool_choice": ToolChoice(mode="named", name="look")},
    ],
)
@pytest.mark.parametrize("provider", ["anthropic", "vllm"])
def test_only_a_single_answer_in_plain_text_without_thinking_is_continued(provider, fields):
    assert not model(provider, "claude-haiku-4-5").continues_request(ask(**fields))


@pytest.mark.parametrize(
    "fields", [{"response_format": ResponseFormat(type="text")}, {"reasoning_effort": "none"}, {"reasoning_tokens": 0}]
)
def test_saying_that_there_is_no_thinking_and_no_format_changes_nothing(fields):
    assert model("anthropic", "claude-haiku-4-5").continues_request(ask(**fields))


def test_a_model_whose_settings_make_it_think_does_not_continue():
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert not model("anthropic", "claude-haiku-4-5", body=thinking).continues_request(ask())
    assert model("anthropic", "claude-haiku-4-5", body={"thinking": {"type": "disabled"}}).continues_request(ask())


# --- how it is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "last", "fields"),
    [
        ("mistral", {"prefix": True}, {}),
        ("deepseek", {"prefix": True}, {}),
        ("moonshot", {"partial": True}, {}),
        ("groq", {}, {}),
        ("llamacpp", {}, {}),
        ("openai", {}, {}),
        ("vllm", {}, {"continue_final_message": True, "add_generation_prompt": False}),
        ("sglang", {}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_each_server_of_the_openai_wire_is_told_in_its_own_words(provider, last, fields):
    body = said(model(provider), ask(temperature=0.5))
    assert body["messages"] == [
        {"role": "user", "content": "What holds kelp?"},
        {"role": "assistant", "content": "A holdfast"} | last,
    ]
    known = {"model", "messages", "temperature"}
    assert {name: value for name, value in body.items() if name not in known} == fields


def test_deepseek_continues_at_an_address_of_its_own():
    assert model("deepseek").encode_continued(ask(), "A").url == "https://api.deepseek.com/beta/chat/completions"
    assert model("deepseek").encode(ask()).url == "https://api.deepseek.com/v1/chat/completions"
    elsewhere = model("deepseek", base_url="https://proxy.example/v1").encode_continued(ask(), "A")
    assert elsewhere.url == "https://proxy.example/v1/chat/completions"


def test_only_mistral_is_known_to_repeat_the_beginning():
    repeating = {name for name in PROVIDERS if model(name, "house").repeats}
    assert repeating == {"mistral"}


def test_anthropic_and_google_are_given_a_last_turn():
    assert said(model("anthropic"), ask())["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "What holds kelp?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A holdfast"}]},
    ]
    assert said(model("google"), ask())["contents"] == [
        {"role": "user", "parts": [{"text": "What holds kelp?"}]},
        {"role": "model", "parts": [{"text": "A holdfast"}]},
    ]


@pytest.mark.parametrize(("provider", "wire"), [("vllm", "openai"), ("mistral", "openai"), ("anthropic", "anthropic")])
def test_what_nobody_changed_goes_out_as_it_came(provider, wire):
    body = (
        b'{"model":"m","max_tokens":9, "temperature":0.10000000000000000001, '
        b'"messages":[{"role" :"user","content":"What holds kelp?","cache":1E2}]}'
    )
    request, source = SURFACES[wire].decode(body, "")
    sent = model(provider).encode_continued(request, "A holdfast", source).body
    assert b'{"role" :"user","content":"What holds kelp?","cache":1E2}' in sent
    assert json.loads(sent)["messages"][1]["role"] == "assistant"


@pytest.mark.parametrize("wire", UPSTREAMS)
def test_a_continued_request_says_the_same_on_every_wire(wire):
    upstream = UPSTREAMS[wire](Endpoint(model="house", base_url="http://127.0.0.1:1"))
    encoded = upstream.encode_continued(ask(stream=True), "A 👩‍👩‍👧 hold\nfast")
    request, _ = SURFACES[wire].decode(encoded.body, "/v1beta/models/house:generateContent")
    assert [(message.role, message.text) for message in request.messages] == [
        ("user", "What holds kelp?"),
        ("assistant", "A 👩‍👩‍👧 hold\nfast"),
    ]


@pytest.mark.parametrize(
    ("begun", "text", "whole"),
    [("{", '"a": 1', '{"a": 1'), ("A ", "holdfast", "A holdfast"), ("A ", " holdfast", "A holdfast")],
)
def test_a_beginning_of_the_callers_own_comes_first(begun, text, whole):
    begin = Message(role="assistant", parts=(Text(text=begun),))
    assert continued(ask(QUESTION, begin), text).messages == (
        QUESTION,
        Message(role="assistant", parts=(Text(text=whole),)),
    )


def test_what_the_assistant_began_with_other_than_text_stays():
    begin = Message(role="assistant", parts=(Image(url="https://a.example/kelp.png"),))
    assert continued(ask(QUESTION, begin), "A").messages[-1].parts == (*begin.parts, Text(text="A"))


def test_where_nothing_was_said_the_request_stays_as_it_is():
    request = ask()
    assert continued(request, "") is request


# --- how a model says that it won't -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", UPSTREAMS)
def test_a_model_that_refuses_to_go_on_is_understood_on_every_wire(wire):
    failure = prefill_refused(wire)
    upstream = UPSTREAMS[wire](Endpoint(model="house", base_url="http://127.0.0.1:1"))
    assert refuses_prefill(upstream.error(failure.status, (), failure.body(wire, "req_1")))


@pytest.mark.parametrize(
    "message",
    [
        "This model does not support assistant message prefill. The conversation must end with a user message.",
        "Assistant response prefill is incompatible with enable_thinking.",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
        "Last message must have role `user`",
        "`continue_final_message` is not supported by this chat template.",
        "Please ensure that multiturn requests end with a user role or a function response.",
    ],
)
def test_the_words_of_providers_that_refuse_to_go_on_are_known(message):
    assert refuses_prefill(BadRequest(message))


@pytest.mark.parametrize(
    "error",
    [BadRequest("messages[0].content: expected a string"), ContextTooLong("The prefix is too long"), RateLimited()],
)
def test_no_other_error_is_taken_for_a_refusal_to_go_on(error):
    assert not refuses_prefill(error)


# --- taking back what was sent ----------------------------------------------------------------------------------------


def streamed(wire: str) -> tuple[Any, Any]:
    surface = SURFACES[wire]
    request = ask(stream=True, stream_usage=True)
    return surface.stream(request, id="id-1", model="house", created=1), UPSTREAMS[wire]


@pytest.mark.parametrize("wire", SURFACES)
def test_what_follows_a_reset_is_a_whole_answer_from_its_start(wire):
    encoder, upstream = streamed(wire)
    encoder.chunk(Chunk(text="Broken"), "none")
    encoder.chunk(Chunk(finish="stop", usage=Usage(output_tokens=7)), "none")
    reset = encoder.reset()
    assert reset.startswith(b"event: holdfast.reset")
    payload = json.loads(reset.split(b"data: ")[1])
    assert payload["holdfast"] == {"event": "reset"}
    rest = b"".join(
        [encoder.chunk(Chunk(text="Whole"), "none"), encoder.chunk(Chunk(finish="length"), "none"), encoder.end({})]
    )
    decoder = upstream(Endpoint(model="house", base_url="http://127.0.0.1:1")).stream()
    chunks = [chunk for event in SSEParser().feed(rest) for chunk in decoder.feed(event)]
    assert "".join([chunk.text for chunk in chunks]) == "Whole"
    assert [chunk.finish for chunk in chunks if chunk.finish] == ["length"]
    assert not any(chunk.usage and chunk.usage.output_tokens for chunk in chunks)
    assert decoder.complete


def test_the_reset_of_the_openai_wire_has_the_shape_of_a_chunk():
    encoder, _ = streamed("openai")
    payload = json.loads(encoder.reset().split(b"data: ")[1])
    assert payload == {
        "id": "id-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "house",
        "choices": [],
        "holdfast": {"event": "reset"},
    }


def test_the_reset_of_the_anthropic_wire_has_a_type_of_its_own():
    encoder, _ = streamed("anthropic")
    payload = json.loads(encoder.reset().split(b"data: ")[1])
    assert payload == {"type": "holdfast.reset", "holdfast": {"event": "reset"}}
