"""What POST /v1/messages takes and answers: what every model can be told.

Blocks and tools of other types reach a model of the Anthropic wire as they came; any other refuses them.
"""

from holdfast.gateway.serving.pages.openapi.shapes import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    Json,
    array,
    const,
    either,
    enum,
    maybe,
    named,
    record,
    ref,
)


def schemas() -> dict[str, Json]:
    """Return the components: `MessagesRequest`, and what it and the answers are made of."""
    return _blocks() | _tools() | {"MessagesRequest": _request(), "Turn": _turn(), "Thinking": _thinking()} | _answers()


def _request() -> Json:
    format = record("type schema", type=const("json_schema"), schema=OBJECT)
    return record(
        "model messages max_tokens",
        model=ref("Model"),
        messages=array(ref("Turn"), 1),
        max_tokens=_integer(1, 2**53),
        system=maybe(either(STRING, array(ref("TextBlock")))),
        tools=maybe(array(ref("CustomTool"))),
        tool_choice=maybe(ref("MessagesToolChoice")),
        thinking=maybe(ref("Thinking")),
        output_config=maybe(
            record(effort=maybe(enum(("low", "medium", "high", "xhigh", "max"))), format=maybe(format))
        ),
        output_format=maybe(format),
        stop_sequences=maybe(array(STRING)),
        temperature=maybe(NUMBER | {"minimum": 0, "maximum": 1}),
        top_p=maybe(NUMBER | {"minimum": 0, "maximum": 1}),
        top_k=maybe(_integer(0, 2**53)),
        stream=maybe(BOOLEAN),
        holdfast=maybe(ref("Hints")),
    )


def _turn() -> Json:
    return either(
        record("role content", role=const("user"), content=_content("UserBlock")),
        record("role content", role=const("assistant"), content=_content("AssistantBlock")),
        record("role content", role=const("system"), content=_content("TextBlock")),
    )


def _thinking() -> Json:
    return either(
        record("type budget_tokens", type=const("enabled"), budget_tokens=_integer(1)),
        record("type", type=named("enabled"), budget_tokens=maybe(_integer(1))),
    )


def _tools() -> dict[str, Json]:
    return {
        "CustomTool": record(
            "name input_schema",
            type=maybe(const("custom")),
            name=STRING | {"minLength": 1},
            description=maybe(STRING),
            input_schema=OBJECT,
            strict=maybe(BOOLEAN),
        ),
        "MessagesToolChoice": either(
            record("type", type=enum(("auto", "any", "none")), **_choice()),
            record("type name", type=const("tool"), **(_choice() | {"name": STRING})),
        ),
    }


def _integer(least: int, most: int | None = None) -> Json:
    return INTEGER | {"minimum": least} | ({} if most is None else {"maximum": most})


def _content(block: str) -> Json:
    return either(STRING, array(ref(block)))


def _choice() -> dict[str, Json]:
    return {"name": maybe(STRING), "disable_parallel_tool_use": maybe(BOOLEAN)}


def _source(type: str, required: str) -> Json:
    fields = dict.fromkeys(required.split(), STRING)
    return record(f"type {required}", type=const(type), **fields) | {"additionalProperties": maybe(STRING)}


def _blocks() -> dict[str, Json]:
    base64, url = _source("base64", "data media_type"), _source("url", "url")
    document = either(base64, url, _source("text", "data"), _source("file", "file_id"))
    shared = [ref("TextBlock"), ref("ImageBlock"), ref("DocumentBlock")]
    return {
        "TextBlock": record("type text", type=const("text"), text=STRING),
        "ImageBlock": record("type source", type=const("image"), source=either(base64, url)),
        "DocumentBlock": record("type source", type=const("document"), source=document, title=maybe(STRING)),
        "ToolResultBlock": record(
            "type tool_use_id",
            type=const("tool_result"),
            tool_use_id=STRING,
            content=either(STRING, array(either(*shared))),
            is_error=maybe(BOOLEAN),
        ),
        "ToolUseBlock": record("type id name input", type=const("tool_use"), id=STRING, name=STRING, input=OBJECT),
        "ThinkingBlock": record("type thinking", type=const("thinking"), thinking=STRING, signature=maybe(STRING)),
        "RedactedThinkingBlock": record("type data", type=const("redacted_thinking"), data=STRING),
        "UserBlock": either(*shared, ref("ToolResultBlock")),
        "AssistantBlock": either(*shared, ref("ToolUseBlock"), ref("ThinkingBlock"), ref("RedactedThinkingBlock")),
    }


def _answers() -> dict[str, Json]:
    return {
        "MessagesAnswer": record(
            "id type role model content stop_reason usage",
            id=STRING,
            type=const("message"),
            role=const("assistant"),
            model=STRING,
            content=array(record("type", type=STRING)),
            stop_reason=STRING,
            stop_sequence=maybe(STRING),
            usage=record("input_tokens output_tokens", input_tokens=INTEGER, output_tokens=INTEGER),
        ),
        "MessagesError": record(
            "type error request_id",
            type=const("error"),
            error=record("type message", type=STRING, message=STRING),
            request_id=STRING,
        ),
    }
