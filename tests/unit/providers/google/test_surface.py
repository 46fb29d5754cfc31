"""Requests as callers of the Gemini API send them."""

from base64 import b64encode
from struct import pack
from typing import Any

import msgspec
import pytest

from holdfast.chat import (
    Audio,
    EmbeddingReply,
    EmbeddingRequest,
    File,
    Image,
    Message,
    Reasoning,
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
from holdfast.errors import InvalidRequest
from holdfast.providers.google import GoogleSurface

SURFACE = GoogleSurface()
PATH = "/v1beta/models/gemini-3-flash:generateContent"
HI = {"contents": [{"parts": [{"text": "Hi"}]}]}


def decode(path: str = PATH, **fields: Any) -> Request:
    return SURFACE.decode(msgspec.json.encode(HI | fields), path)[0]


def parts(*wire: Any, role: str = "user") -> tuple[Any, ...]:
    return decode(contents=[{"role": role, "parts": wire}]).messages[0].parts


# --- the path


@pytest.mark.parametrize(
    ("path", "model", "stream"),
    [
        ("/v1beta/models/gemini-3-flash:generateContent", "gemini-3-flash", False),
        ("/v1beta/models/gemini-3-flash:streamGenerateContent", "gemini-3-flash", True),
        ("/v1/models/answer:streamGenerateContent?alt=sse", "answer", True),
        ("/v1beta/models/house:8b:generateContent", "house:8b", False),
        ("/v1beta/models/a%20b:generateContent", "a b", False),
        ("/v1beta/tunedModels/mine:generateContent", "tunedModels/mine", False),
    ],
)
def test_the_path_says_the_model_and_whether_to_stream(path: str, model: str, stream: bool) -> None:
    request = decode(path)
    assert (request.model, request.stream, request.stream_usage) == (model, stream, stream)


@pytest.mark.parametrize(
    "path", ["", "/", "/v1beta/models/m", "/v1beta/models/m:embedContent", "/models/:x", "/v1/chat"]
)
def test_another_path_is_an_invalid_request(path: str) -> None:
    with pytest.raises(InvalidRequest, match="Expected the path"):
        decode(path)


# --- a request in full


RECORDED = b"""{
  "system_instruction": {"parts": [{"text": "You are a cat. Your name is Neko."}]},
  "contents": [
    {"role": "user", "parts": [{"text": "What?"}, {"inline_data": {"mime_type": "image/jpeg", "data": "aW1n"}}]},
    {"role": "model", "parts": [{"text": "Let me see.", "thought": true},
                                {"functionCall": {"name": "look_up", "args": {"inline_data": [1.50]}},
                                 "thoughtSignature": "c2ln"}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "look_up", "response": {"result": "a dog"}}},
                               {"text": "And now?"}]}
  ],
  "tools": [{"functionDeclarations": [{"name": "look_up", "description": "Looks up.", "parameters": {
      "type": "OBJECT", "required": ["q"], "propertyOrdering": ["q"],
      "properties": {"q": {"type": "STRING", "nullable": true}, "n": {"type": "ARRAY", "items": {"type": "INTEGER"},
                     "maxItems": "3"}}}}]}, {"googleSearch": {}}],
  "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look_up"]},
                 "retrievalConfig": {"languageCode": "uk"}},
  "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
  "generationConfig": {"stopSequences": ["Title"], "temperature": 1.0, "maxOutputTokens": 800, "topP": 0.8,
                       "topK": 10.0, "responseMimeType": "application/json", "responseSchema": {"type": "STRING"},
                       "thinkingConfig": {"thinkingLevel": "LOW"}, "mediaResolution": "MEDIA_RESOLUTION_LOW"}
}"""


def test_a_recorded_request_is_read() -> None:
    request, source = SURFACE.decode(RECORDED, PATH)
    schema = {
        "type": "object",
        "required": ["q"],
        "properties": {
            "q": {"type": ["string", "null"]},
            "n": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        },
    }
    assert request == Request(
        model="gemini-3-flash",
        messages=(
            Message(role="system", parts=(Text(text="You are a cat. Your name is Neko."),)),
            Message(role="user", parts=(Text(text="What?"), Image(data="aW1n", media_type="image/jpeg"))),
            Message(
                role="assistant",
                parts=(
                    Reasoning(text="Let me see."),
                    ToolCall(id="call_0", name="look_up", arguments='{"inline_data":[1.5]}', signature="c2ln"),
                ),
            ),
            Message(role="tool", parts=(ToolResult(call_id="call_0", name="look_up", content=(Text(text="a dog"),)),)),
            Message(role="user", parts=(Text(text="And now?"),)),
        ),
        tools=(
            Tool(name="look_up", description="Looks up.", parameters=schema),
            Tool(name="googleSearch", extra={"googleSearch": {}}),
        ),
        tool_choice=ToolChoice(mode="named", name="look_up"),
        response_format=ResponseFormat(type="schema", schema={"type": "string"}),
        max_tokens=800,
        temperature=1.0,
        top_p=0.8,
        top_k=10,
        stop=("Title",),
        reasoning_effort="low",
        extra={
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            "toolConfig": {"retrievalConfig": {"languageCode": "uk"}},
            "generationConfig": {
                "mediaResolution": "MEDIA_RESOLUTION_LOW",
                "thinkingConfig": {"includeThoughts": False},
            },
        },
    )
    assert source.wire == "google"
    assert source.message(request.messages[2]) is not None
    assert source.message(request.messages[3]) is None


def test_results_answer_calls_of_their_name_in_order() -> None:
    call = {"functionCall": {"name": "f"}}
    answer = {"functionResponse": {"name": "f", "response": {}}}
    request = decode(
        contents=[
            {"role": "model", "parts": [call, {"functionCall": {"name": "g", "id": "own"}}, call]},
            {"role": "function", "parts": [answer, {"functionResponse": {"name": "g", "response": {}}}, answer]},
        ]
    )
    called, answered = request.messages
    assert [part.id for part in called.parts if isinstance(part, ToolCall)] == ["call_0", "own", "call_2"]
    assert [part.call_id for part in answered.parts if isinstance(part, ToolResult)] == ["call_0", "own", "call_2"]


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [
        ({"output": "x"}, "x", False),
        ({"result": {"a": 1}}, '{"a":1}', False),
        ({"error": "no"}, "no", True),
        ({"temperature": 3, "unit": "C"}, '{"temperature":3,"unit":"C"}', False),
    ],
)
def test_a_result_is_read_as_text(response: Any, text: str, failed: bool) -> None:
    (result,) = parts({"functionResponse": {"name": "f", "id": "c", "response": response}})
    assert result == ToolResult(call_id="c", name="f", content=(Text(text=text),), is_error=failed)


