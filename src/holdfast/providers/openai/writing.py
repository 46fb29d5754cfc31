"""Messages and tools as this wire writes them: `chat.py` values -> JSON."""

from collections.abc import Sequence
from typing import Any

from holdfast.chat import (
    Audio,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from holdfast.errors import BadRequest
from holdfast.providers.openai.wire import data_url, reasoning_fields, signed

Json = dict[str, Any]


def write_messages(message: Message, place: str, quirks: frozenset[str]) -> list[Json]:
    """Write a message, as several where it holds several tool results. Raises BadRequest for what has no words here."""
    if message.role == "assistant":
        return [_assistant(message, place, quirks)]
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    written = [_tool_result(result, place) for result in results]
    if rest or not results:
        role = "user" if message.role == "tool" else message.role
        written.append(_named({"role": role, "content": _content(rest, place)}, message.name))
    return written


def write_answer(parts: Sequence[Part]) -> Json:
    """Write the fields of an assistant's message, for a caller: everything is said."""
    texts = [part.text for part in parts if isinstance(part, Text)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    message |= reasoning_fields([part for part in parts if isinstance(part, Reasoning)])
    _add_calls(message, calls, signatures=True)
    _add_unknown(message, parts)
    return message


def write_tool(tool: Tool, *, extra: bool) -> Json:
    """Write a tool, with its fields of this wire if `extra`."""
    if not extra:
        return {"type": "function", "function": _function(tool)}
    if "type" in tool.extra:  # it is no function, and `extra` is the whole of it
        return dict(tool.extra)
    return {"type": "function", "function": _function(tool), **tool.extra}


def write_tool_choice(choice: ToolChoice) -> str | Json:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def write_format(format: ResponseFormat) -> Json:
    if format.type == "text":
        return {"type": "text"}
    if format.type == "json":
        return {"type": "json_object"}
    schema = {"name": format.name or "answer", "description": format.description, "schema": format.schema}
    return {"type": "json_schema", "json_schema": _said(schema | {"strict": format.strict})}


def write_call(id: str, name: str, arguments: str, signature: str | None) -> Json:
    call: Json = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    if signature is not None:
        call["extra_content"] = signed(signature)
    return call


def _function(tool: Tool) -> Json:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return _said(function | {"strict": tool.strict})


def _assistant(message: Message, place: str, quirks: frozenset[str]) -> Json:
    """Write an assistant's message. Reasoning goes to those servers only that are known to take it back."""
    parts = message.parts
    said = [part for part in parts if not isinstance(part, ToolCall | Reasoning | Refusal | Unknown)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    written = _named({"role": "assistant"}, message.name)
    fields = reasoning_fields([part for part in parts if isinstance(part, Reasoning)])
    written |= {key: value for key, value in fields.items() if key in quirks}
    written["content"] = _content(said, place) if said else None
    if refusals:
        written["refusal"] = "".join(refusals)
    calls = [part for part in parts if isinstance(part, ToolCall)]
    _add_calls(written, calls, signatures="extra_content" in quirks)
    _add_unknown(written, [_ours(part, place) for part in parts if isinstance(part, Unknown)])
    if len(written) == 2 and written["content"] is None:
        written["content"] = ""
    return written


def _add_calls(message: Json, calls: list[ToolCall], *, signatures: bool) -> None:
    for call in calls:
        if call.id:
            signature = call.signature if signatures else None
            message.setdefault("tool_calls", []).append(write_call(call.id, call.name, call.arguments, signature))
        else:  # the deprecated form, in which a message has one call without an id
            message["function_call"] = {"name": call.name, "arguments": call.arguments}


def _add_unknown(message: Json, parts: Sequence[Part]) -> None:
    """Put back what only this wire knows: custom tool calls, content parts, and fields of the message."""
    for part in parts:
        if not isinstance(part, Unknown) or part.wire != "openai":
            continue
        if "type" not in part.value:
            message.update(part.value)
        elif "id" in part.value:
            message.setdefault("tool_calls", []).append(part.value)
        elif isinstance(content := message.get("content"), str):
            message["content"] = [{"type": "text", "text": content}, part.value]
        else:
            message["content"] = [*(content or ()), part.value]


def _tool_result(result: ToolResult, place: str) -> Json:
    content = _content(result.content, place) if result.content else ""
    if not result.call_id and result.name is not None:
        return {"role": "function", "name": result.name, "content": content}
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _content(parts: Sequence[Part], place: str) -> str | list[Json]:
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_part(part, place) for part in parts]


def _part(part: Part, place: str) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": _said({"url": _image_url(part, place), "detail": part.detail})}
    if isinstance(part, Audio):
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
    if isinstance(part, File):
        return {"type": "file", "file": _file(part)}
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if isinstance(part, Unknown):
        return _ours(part, place).value
    raise BadRequest(f"The openai wire can't say a {type(part).__name__} here.", param=place)


def _ours(part: Unknown, place: str) -> Unknown:
    if part.wire != "openai":
        kind = part.value.get("type", "part")
        raise BadRequest(f"The openai wire can't say a {kind!r} of the {part.wire} wire.", param=place)
    return part


def _image_url(image: Image, place: str) -> str:
    if image.data is not None:
        return data_url(image.media_type or "image/png", image.data)
    if image.url is None:
        raise BadRequest("An image needs a url or data.", param=place)
    return image.url


def _file(file: File) -> Json:
    """Write a file. A name is required beside data, and a URL is what OpenRouter takes in its place."""
    if file.data is None:
        return _said({"file_data": file.url, "file_id": file.id, "filename": file.name})
    data = data_url(file.media_type, file.data) if file.media_type else file.data
    return _said({"file_data": data, "file_id": file.id, "filename": file.name or "document"})


def _named(message: Json, name: str | None) -> Json:
    if name is not None:
        message["name"] = name
    return message


def _said(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}
