"""Requests as a Gemini model gets them, and its answers as it gives them."""

from typing import Any

import msgspec
import pytest

from holdfast.chat import (
    Audio,
    Choice,
    EmbeddingRequest,
    File,
    Image,
    Logprob,
    Message,
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
from holdfast.errors import BadRequest, ContentRefused, MalformedResponse, Overloaded
from holdfast.http.base import HttpRequest
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.google import GoogleSurface, GoogleUpstream

BASE = "https://generativelanguage.googleapis.com/v1beta"
USER = Message(role="user", parts=(Text(text="Hi"),))


def upstream(model: str = "gemini-3-flash", **settings: Any) -> GoogleUpstream:
    return GoogleUpstream(Endpoint(model=model, base_url=BASE, api_key="key", **settings))


def body(request: HttpRequest) -> Any:
    return msgspec.json.decode(request.body)


def encode(*messages: Message, to: GoogleUpstream | None = None, **fields: Any) -> Any:
    return body((to or upstream()).encode(Request(model="m", messages=messages or (USER,), **fields)))


def answer(*parts: Any, finish: str | None = "STOP", **fields: Any) -> bytes:
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0} | fields
    return msgspec.json.encode({"candidates": [candidate], "responseId": "r1", "modelVersion": "gemini-3-flash"})


# --- where a request goes


def test_the_model_and_the_verb_are_in_the_path_and_the_key_in_its_header() -> None:
    request = upstream(headers=((b"x-team", b"search"),)).encode(Request(model="feature", messages=(USER,)))
    assert request.method == "POST"
    assert request.url == f"{BASE}/models/gemini-3-flash:generateContent"
    assert dict(request.headers) == {
        b"content-type": b"application/json",
        b"x-goog-api-key": b"key",
        b"x-team": b"search",
    }
    assert body(request) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def test_a_stream_has_a_verb_of_its_own_and_asks_for_events() -> None:
    request = upstream(query={"quotaUser": "a b"}).encode(Request(model="m", messages=(USER,), stream=True))
    assert request.url == f"{BASE}/models/gemini-3-flash:streamGenerateContent?quotaUser=a+b&alt=sse"


@pytest.mark.parametrize("model", ["tunedModels/mine", "models/gemini-3-flash", "publishers/google/models/gemini"])
def test_a_model_may_be_named_as_a_resource(model: str) -> None:
    assert upstream(model).encode(Request(model="m", messages=(USER,))).url == f"{BASE}/{model}:generateContent"


def test_without_a_key_no_key_is_sent() -> None:
    endpoint = Endpoint(model="m", base_url=BASE, headers=((b"authorization", b"Bearer t"),))
    headers = dict(GoogleUpstream(endpoint).encode(Request(model="m", messages=(USER,))).headers)
    assert headers == {b"content-type": b"application/json", b"authorization": b"Bearer t"}


def test_settings_of_the_model_are_laid_under_what_the_caller_sets() -> None:
    defaults = {"generationConfig": {"topK": 5, "temperature": 1}, "safetySettings": []}
    sent = encode(to=upstream(body=defaults), temperature=0.5)
    assert sent["generationConfig"] == {"topK": 5, "temperature": 0.5}
    assert sent["safetySettings"] == []


# --- messages


def test_system_messages_become_the_instruction() -> None:
    sent = encode(
        Message(role="system", parts=(Text(text="Be brief."),)),
        USER,
        Message(role="system", parts=(Text(text="Now."),)),
    )
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Now."}]}
    assert [content["role"] for content in sent["contents"]] == ["user"]