def test_media_are_told_by_their_type() -> None:
    wire = [
        {"inlineData": {"mimeType": "audio/mpeg", "data": "YQ=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "YQ=="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://a"}},
        {"fileData": {"fileUri": "https://host.example/a.pdf"}},
        {"executableCode": {"code": "1"}},
    ]
    assert parts(*wire) == (
        Audio(data="YQ==", format="mp3"),
        File(data="YQ==", media_type="application/pdf"),
        Image(url="gs://a", media_type="image/png"),
        File(url="https://host.example/a.pdf", media_type="application/pdf"),
        Unknown(wire="google", value={"executableCode": {"code": "1"}}),
    )


@pytest.mark.parametrize(
    ("thinking", "effort", "tokens", "extra"),
    [
        ({"thinkingBudget": 0}, "none", None, {}),
        ({"thinkingBudget": -1}, None, None, {"thinkingBudget": -1}),
        ({"thinkingBudget": 512, "includeThoughts": True}, None, 512, {}),
        ({"thinkingLevel": "high", "includeThoughts": True}, "high", None, {}),
        ({"includeThoughts": True}, None, None, {"includeThoughts": True}),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None, None, {"includeThoughts": False}),
    ],
)
def test_thinking_is_a_word_or_a_budget(thinking: Any, effort: Any, tokens: Any, extra: Any) -> None:
    request = decode(generationConfig={"thinkingConfig": thinking})
    assert (request.reasoning_effort, request.reasoning_tokens) == (effort, tokens)
    assert request.extra == ({"generationConfig": {"thinkingConfig": extra}} if extra else {})


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({}, None),
        ({"mode": "auto"}, ToolChoice(mode="auto")),
        ({"mode": "VALIDATED"}, ToolChoice(mode="auto")),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}, ToolChoice(mode="required")),
    ],
)
def test_a_choice_among_tools_is_the_nearest_one(config: Any, choice: Any) -> None:
    assert decode(toolConfig={"functionCallingConfig": config}).tool_choice == choice


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": None}, "contents"),
        ({"contents": "Hi"}, "contents"),
        ({"contents": [{"parts": []}]}, "contents[0].parts"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"text": "a"}, {}]}]}, "contents[0].parts[1].data"),
        ({"contents": [{"parts": [{"inlineData": {}}]}]}, "contents[0].parts[0].inlineData.data"),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": []}}]}]},
            "contents[0].parts[0].functionCall.args",
        ),
        ({"systemInstruction": "x"}, "systemInstruction"),
        ({"systemInstruction": {"parts": [{"text": []}]}}, "systemInstruction.parts[0].text"),
        ({"tools": [{"functionDeclarations": [{"description": "x"}]}]}, "tools[0].functionDeclarations[0].name"),
        ({"tools": [{"functionDeclarations": 1}]}, "tools[0].functionDeclarations"),
        ({"tools": {}}, "tools"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
        ({"generationConfig": []}, "generationConfig"),
        ({"generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"maxOutputTokens": 10**30}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences[0]"),
        ({"generationConfig": {"responseSchema": {}}}, "generationConfig.responseMimeType"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "x"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(**fields)
    assert refused.value.param == param
    assert param in refused.value.message


TEXT = b'{"contents": [{"parts": [{"text": "x"}]}], '


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"{", b"null", b"[]", b"42", b'"x"', b"\xff\xfe", b"{}", b"[" * 1_000_000, b'{"a":' * 100_000),
        b'{"contents": [{"parts": [{"text": "\xff"}]}]}',
        b'{"contents": [{"parts": [{"text": "\\ud800"}]}]}',
        b'{"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"a": "\xff"}}}]}]}',
        TEXT + b'"generationConfig": {"temperature": NaN}}',
        TEXT + b'"generationConfig": {"temperature": 1e999}}',
        TEXT + b'"x": "\xff"}',
        TEXT + b'"x": -Infinity}',
        TEXT + b'"\xff": 1}',
        TEXT + b'"x": 1' + b"0" * 5000 + b"}",
        TEXT + b'"x": ' + b"[" * 500 + b"]" * 500 + b"}",
        TEXT + b'"system_instruction": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}",
    ],
)
def test_a_hostile_body_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SURFACE.decode(body, PATH)
    assert refused.value.message
    with pytest.raises(InvalidRequest):
        SURFACE.decode_embeddings(body, "/v1beta/models/m:embedContent")


