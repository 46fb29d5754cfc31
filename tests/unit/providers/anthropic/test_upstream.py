"""The Anthropic wire towards a model: requests are written in its words, answers understood."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import (
    Audio,
    Choice,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
    Usage,
)
from holdfast.errors import BadRequest, MalformedResponse, Overloaded
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint, Source
from strategies import requests

SURFACE = AnthropicSurface()
OTHER = Source(wire="openai", request=Request(model="m", messages=()), fields={}, messages={}, tools={})


def upstream(model: str = "house-model", **endpoint: Any) -> AnthropicUpstream:
    return AnthropicUpstream(Endpoint(**({"model": model, "base_url": "https://api.anthropic.com"} | endpoint)))


def ask(*parts: Part, **fields: Any) -> Request:
    return Request(
        **({"model": "answer", "messages": (Message(role="user", parts=parts or (Text(text="Hello"),)),)} | fields)
    )


def body(request: Request, source: Source | None = None, model: str = "house-model", **endpoint: Any) -> Any:
    return json.loads(upstream(model, **endpoint).encode(request, source).body)


def refused(request: Request, source: Source | None = None) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        body(request, source)
    return caught.value


def spoken(**fields: Any) -> tuple[Request, Source]:
    said = {"model": "answer", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]} | fields
    return SURFACE.decode(json.dumps(said).encode(), "/v1/messages")


# --- where and how ----------------------------------------------------------------------------------------------------


def test_requests_go_to_the_messages_of_the_base_url() -> None:
    sent = upstream(api_key="k", headers=((b"x-team", b"a"),), query={"beta": "true"}).encode(ask())
    assert (sent.method, sent.url) == ("POST", "https://api.anthropic.com/v1/messages?beta=true")
    assert dict(sent.headers) == {
        b"content-type": b"application/json",
        b"anthropic-version": b"2023-06-01",
        b"x-api-key": b"k",
        b"x-team": b"a",
    }


def test_a_base_url_may_end_with_the_version() -> None:
    assert upstream(base_url="http://10.0.0.5/v1").encode(ask()).url == "http://10.0.0.5/v1/messages"


def test_headers_of_the_model_override_ours_and_no_key_is_no_header() -> None:
    sent = upstream(headers=((b"anthropic-version", b"2027-01-01"),)).encode(ask())
    assert dict(sent.headers)[b"anthropic-version"] == b"2027-01-01"
    assert b"x-api-key" not in dict(sent.headers)


def test_the_smallest_request() -> None:
    assert body(ask()) == {
        "model": "house-model",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    }


def test_the_models_own_body_fills_what_the_request_leaves_open() -> None:
    own = {"max_tokens": 9000, "temperature": 0.1, "service_tier": "auto"}
    sent = body(ask(temperature=0.7), body=own)
    assert (sent["max_tokens"], sent["temperature"], sent["service_tier"]) == (9000, 0.7, "auto")
    assert body(ask(max_tokens=5), body=own)["max_tokens"] == 5


# --- laws -------------------------------------------------------------------------------------------------------------

SAYABLE: dict[str, Any] = {
    "order": "alternating",
    "names": False,
    "image_detail": False,
    "audio": False,
    "refusal": False,
    "tool_signatures": False,
    "valid_arguments": True,
    "result_name": False,
    "results_per_message": 10,
    "json_format": False,
    "schema_details": False,
    "max_tokens": "always",
    "max_temperature": 1.0,
    "seed": False,
    "n": False,
    "penalties": False,
    "logprobs": False,
    "reasoning_effort": False,
    "reasoning_tokens": False,
}


def canonical(request: Request) -> Request:
    """Return a request as this wire would give it back: signed reasoning, typed schemas, usage on every stream."""

    def part(value: Part) -> Part:
        unsigned = isinstance(value, Reasoning) and not value.signature and not value.redacted
        return Reasoning(text=value.text, signature="sig") if unsigned else value  # type: ignore[union-attr]

    choice = request.tool_choice
    if request.parallel_tool_calls is not None and choice is None:
        choice = ToolChoice(mode="auto")
    tools = [
        msgspec.structs.replace(tool, parameters={"type": "object", **(tool.parameters or {"properties": {}})})
        for tool in request.tools
    ]
    return msgspec.structs.replace(
        request,
        model="house-model",
        messages=tuple(
            msgspec.structs.replace(message, parts=tuple(part(value) for value in message.parts))
            for message in request.messages
        ),
        tools=tuple(tools),
        tool_choice=choice,
        parallel_tool_calls=None if choice and choice.mode == "none" else request.parallel_tool_calls,
        stream_usage=request.stream,
    )


@given(requests(**SAYABLE))
def test_a_request_is_decoded_again(request: Request) -> None:
    expected = canonical(request)
    assert SURFACE.decode(upstream().encode(expected).body, "/v1/messages")[0] == expected


@given(requests(**SAYABLE), st.sampled_from(["low", "medium", "high", "xhigh", "none"]))
def test_an_effort_is_decoded_again(request: Request, effort: Any) -> None:
    expected = msgspec.structs.replace(canonical(request), reasoning_effort=effort)
    assert SURFACE.decode(upstream().encode(expected).body, "/v1/messages")[0] == expected


@given(requests())
def test_every_request_is_sent_or_refused(request: Request) -> None:
    if request.n > 1 or request.top_logprobs is not None or _sounds(request):
        assert refused(request).param is not None
    else:
        assert {"model", "max_tokens", "messages"} <= body(request).keys()


def _sounds(request: Request) -> bool:
    return any(isinstance(part, Audio) for message in request.messages for part in message.parts)


@given(requests(**SAYABLE))
def test_what_nobody_changed_goes_out_as_it_came(request: Request) -> None:
    came = json.loads(upstream().encode(canonical(request)).body) | {"metadata": {"user_id": "u"}}
    decoded, source = SURFACE.decode(json.dumps(came).encode(), "/v1/messages")
    sent = json.loads(upstream("other").encode(decoded, source).body)
    assert _joined(sent) == _joined(came | {"model": "other"})


def _joined(said: Any) -> Any:
    """Join the turns that follow each other, as the API does."""
    turns: list[Any] = []
    for message in said["messages"]:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] = turns[-1]["content"] + message["content"]
        else:
            turns.append(dict(message))
    return said | {"messages": turns}


# --- forwarding unchanged ---------------------------------------------------------------------------------------------

CACHED = {"cache_control": {"type": "ephemeral"}}


def test_what_only_this_wire_knows_reaches_a_model_of_this_wire() -> None:
    fields = {
        "system": [{"type": "text", "text": "Be brief.", **CACHED}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", **CACHED}, {"type": "container_upload", "id": 1}],
            }
        ],
        "tools": [
            {"type": "web_search_20260318", "name": "web_search", "max_uses": 2},
            {"name": "f", "input_schema": {"type": "object"}, **CACHED},
        ],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "max", "task_budget": {"type": "tokens", "total": 9}},
        "container": "c",
        "context_management": {"edits": []},
        "metadata": {"user_id": "u"},
    }
    request, source = spoken(**fields)
    assert body(request, source) == fields | {"model": "house-model", "max_tokens": 100}


def test_bytes_of_messages_stay_as_they_are() -> None:
    raw = b'{"model": "m", "max_tokens": 1, "messages": [{"content":  "\\u0041\\/",\t"role": "user"}]}'
    sent = upstream().encode(*SURFACE.decode(raw, "/v1/messages")).body
    assert b'{"content":  "\\u0041\\/",\t"role": "user"}' in sent


def test_a_changed_message_is_written_anew_and_the_others_stay() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a", **CACHED}]},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    request, source = spoken(messages=turns)
    changed = Message(role="user", parts=(Text(text="C"),))
    sent = body(msgspec.structs.replace(request, messages=(*request.messages[:2], changed)), source)
    assert sent["messages"] == [*turns[:2], {"role": "user", "content": [{"type": "text", "text": "C"}]}]


def test_a_prompt_put_first_leaves_the_callers_system_prompt_as_it_was() -> None:
    own = [{"type": "text", "text": "Be brief.", **CACHED}]
    request, source = spoken(system=own)
    prompt = Message(role="system", parts=(Text(text="You sell kelp."),))
    sent = body(msgspec.structs.replace(request, messages=(prompt, *request.messages)), source)
    assert sent["system"] == [{"type": "text", "text": "You sell kelp."}, *own]
    request, source = spoken(system="Be brief.")
    sent = body(msgspec.structs.replace(request, messages=(prompt, *request.messages)), source)
    assert [block["text"] for block in sent["system"]] == ["You sell kelp.", "Be brief."]


def test_a_system_prompt_that_was_taken_away_is_gone() -> None:
    request, source = spoken(system="Be brief.")
    assert "system" not in body(msgspec.structs.replace(request, messages=request.messages[1:]), source)


def test_a_changed_schema_keeps_the_rest_of_its_field() -> None:
    format_ = {"type": "json_schema", "schema": {"a": 1}}
    request, source = spoken(output_config={"effort": "low", "format": format_})
    changed = msgspec.structs.replace(request, response_format=ResponseFormat(type="schema", schema={"b": 2}))
    sent = body(changed, source)["output_config"]
    assert sent == {"effort": "low", "format": {"type": "json_schema", "schema": {"b": 2}}}


def test_a_schema_in_the_earlier_field_stays_there() -> None:
    format_ = {"type": "json_schema", "schema": {"a": 1}}
    request, source = spoken(output_format=format_)
    sent = body(request, source)
    assert (sent["output_format"], sent.get("output_config")) == (format_, None)


def test_thinking_that_no_signature_vouches_for_is_left_out() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "b"}],
        },
        {"role": "user", "content": "c"},
    ]
    request, source = spoken(messages=turns)
    assert body(request, source)["messages"][1]["content"] == [{"type": "text", "text": "b"}]


def test_the_gateways_own_object_is_never_sent() -> None:
    request, source = spoken(holdfast={"session": "s"})
    assert "holdfast" not in body(request, source)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_system_messages_anywhere_become_the_system_prompt() -> None:
    messages = (
        Message(role="system", parts=(Text(text="a"), Text(text="b"))),
        Message(role="user", parts=(Text(text="c"),)),
        Message(role="system", parts=(Text(text="d"),)),
    )
    sent = body(ask(messages=messages), OTHER)
    assert [block["text"] for block in sent["system"]] == ["a", "b", "d"]
    assert len(sent["messages"]) == 1


def test_a_system_message_with_an_image_is_refused() -> None:
    request = ask(messages=(Message(role="system", parts=(Image(url="https://a.example"),)),))
    assert refused(request).param == "messages.0.content"


@pytest.mark.parametrize(("model", "in_place"), [("claude-opus-5", True), ("claude-haiku-4-5", False)])
def test_a_system_message_within_the_conversation_stays_where_the_model_takes_it(model: str, in_place: bool) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    request, source = spoken(messages=turns)
    sent = body(request, source, model)
    assert (sent["messages"], sent.get("system")) == ((turns, None) if in_place else (turns[:1], "b"))


def test_turns_of_the_same_role_become_one() -> None:
    messages = (
        Message(role="user", parts=(Text(text="a"),)),
        Message(role="user", parts=(Text(text="b"),), name="ann"),
        Message(
            role="assistant",
            parts=(ToolCall(id="1", name="f", arguments="{}"), ToolCall(id="2", name="f", arguments="{}")),
        ),
        Message(role="tool", parts=(ToolResult(call_id="1", content=(Text(text="x"),)),)),
        Message(role="tool", parts=(ToolResult(call_id="2", is_error=True),)),
        Message(role="user", parts=(Text(text="c"),)),
    )
    assert body(ask(messages=messages))["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}]},
                {"type": "tool_result", "tool_use_id": "2", "is_error": True},
                {"type": "text", "text": "c"},
            ],
        },
    ]


PDF = b64encode(b"%PDF").decode()


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Refusal(text="No."), {"type": "text", "text": "No."}),
        (Image(url="https://a.example/b"), {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}}),
        (
            Image(data="aGk=", media_type="image/webp", detail="low"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "aGk="}},
        ),
        (
            File(name="a.pdf", data=PDF, media_type="application/pdf"),
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            File(data=b64encode("é".encode()).decode(), media_type="text/markdown"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
        ),
        (File(url="https://a.example"), {"type": "document", "source": {"type": "url", "url": "https://a.example"}}),
        (File(id="file_1"), {"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        (Unknown(wire="anthropic", value={"type": "new", "a": 1}), {"type": "new", "a": 1}),
    ],
)
def test_parts_become_blocks(part: Part, block: Any) -> None:
    assert body(ask(part))["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    "part",
    [
        Audio(data="aGk=", format="wav"),
        File(data="aGk=", media_type="application/zip"),
        File(data="!", media_type="text/plain"),
        File(data=b64encode(b"\xff").decode(), media_type="text/plain"),
        Unknown(wire="openai", value={"type": "new"}),
    ],
)
def test_parts_that_the_wire_can_not_say_are_refused(part: Part) -> None:
    said = Message(role="assistant", parts=(Text(text="a"),))
    error = refused(ask(messages=(said, Message(role="user", parts=(part,)))))
    assert error.param == "messages.1.content"
    assert "house-model" in error.message


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("  ", {}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": "[1]"}),
        ("null", {"arguments": "null"}),
        ("{" * 50_000, {"arguments": "{" * 50_000}),
    ],
)
def test_arguments_become_an_object_whatever_the_model_wrote(arguments: str, input: Any) -> None:
    call = Message(role="assistant", parts=(ToolCall(id="a", name="f", arguments=arguments),))
    assert body(ask(messages=(call,)))["messages"][0]["content"][0]["input"] == input


def test_ids_of_other_providers_are_written_in_the_letters_of_this_wire() -> None:
    messages = (
        Message(role="assistant", parts=(ToolCall(id="functions.f:0", name="f", arguments="{}"),)),
        Message(role="tool", parts=(ToolResult(call_id="functions.f:0"),)),
    )
    call, result = (message["content"][0] for message in body(ask(messages=messages))["messages"])
    assert call["id"] == result["tool_use_id"] == "functions_f_0"


def test_empty_text_is_left_out() -> None:
    messages = (
        Message(role="user", parts=(Text(text="a"),)),
        Message(role="assistant", parts=(Text(text=""), ToolCall(id="a", name="f", arguments="{}"))),
        Message(role="assistant", parts=(Text(text=""),)),
    )
    sent = body(ask(messages=messages))["messages"]
    assert [[block["type"] for block in message["content"]] for message in sent] == [["text"], ["tool_use"]]


def test_a_prefill_ends_without_space() -> None:
    messages = (Message(role="user", parts=(Text(text="a "),)), Message(role="assistant", parts=(Text(text="b \n"),)))
    sent = body(ask(messages=messages))["messages"]
    assert [message["content"][0]["text"] for message in sent] == ["a ", "b"]


# --- settings ---------------------------------------------------------------------------------------------------------


def test_several_answers_are_refused() -> None:
    assert refused(ask(n=2)).param == "n"


def test_log_probabilities_are_refused() -> None:
    assert refused(ask(top_logprobs=0)).param == "logprobs"


def test_hints_that_the_wire_does_not_know_are_dropped() -> None:
    assert body(ask(seed=1, presence_penalty=1.0, frequency_penalty=1.0)) == body(ask())


def test_a_temperature_beyond_the_scale_is_the_highest() -> None:
    assert body(ask(temperature=1.8))["temperature"] == 1.0


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-haiku-4-5-20251001", True),
        ("claude-sonnet-4-6", True),
        ("claude-3-5-haiku-20241022", True),
        ("anthropic.claude-opus-4-20250514-v1:0", True),
        ("claude-opus-4-7", False),
        ("claude-sonnet-5", False),
        ("claude-opus-5-5", False),
        ("claude-fable-9", False),
        ("claude-mythos-preview", False),
        ("deepseek-chat", True),
    ],
)
def test_sampling_is_asked_for_where_the_model_takes_it(model: str, sent: bool) -> None:
    request = ask(temperature=0.5, top_p=0.5, top_k=5)
    assert ({"temperature", "top_p", "top_k"} <= body(request, model=model).keys()) is sent


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (ToolChoice(mode="auto"), None, {"type": "auto"}),
        (ToolChoice(mode="none"), False, {"type": "none"}),
        (ToolChoice(mode="required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="named", name="f"), True, {"type": "tool", "name": "f", "disable_parallel_tool_use": False}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, None, None),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, expected: Any) -> None:
    request = ask(tools=(Tool(name="f"),), tool_choice=choice, parallel_tool_calls=parallel)
    assert body(request).get("tool_choice") == expected


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert "tool_choice" not in body(ask(tool_choice=ToolChoice(mode="auto"), parallel_tool_calls=True))


def test_a_tool_needs_a_schema_of_an_object() -> None:
    tools = (Tool(name="f"), Tool(name="g", parameters={"properties": {"a": {}}}, strict=True, description="d"))
    assert body(ask(tools=tools))["tools"] == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        {
            "name": "g",
            "description": "d",
            "input_schema": {"type": "object", "properties": {"a": {}}},
            "strict": True,
        },
    ]


def test_tools_of_another_provider_are_refused() -> None:
    tool = Tool(name="web_search", extra={"type": "web_search_preview"})
    assert refused(ask(tools=(tool,)), OTHER).param == "tools"


def test_settings_of_a_tool_that_only_its_wire_knows_stay_there() -> None:
    tool = Tool(name="f", extra={"defer_loading": True})
    assert body(ask(tools=(tool,)))["tools"][0]["defer_loading"] is True
    assert "defer_loading" not in body(ask(tools=(tool,)), OTHER)["tools"][0]


def test_a_schema_is_the_native_structured_output() -> None:
    format_ = ResponseFormat(type="schema", schema={"type": "object"}, name="n", strict=True)
    expected = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert body(ask(response_format=format_))["output_config"] == expected


def test_json_without_a_schema_is_asked_for_in_the_system_prompt() -> None:
    prompt = Message(role="system", parts=(Text(text="You sell kelp."),))
    sent = body(ask(messages=(prompt,), response_format=ResponseFormat(type="json")))
    assert sent["system"][0]["text"] == "You sell kelp."
    assert "JSON object" in sent["system"][1]["text"]
    assert "JSON object" in body(ask(response_format=ResponseFormat(type="json")))["system"]
    assert "output_config" not in sent


def test_private_fields_of_other_wires_are_dropped_and_unknown_ones_sent() -> None:
    extra = {"store": True, "user": "u", "metadata": {"a": "b"}, "logit_bias": {}, "verbosity": "low", "new_field": 1}
    assert body(ask(extra=extra), OTHER) == body(ask()) | {"metadata": {"user_id": "u"}, "new_field": 1}


@pytest.mark.parametrize("field", ["tool_choice", "response_format"])
def test_promises_of_other_wires_that_have_no_neutral_form_are_refused(field: str) -> None:
    assert refused(ask(extra={field: {"type": "new"}}), OTHER).param == field


def test_what_json_can_not_say_is_refused() -> None:
    assert "JSON" in refused(ask(extra={"a": object()})).message
    assert "JSON" in refused(ask(Text(text="\ud800"))).message


# --- thinking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent"),
    [
        ("claude-opus-5-5", "low", {"type": "adaptive"}, "low"),
        ("claude-opus-5-5", "minimal", {"type": "adaptive"}, "low"),
        ("claude-opus-5-5", "xhigh", {"type": "adaptive"}, "xhigh"),
        ("claude-opus-5-5", "none", None, "low"),
        ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
        ("claude-haiku-5-5", "none", {"type": "disabled"}, None),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
        ("claude-fable-5-1", "none", None, "low"),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, "high"),
        ("claude-opus-4-5", "xhigh", {"type": "enabled", "budget_tokens": 32_768}, "high"),
        ("claude-haiku-4-5", "medium", {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-haiku-4-5", "none", {"type": "disabled"}, None),
        ("claude-3-haiku-20240307", "high", None, None),
        ("claude-3-haiku-20240307", "none", None, None),
    ],
)
def test_an_effort_is_said_as_the_model_takes_it(model: str, effort: Any, thinking: Any, sent: str | None) -> None:
    got = body(ask(reasoning_effort=effort), model=model)
    assert (got.get("thinking"), got.get("output_config", {}).get("effort")) == (thinking, sent)


@pytest.mark.parametrize(
    ("model", "tokens", "thinking", "effort"),
    [
        ("claude-haiku-4-5", 2000, {"type": "enabled", "budget_tokens": 2000}, None),
        ("claude-haiku-4-5", 10, {"type": "enabled", "budget_tokens": 1024}, None),
        ("claude-opus-4-6", 2000, {"type": "enabled", "budget_tokens": 2000}, None),
        ("claude-opus-4-6", 0, {"type": "disabled"}, None),
        ("claude-opus-5-5", 2000, {"type": "adaptive"}, "low"),
        ("claude-opus-5-5", 10_000, {"type": "adaptive"}, "high"),
        ("claude-opus-5-5", 60_000, {"type": "adaptive"}, "xhigh"),
    ],
)
def test_a_budget_is_said_as_the_model_takes_it(model: str, tokens: int, thinking: Any, effort: str | None) -> None:
    got = body(ask(reasoning_tokens=tokens), model=model)
    assert (got.get("thinking"), got.get("output_config", {}).get("effort")) == (thinking, effort)


def test_a_budget_comes_on_top_of_the_default_for_the_answer() -> None:
    assert body(ask(reasoning_tokens=2000), model="claude-haiku-4-5")["max_tokens"] == 6096


@pytest.mark.parametrize(
    ("max_tokens", "fields", "budget"),
    [
        (10_000, {"reasoning_effort": "high"}, 5000),
        (3000, {"reasoning_tokens": 5000}, 2999),
        (1024, {"reasoning_tokens": 5000}, None),
        (2000, {"reasoning_effort": "high"}, None),
    ],
)
def test_a_budget_leaves_room_for_the_answer(max_tokens: int, fields: Any, budget: int | None) -> None:
    sent = body(ask(max_tokens=max_tokens, **fields), model="claude-haiku-4-5")
    assert sent["max_tokens"] == max_tokens
    assert sent.get("thinking", {}).get("budget_tokens") == budget


def test_sampling_gives_way_to_a_budget() -> None:
    sent = body(ask(reasoning_tokens=2000, temperature=0.5, top_k=3), model="claude-haiku-4-5")
    assert not {"temperature", "top_k"} & sent.keys()


CALL = Message(role="assistant", parts=(ToolCall(id="a", name="f", arguments="{}"),))
THOUGHT = Message(role="assistant", parts=(Reasoning(text="hm", signature="s"), *CALL.parts))
RESULT = Message(role="tool", parts=(ToolResult(call_id="a"),))
USER = Message(role="user", parts=(Text(text="a"),))


@pytest.mark.parametrize(
    ("messages", "choice", "thinks"),
    [
        ((USER,), None, True),
        ((USER,), ToolChoice(mode="required"), False),
        ((USER, Message(role="assistant", parts=(Text(text="b"),))), None, False),
        ((USER, CALL, RESULT), None, False),
        ((USER, THOUGHT, RESULT), None, True),
        ((USER, CALL, RESULT, USER), None, True),
    ],
)
def test_a_budget_gives_way_where_there_can_be_no_thinking(messages: Any, choice: Any, thinks: bool) -> None:
    request = ask(messages=messages, tools=(Tool(name="f"),), tool_choice=choice, reasoning_tokens=2000)
    assert ("thinking" in body(request, model="claude-haiku-4-5")) is thinks


def test_thinking_gives_way_to_a_forced_tool() -> None:
    request = ask(tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="required"), reasoning_effort="low")
    sent = body(request, model="claude-opus-4-6")
    assert "thinking" not in sent
    assert sent["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("model", "thinking", "expected"),
    [
        ("claude-haiku-4-5", {"type": "enabled", "budget_tokens": 99}, {"type": "enabled", "budget_tokens": 99}),
        ("claude-opus-5-5", {"type": "enabled", "budget_tokens": 9999}, {"type": "adaptive"}),
        ("claude-opus-5-5", {"type": "disabled"}, None),
        ("claude-haiku-4-5", {"type": "adaptive"}, None),
        ("claude-sonnet-5-5", {"type": "disabled"}, {"type": "between_tools"}),
    ],
)
def test_thinking_of_the_same_wire_is_kept_or_said_as_this_model_takes_it(
    model: str, thinking: Any, expected: Any
) -> None:
    assert body(*spoken(thinking=thinking), model=model).get("thinking") == expected


def test_an_effort_of_the_same_wire_that_this_model_does_not_take_is_lowered() -> None:
    assert body(*spoken(output_config={"effort": "max"}), model="claude-opus-4-5")["output_config"] == {
        "effort": "high"
    }
    assert "output_config" not in body(*spoken(output_config={"effort": "max"}), model="claude-haiku-4-5")


# --- answers ----------------------------------------------------------------------------------------------------------


def answer(**fields: Any) -> Any:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    } | fields


def reply_to(said: Any) -> Any:
    return upstream().decode(json.dumps(said).encode())


def test_an_answer_is_decoded() -> None:
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 20,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 4},
    }
    reply = reply_to(answer(usage=usage, stop_reason="stop_sequence", stop_sequence="END"))
    assert (reply.id, reply.model, reply.extra) == ("msg_1", "claude-opus-5", {})
    assert reply.choices == (Choice(parts=(Text(text="Hi"),), finish="stop", stop_sequence="END"),)
    assert reply.usage == Usage(
        input_tokens=35, output_tokens=9, cache_read_tokens=20, cache_write_tokens=10, reasoning_tokens=4
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "refused"),
        ("pause_turn", "length"),
        ("something_new", "length"),
    ],
)
def test_stop_reasons_are_decoded_and_given_back(reason: str, finish: str) -> None:
    reply = reply_to(answer(stop_reason=reason))
    assert reply.choices[0].finish == finish
    assert json.loads(SURFACE.encode(reply))["stop_reason"] == reason


def test_a_refusal_is_an_answer_with_the_providers_reason() -> None:
    details = {"type": "refusal", "category": None, "explanation": "Not this."}
    choice = reply_to(answer(content=[], stop_reason="refusal", stop_details=details)).choices[0]
    assert (choice.parts, choice.finish, choice.refusal_reason) == ((), "refused", "Not this.")


RICH = answer(
    content=[
        {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "kelp"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []},
        {"type": "text", "text": "Kelp.", "citations": [{"type": "char_location", "cited_text": "K"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct"}},
    ],
    stop_reason="tool_use",
    stop_details=None,
    usage={
        "input_tokens": 1,
        "output_tokens": 2,
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 1},
    },
    container={"id": "c"},
)


def test_what_only_this_wire_says_comes_back_on_this_wire() -> None:
    assert json.loads(SURFACE.encode(reply_to(RICH))) == RICH


def test_what_somebody_changed_does_not_come_back() -> None:
    reply = reply_to(RICH)
    parts = (Text(text="[removed]"), reply.choices[0].parts[3])
    choice = msgspec.structs.replace(reply.choices[0], parts=parts, finish="stop")
    changed = msgspec.structs.replace(reply, choices=(choice,), usage=Usage(input_tokens=7))
    said = json.loads(SURFACE.encode(changed))
    assert [block.get("text") for block in said["content"]] == ["[removed]", None]
    assert "Kelp" not in json.dumps(said)
    assert (said["stop_reason"], said["usage"]["input_tokens"]) == ("end_turn", 7)


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(Overloaded):
        reply_to({"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"<html></html>",
        json.dumps(answer(content=None)).encode(),
        json.dumps(answer(content=[7])).encode(),
        json.dumps(answer(content=[{"type": "text"}])).encode(),
        json.dumps(answer(content=[{"type": "tool_use", "id": "a", "name": "f", "input": "x"}])).encode(),
        json.dumps(answer(stop_reason=None)).encode(),
        json.dumps(answer(usage={"input_tokens": "x"})).encode(),
        json.dumps(answer()).encode()[:-20],
        b'{"error":' + b"[" * 100_000,
        b'{"content":"\xff","stop_reason":"end_turn"}',
        b'{"content":"x","stop_reason":"end_turn","new":' + b"9" * 5000 + b"}",
    ],
)
def test_answers_that_do_not_follow_the_format_are_malformed(said: bytes) -> None:
    with pytest.raises(MalformedResponse):
        upstream().decode(said)


@given(st.binary(max_size=60))
def test_any_bytes_are_malformed(said: bytes) -> None:
    with pytest.raises(MalformedResponse):
        upstream().decode(said)


def test_there_are_no_embeddings() -> None:
    with pytest.raises(BadRequest):
        upstream().decode_embeddings(b"{}")