def test_a_lone_system_message_is_said_by_the_user_because_there_must_be_contents() -> None:
    sent = encode(Message(role="system", parts=(Text(text="Say hello."),)))
    assert sent == {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def test_media_are_sent_inline_or_by_their_address() -> None:
    parts = (
        Image(data="aW1n", media_type="image/webp", detail="low"),
        Image(url="https://host.example/a.png?x=1"),
        Audio(data="c25k", format="mp3"),
        File(data="cGRm", name="a.pdf"),
        File(data="dHh0", name="notes.csv"),
        File(url="https://host.example/unknown"),
        File(id="files/abc"),
    )
    (content,) = encode(Message(role="user", parts=parts))["contents"]
    assert content["parts"] == [
        {"inlineData": {"mimeType": "image/webp", "data": "aW1n"}},
        {"fileData": {"fileUri": "https://host.example/a.png?x=1", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "c25k"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
        {"inlineData": {"mimeType": "text/csv", "data": "dHh0"}},
        {"fileData": {"fileUri": "https://host.example/unknown"}},
        {"fileData": {"fileUri": f"{BASE}/files/abc"}},
    ]


CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Kyiv"}', signature="c2ln")
ASKED = Message(role="assistant", parts=(CALL, ToolCall(id="call_2", name="time", arguments="")))


def result(id: str, text: str, **fields: Any) -> Message:
    return Message(role="tool", parts=(ToolResult(call_id=id, content=(Text(text=text),), **fields),))


def test_calls_keep_their_signature_and_results_find_the_name_of_their_call_and_stand_together() -> None:
    sent = encode(USER, ASKED, result("call_2", "noon"), result("call_1", '{"sky": "blue"}'), USER)
    assert sent["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {
                    "functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Kyiv"}},
                    "thoughtSignature": "c2ln",
                },
                {"functionCall": {"id": "call_2", "name": "time", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_2", "name": "time", "response": {"output": "noon"}}},
                {"functionResponse": {"id": "call_1", "name": "weather", "response": {"sky": "blue"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "Hi"}]},
    ]


@pytest.mark.parametrize(
    ("model", "mark"), [("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-pro", None)]
)
def test_the_first_of_the_calls_that_another_model_made_is_marked_where_signatures_are_required(
    model: str, mark: str | None
) -> None:
    calls = tuple(ToolCall(id=name, name=name, arguments="{}") for name in "fg")
    (content,) = encode(Message(role="assistant", parts=calls), to=upstream(model))["contents"]
    assert [part.get("thoughtSignature") for part in content["parts"]] == [mark, None]


def test_signatures_of_reasoning_that_came_on_another_wire_are_dropped_and_those_of_calls_kept() -> None:
    parts = (Reasoning(text="Hm.", signature="Y2xhdWRl"), Reasoning(signature="Y2xhdWRl"), CALL)
    request = Request(model="m", messages=(Message(role="assistant", parts=parts),))
    source = Source(wire="anthropic", request=request, fields={}, messages={}, tools={})
    (content,) = body(upstream().encode(request, source))["contents"]
    assert [part.get("thoughtSignature") for part in content["parts"]] == [None, "c2ln"]
    assert content["parts"][0] == {"text": "Hm.", "thought": True}


@pytest.mark.parametrize(
    ("text", "failed", "response"),
    [
        ("[1]", False, {"output": "[1]"}),
        ("{broken", False, {"output": "{broken"}),
        ('{"output": "x"}', False, {"output": '{"output": "x"}'}),
        ('{"a": 1}', True, {"error": '{"a": 1}'}),
        ("no such city", True, {"error": "no such city"}),
        ("", False, {"output": ""}),
    ],
)
def test_a_result_is_always_an_object(text: str, failed: bool, response: Any) -> None:
    sent = encode(USER, ASKED, result("call_1", text, is_error=failed))
    assert sent["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_an_image_in_a_result_is_sent_with_it() -> None:
    image = Image(data="aW1n", media_type="image/png")
    message = Message(role="tool", parts=(ToolResult(call_id="c", name="plot", content=(image,)),))
    sent = encode(USER, message)["contents"][1]["parts"][0]["functionResponse"]
    assert sent["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aW1n"}}]


def test_arguments_that_are_no_object_are_shown_as_they_were_written() -> None:
    call = ToolCall(id="c", name="f", arguments='{"a": ', signature="c2ln")
    (content,) = encode(Message(role="assistant", parts=(call,)))["contents"]
    assert content["parts"][0]["functionCall"]["args"] == {"arguments": '{"a": '}


def test_reasoning_goes_back_with_its_signature_and_anothers_sealed_reasoning_is_left_out() -> None:
    parts = (Reasoning(redacted="c2VhbA=="), Reasoning(text="Hm.", signature="c2ln"), Text(text="A"), Refusal(text="B"))
    (content,) = encode(Message(role="assistant", parts=parts))["contents"]
    assert content["parts"] == [
        {"text": "Hm.", "thought": True, "thoughtSignature": "c2ln"},
        {"text": "A"},
        {"text": "B"},
    ]


@pytest.mark.parametrize(
    "part",
    [
        ToolResult(call_id="call_9", content=(Text(text="x"),)),
        ToolResult(call_id="c", name="f", content=(Image(url="https://host.example/a.png"),)),
        File(id="file-openai"),
        Unknown(wire="anthropic", value={"type": "search_result"}),
    ],
)
def test_what_the_wire_has_no_words_for_is_refused_with_its_place(part: Any) -> None:
    with pytest.raises(BadRequest, match="no words for") as refused:
        encode(USER, Message(role="user", parts=(part,)))
    assert refused.value.param == "messages[1]"


# --- configuration


def test_the_configuration_uses_the_names_of_the_wire() -> None:
    sent = encode(
        max_tokens=10,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        stop=("END",),
        seed=7,
        n=2,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        top_logprobs=3,
        response_format=ResponseFormat(type="schema", schema={"type": "object"}, name="n", strict=True),
        reasoning_effort="low",
    )
    assert sent["generationConfig"] == {
        "maxOutputTokens": 10,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 3,
        "stopSequences": ["END"],
        "seed": 7,
        "candidateCount": 2,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "responseLogprobs": True,
        "logprobs": 3,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True},
    }


