"""What the OpenAI routes take and answer. Fields and their ranges come from the structs that decode them."""

from holdfast.gateway.serving.pages.openapi import distribution
from holdfast.gateway.serving.pages.openapi.shapes import (
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    Json,
    array,
    const,
    either,
    enum,
    generated,
    maybe,
    named,
    record,
    ref,
    refine,
)
from holdfast.providers.openai.wire import WireEmbeddingRequest, WireRequest

_IN_RESULTS = ("text", "image_url", "file")
_PARTS = (*_IN_RESULTS, "input_audio", "refusal")
_CONDITIONS = (
    either(record(stream_options={"type": "null"}), record("stream", stream=const(True))),
    either(record(top_logprobs={"type": "null"}), record("logprobs", logprobs=const(True))),
    either(record(max_tokens={"type": "null"}), record(max_completion_tokens={"type": "null"})),
)


def schemas() -> dict[str, Json]:
    """Return the components: `ChatRequest`, `EmbeddingRequest`, and what they and the answers are made of."""
    structs = generated(WireRequest, WireEmbeddingRequest)
    chat, message, part = structs.pop("WireRequest"), structs.pop("WireMessage"), structs.pop("WirePart")
    call, tool = structs.pop("WireToolCall"), structs.pop("WireTool")
    response_format, embedding = structs.pop("WireResponseFormat"), structs.pop("WireEmbeddingRequest")
    return (
        structs
        | distribution.schemas(chat)
        | {
            "ChatRequest": _chat(chat),
            "Message": either(*_messages(message, call)),
            "Part": either(ref("SimplePart"), *_parts(part, _PARTS[3:]), refine(part, type=named(*_PARTS))),
            "SimplePart": either(*_parts(part, _IN_RESULTS)),
            "ResponseFormat": either(
                refine(response_format, "json_schema", type=const("json_schema"), json_schema=ref("WireJsonSchema")),
                refine(response_format, type=named("json_schema")),
            ),
            "EmbeddingRequest": _embedding(embedding),
        }
        | _tools(tool, call)
        | _answers()
    )


def _chat(request: Json) -> Json:
    refined = refine(
        request,
        model=ref("Model"),
        messages=array(ref("Message"), 1),
        tools=maybe(array(ref("Tool"))),
        tool_choice=maybe(ref("ToolChoice")),
        response_format=maybe(ref("ResponseFormat")),
        holdfast=maybe(ref("Hints")),
    )
    return refined | {"allOf": list(_CONDITIONS)}


def _embedding(request: Json) -> Json:
    return refine(
        request,
        model=ref("Model"),
        input=either(STRING, array(STRING, 1), array(INTEGER, 1), array(array(INTEGER, 1), 1)),
        holdfast=maybe(ref("Hints")),
    )


def _tools(tool: Json, call: Json) -> dict[str, Json]:
    return {
        "ToolCall": either(
            refine(call, "function", type=const("function"), function=ref("WireFunctionCall")),
            refine(call, "type", type=named("function")),
        ),
        "Tool": either(
            refine(tool, "function", type=const("function"), function=ref("WireFunction")),
            refine(tool, type=named("function")),
        ),
        "ToolChoice": either(
            enum(("none", "auto", "required")),
            record("type function", type=const("function"), function=record("name", name=STRING)),
            record("type", type=named("function")),
        ),
    }


def _messages(message: Json, call: Json) -> list[Json]:
    said = either(STRING, array(ref("Part"), 1))
    result = either(STRING, array(ref("SimplePart"), 1))
    other = refine(message, tool_calls=maybe(array(call)))
    return [
        refine(other, "content", role=enum(("system", "developer", "user")), content=said),
        refine(
            message,
            role=const("assistant"),
            content=maybe(either(STRING, array(ref("Part")))),
            tool_calls=maybe(array(ref("ToolCall"))),
        ),
        refine(other, "content tool_call_id", role=const("tool"), content=result, tool_call_id=STRING),
        refine(other, "name", role=const("function"), content=maybe(result), name=STRING),
    ]


def _parts(part: Json, kinds: tuple[str, ...]) -> list[Json]:
    """Return each kind of part: the field of its name is there, and not null."""
    fields = part["properties"]
    return [refine(part, kind, type=const(kind), **{kind: either(*_not_null(fields[kind]))}) for kind in kinds]


def _not_null(field: Json) -> list[Json]:
    return [option for option in field["anyOf"] if option != {"type": "null"}]


def _answers() -> dict[str, Json]:
    usage = record("prompt_tokens total_tokens", prompt_tokens=INTEGER, completion_tokens=INTEGER, total_tokens=INTEGER)
    choice = record(
        "index message finish_reason",
        index=INTEGER,
        message=record("role", role=const("assistant"), content=maybe(STRING), tool_calls=array(OBJECT)),
        finish_reason=STRING,
        logprobs=maybe(OBJECT),
    )
    vector = record("object index embedding", object=const("embedding"), index=INTEGER)
    error = record("message type", message=STRING, type=STRING, param=maybe(STRING), code=STRING, call=STRING)
    return {
        "ChatCompletion": record(
            "id object created model choices",
            id=STRING,
            object=const("chat.completion"),
            created=INTEGER,
            model=STRING,
            choices=array(choice),
            usage=usage,
        ),
        "Embeddings": record(
            "object data model usage",
            object=const("list"),
            data=array(refine(vector, embedding=either(array(NUMBER), STRING))),
            model=STRING,
            usage=usage,
        ),
        "Error": record("error", error=error),
    }