# --- embeddings


def test_one_text_or_a_batch_is_embedded() -> None:
    one = {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "taskType": "CLUSTERING", "output_dimensionality": 8}
    expected = EmbeddingRequest(model="e", input=("ab",), dimensions=8, extra={"taskType": "CLUSTERING"})
    assert SURFACE.decode_embeddings(msgspec.json.encode(one), "/v1beta/models/e:embedContent") == expected
    batch = msgspec.json.encode({"requests": [one | {"model": "models/e"}] * 2})
    request = SURFACE.decode_embeddings(batch, "/v1beta/models/e:batchEmbedContents")
    assert request == msgspec.structs.replace(expected, input=("ab", "ab"))


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("embedContent", {}),
        ("embedContent", {"content": {"parts": []}}),
        ("embedContent", {"content": {"parts": [{"inlineData": {"data": ""}}]}}),
        ("embedContent", {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 0}),
        ("batchEmbedContents", {"requests": []}),
        ("batchEmbedContents", {"requests": [1]}),
        ("batchEmbedContents", {"content": {"parts": [{"text": "a"}]}}),
        (
            "batchEmbedContents",
            {
                "requests": [
                    {"content": {"parts": [{"text": "a"}]}},
                    {"content": {"parts": [{"text": "b"}]}, "taskType": "CLUSTERING"},
                ]
            },
        ),
        ("generateContent", {"content": {"parts": [{"text": "a"}]}}),
    ],
)
def test_a_wrong_request_for_embeddings_is_invalid(verb: str, body: Any) -> None:
    with pytest.raises(InvalidRequest):
        SURFACE.decode_embeddings(msgspec.json.encode(body), f"/v1beta/models/e:{verb}")


def test_vectors_are_floats_and_a_single_one_answers_either_verb() -> None:
    packed = b64encode(pack("<2f", 0.5, -1.0)).decode()
    reply = EmbeddingReply(model="e", vectors=(packed,), usage=Usage(input_tokens=2))
    assert msgspec.json.decode(SURFACE.encode_embeddings(reply, "base64")) == {
        "embedding": {"values": [0.5, -1.0]},
        "embeddings": [{"values": [0.5, -1.0]}],
        "usageMetadata": {"promptTokenCount": 2, "totalTokenCount": 2},
    }