@pytest.mark.parametrize(
    ("model", "fields", "thinking"),
    [
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {"reasoning_effort": "high"}, {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-3-flash-preview", {"reasoning_effort": "none"}, {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3.1-pro-preview", {"reasoning_effort": "minimal"}, {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-flash-latest", {"reasoning_effort": "xhigh"}, {"thinkingLevel": "high", "includeThoughts": True}),
        (
            "gemini-3-flash",
            {"reasoning_effort": "high", "reasoning_tokens": 99},
            {"thinkingBudget": 99, "includeThoughts": True},
        ),
    ],
)
def test_thinking_is_asked_for_as_the_model_understands_it(model: str, fields: Any, thinking: Any) -> None:
    assert encode(to=upstream(model), **fields)["generationConfig"] == {"thinkingConfig": thinking}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice(mode="auto"), {"mode": "AUTO"}),
        (ToolChoice(mode="none"), {"mode": "NONE"}),
        (ToolChoice(mode="required"), {"mode": "ANY"}),
        (ToolChoice(mode="named", name="f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tools_and_the_choice_among_them(choice: ToolChoice, config: Any) -> None:
    tools = (Tool(name="f", description="F.", parameters={"type": "object"}, strict=True), Tool(name="g"))
    sent = encode(tools=tools, tool_choice=choice, parallel_tool_calls=False)
    declarations = [{"name": "f", "description": "F.", "parametersJsonSchema": {"type": "object"}}, {"name": "g"}]
    assert sent["tools"] == [{"functionDeclarations": declarations}]
    assert sent["toolConfig"] == {"functionCallingConfig": config}


def test_private_fields_of_other_wires_are_dropped_and_unknown_ones_sent() -> None:
    private = {"store": True, "metadata": {}, "user": "u", "service_tier": "auto", "holdfast": {}, "thinking": {}}
    sent = encode(extra=private | {"safetySettings": [], "generationConfig": {"mediaResolution": "X"}})
    assert sent.keys() == {"contents", "safetySettings", "generationConfig"}


def test_what_was_changed_on_the_way_is_encoded_and_the_rest_forwarded_as_it_came() -> None:
    spoken = (
        b'{"contents": [{"parts": [{"text": "a", "partMetadata": {"x":  1}}]}, {"parts": [{"text": "b"}]}],'
        b' "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type":  "OBJECT"}}]},'
        b' {"googleSearch": {}}],'
        b' "generationConfig": {"temperature": 1.0, "mediaResolution": "M"}, "store": true, "model": "models/m"}'
    )
    request, source = GoogleSurface().decode(spoken, "/v1beta/models/m:generateContent")
    prompt = Message(role="system", parts=(Text(text="Be kind."),))
    changed = msgspec.structs.replace(
        request,
        messages=(prompt, request.messages[0], USER),
        tools=(*request.tools, Tool(name="g")),
        max_tokens=5,
    )
    sent = upstream().encode(changed, source).body
    assert b'{"parts": [{"text": "a", "partMetadata": {"x":  1}}]}' in sent
    assert b'{"name": "f", "parameters": {"type":  "OBJECT"}}' in sent
    assert msgspec.json.decode(sent) == {
        "systemInstruction": {"parts": [{"text": "Be kind."}]},
        "contents": [
            {"parts": [{"text": "a", "partMetadata": {"x": 1}}]},
            {"role": "user", "parts": [{"text": "Hi"}]},
        ],
        "tools": [
            {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}, {"name": "g"}]},
            {"googleSearch": {}},
        ],
        "generationConfig": {"temperature": 1.0, "maxOutputTokens": 5, "mediaResolution": "M"},
        "store": True,
    }


# --- answers


RECORDED = b"""{
  "candidates": [
    {
      "content": {
        "parts": [
          {"text": "**Weighing the options**\\n\\nThe user wants", "thought": true},
          {"text": "Kyiv is the capital of Ukraine.", "thoughtSignature": "EokBCoYB"}
        ],
        "role": "model"
      },
      "finishReason": "STOP",
      "index": 0,
      "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}],
      "logprobsResult": {
        "topCandidates": [{"candidates": [{"token": "Kyiv", "tokenId": 4, "logProbability": -0.01},
                                          {"token": "The", "tokenId": 9, "logProbability": "-Infinity"}]}],
        "chosenCandidates": [{"token": "Kyiv", "tokenId": 4, "logProbability": -0.01}, {"token": " is"}]
      }
    }
  ],
  "usageMetadata": {
    "promptTokenCount": 120, "cachedContentTokenCount": 100, "toolUsePromptTokenCount": 5,
    "candidatesTokenCount": 8, "thoughtsTokenCount": 40, "totalTokenCount": 173,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 90}, {"modality": "AUDIO", "tokenCount": 30}],
    "serviceTier": "standard"
  },
  "modelVersion": "gemini-3-flash-preview",
  "responseId": "kYoUad6lBsKp"
}"""


def test_a_recorded_answer_is_read() -> None:
    reply = upstream().decode(RECORDED)
    assert (reply.id, reply.model) == ("kYoUad6lBsKp", "gemini-3-flash-preview")
    assert reply.usage == Usage(
        input_tokens=125, output_tokens=48, cache_read_tokens=100, reasoning_tokens=40, input_audio_tokens=30
    )
    (choice,) = reply.choices
    assert choice.finish == "stop"
    assert choice.parts == (
        Reasoning(text="**Weighing the options**\n\nThe user wants"),
        Text(text="Kyiv is the capital of Ukraine."),
        Reasoning(signature="EokBCoYB"),
    )
    kyiv, the = Logprob(token="Kyiv", logprob=-0.01), Logprob(token="The", logprob=-9999.0)
    top = msgspec.structs.replace(kyiv, top=(kyiv, the))
    assert choice.logprobs == (top, Logprob(token=" is", logprob=0.0))
    assert reply.extra["candidates"][0]["safetyRatings"][0]["probability"] == "NEGLIGIBLE"


def test_a_choice_that_calls_functions_ends_with_tool_calls_and_every_call_has_an_id() -> None:
    parts = (
        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "g", "id": "own"}},
        {"functionCall": {"name": "h", "args": {}}},
    )
    for _ in range(2):
        (choice,) = upstream().decode(answer(*parts)).choices
        assert choice.finish == "tool_calls"
        assert choice.parts == (
            ToolCall(id="call_r1_0", name="f", arguments='{"a":1}', signature="c2ln"),
            ToolCall(id="own", name="g", arguments="{}"),
            ToolCall(id="call_r1_2", name="h", arguments="{}"),
        )


@pytest.mark.parametrize(
    ("reason", "finish", "told"),
    [
        ("STOP", "stop", None),
        ("MAX_TOKENS", "length", None),
        *((reason, "refused", reason) for reason in ("SAFETY", "RECITATION", "BLOCKLIST", "SPII", "IMAGE_SAFETY")),
        *((reason, "refused", reason) for reason in ("LANGUAGE", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT")),
    ],
)
def test_how_an_answer_ended(reason: str, finish: str, told: str | None) -> None:
    (choice,) = upstream().decode(answer({"text": "So"}, finish=reason)).choices
    assert (choice.finish, choice.refusal_reason, choice.text) == (finish, told, "So")


@pytest.mark.parametrize(
    "reason",
    [
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"),
        *("OTHER", "NO_IMAGE", "FINISH_REASON_UNSPECIFIED", "OF_NEXT_YEAR", None),
    ],
)
def test_an_answer_that_broke_off_is_never_taken_for_one(reason: str | None) -> None:
    with pytest.raises(MalformedResponse, match=f"{reason or 'no finishReason'}.*: bad call"):
        upstream().decode(answer({"text": "So"}, finish=reason, finishMessage="bad call"))


def test_candidates_are_put_in_the_order_of_their_index() -> None:
    candidates = [
        {"content": {"parts": [{"text": text}]}, "finishReason": "STOP", "index": index}
        for index, text in ((1, "b"), (0, "a"))
    ]
    reply = upstream().decode(msgspec.json.encode({"candidates": candidates}))
    assert [choice.text for choice in reply.choices] == ["a", "b"]
    assert (reply.id, reply.model, reply.usage) == ("", "gemini-3-flash", None)


def test_what_only_this_wire_knows_is_kept() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "c2ln"}
    image = {"inlineData": {"mimeType": "image/png", "data": "aW1n"}}
    reply = upstream().decode(answer(code, image, groundingMetadata={"webSearchQueries": ["q"]}))
    assert reply.choices[0].parts == (
        Unknown(wire="google", value=code),
        Image(data="aW1n", media_type="image/png"),
    )
    again = msgspec.json.decode(GoogleSurface().encode(reply))["candidates"][0]
    assert again["content"]["parts"] == [code, image]
    assert again["groundingMetadata"] == {"webSearchQueries": ["q"]}


def test_a_refused_prompt_is_content_refused_with_its_reason() -> None:
    body = b'{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}}'
    with pytest.raises(ContentRefused, match="PROHIBITED_CONTENT"):
        upstream().decode(body)


def test_a_refused_answer_without_content_is_a_refused_choice() -> None:
    reply = upstream().decode(b'{"candidates": [{"finishReason": "SAFETY", "index": 0}]}')
    assert reply.choices == (Choice(finish="refused", refusal_reason="SAFETY"),)


def test_an_error_with_status_200_is_that_error() -> None:
    with pytest.raises(Overloaded, match="try later"):
        upstream().decode(b'{"error": {"code": 503, "message": "try later", "status": "UNAVAILABLE"}}')


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"<html>", b"{}", b'{"candidates": []}', b'{"candidates": [1]}', b"\xff"),
        b'{"candidates": [{"content": {"parts": [{}]}, "finishReason": "STOP"}]}',
        b'{"candidates": [{"content": {"parts": [{"text": 1}]}, "finishReason": "STOP"}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {}}]}, "finishReason": "STOP"}]}',
        b'{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": 1}}]}}]}',
        b'{"x": ' + b"[" * 100_000,
        b'{"candidates": [{"content": {"parts": [{"text": "\xff"}]}, "finishReason": "STOP"}]}',
    ],
)
def test_an_answer_that_is_none_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedResponse):
        upstream().decode(body)


# --- embeddings


def test_texts_are_embedded_in_one_batch() -> None:
    request = EmbeddingRequest(
        model="m", input=("a", "b"), dimensions=8, extra={"taskType": "RETRIEVAL_QUERY", "user": "u"}
    )
    sent = upstream("gemini-embedding-001").encode_embeddings(request)
    common = {"model": "models/gemini-embedding-001", "outputDimensionality": 8, "taskType": "RETRIEVAL_QUERY"}
    assert sent.url == f"{BASE}/models/gemini-embedding-001:batchEmbedContents"
    assert body(sent) == {"requests": [common | {"content": {"parts": [{"text": text}]}} for text in "ab"]}


def test_tokens_are_not_embedded() -> None:
    with pytest.raises(BadRequest) as refused:
        upstream().encode_embeddings(EmbeddingRequest(model="m", input=((1, 2),)))
    assert refused.value.param == "input"


def test_vectors_are_read_from_either_answer() -> None:
    reply = upstream("e").decode_embeddings(b'{"embeddings": [{"values": [1, 0.5]}, {"values": [0, 1]}]}')
    assert (reply.model, reply.vectors, reply.usage) == ("e", ((1.0, 0.5), (0.0, 1.0)), None)
    one = b'{"embedding": {"values": [1]}, "usageMetadata": {"promptTokenCount": 3}}'
    assert upstream().decode_embeddings(one).vectors == ((1.0,),)
    assert upstream().decode_embeddings(one).usage == Usage(input_tokens=3)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"embeddings": []}', b'{"embeddings": [{"values": ["a"]}]}', b"[1]"])
def test_vectors_that_are_none_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedResponse):
        upstream().decode_embeddings(body)
