"""Requests as callers send them: JSON of the wire -> `chat.py` values, strict where the API is strict."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar, cast, get_args

import msgspec

from holdfast.chat import (
    Audio,
    Effort,
    EmbeddingRequest,
    File,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
)
from holdfast.errors import InvalidRequest
from holdfast.providers.base import Source
from holdfast.providers.openai.wire import (
    WireEmbeddingRequest,
    WireFile,
    WireImage,
    WireMessage,
    WirePart,
    WireRequest,
    WireResponseFormat,
    WireToolCall,
    reasoning_parts,
    signature_of,
    split_data_url,
)

_T = TypeVar("_T")
_REQUEST = msgspec.json.Decoder(WireRequest)
_EMBEDDING_REQUEST = msgspec.json.Decoder(WireEmbeddingRequest)
_JSON = msgspec.json.Decoder()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_KNOWN = frozenset(WireRequest.__struct_fields__)
_KNOWN_EMBEDDING = frozenset(WireEmbeddingRequest.__struct_fields__)
_USUAL = frozenset(
    ("model", "messages", "tools", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stream")
)
_ASKING: dict[str, Role] = {"user": "user", "system": "system", "developer": "system"}
_EFFORTS = frozenset(get_args(Effort))
_MODES = frozenset(("auto", "none", "required"))
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<param>.*)`)?", re.DOTALL)


def parse_request(body: bytes) -> tuple[Request, Source]:
    """Decode a chat request. Raises InvalidRequest with `param` at fault.

    Of a key that stands twice in an object, the last counts.
    """
    wire, fields = _open(_REQUEST, body)
    _check(wire)
    raw = fields["messages"]
    tree = _Tree(raw)
    messages = tuple([_message(message, tree, i) for i, message in enumerate(wire.messages)])
    tools = tuple([_tool(tool, i) for i, tool in enumerate(_plain(fields["tools"]))]) if wire.tools else ()
    request = _request(wire, fields, messages, tools)
    source = Source(
        wire="openai",
        request=request,
        fields=fields,
        messages=_Pieces(messages, raw),
        tools=_Pieces(tools, fields["tools"]) if tools else {},
    )
    return request, source


def parse_embeddings(body: bytes) -> EmbeddingRequest:
    """Decode a request for embeddings. Raises InvalidRequest with `param` at fault."""
    wire, fields = _open(_EMBEDDING_REQUEST, body)
    return EmbeddingRequest(
        model=wire.model,
        input=_inputs(wire.input),
        dimensions=wire.dimensions,
        encoding_format=wire.encoding_format or "float",
        extra={name: _plain(raw) for name, raw in fields.items() if name not in _KNOWN_EMBEDDING},
    )


# --- JSON -------------------------------------------------------------------------------------------------------------


class _Pieces(Mapping[int, msgspec.Raw]):
    """The elements of a list as they came, by the `id()` of their values. Split when the first is asked for: mostly the
    list is forwarded whole."""

    def __init__(self, values: tuple[Message, ...] | tuple[Tool, ...], raw: msgspec.Raw) -> None:
        self._values = values
        self._raw = raw

    @cached_property
    def _pieces(self) -> dict[int, msgspec.Raw]:
        return dict(zip(map(id, self._values), _LIST.decode(self._raw), strict=True))

    def __getitem__(self, key: int) -> msgspec.Raw:
        return self._pieces[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._values)


class _Tree(msgspec.Struct, dict=True):
    """The messages as plain JSON, decoded when a part of one is asked for that its struct leaves out."""

    raw: msgspec.Raw

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", _plain(self.raw))


def _open(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> tuple[_T, dict[str, msgspec.Raw]]:
    """Decode a JSON object, and its fields as they came."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look at the text that it skips, and a provider gets all of it
        return decoder.decode(body), _FIELDS.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except UnicodeDecodeError:
        raise InvalidRequest("The request body is not valid UTF-8.") from None
    except (ValueError, RecursionError, OverflowError) as error:
        raise _unreadable(error) from None


def _plain(raw: msgspec.Raw) -> Any:
    try:
        return _JSON.decode(raw)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return InvalidRequest("The request body is nested too deeply.")
    if isinstance(error, OverflowError):
        return InvalidRequest("The request body holds a number out of range.")
    return InvalidRequest(f"The request body is not valid JSON: {error}.")


def _invalid(message: str) -> InvalidRequest:
    place = _PLACE.fullmatch(message)
    what, param = (place["what"], place["param"]) if place else (message, None)
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        param = f"{param}.{missing[1]}" if param else missing[1]
        what = "This field is required"
    elif not param:
        return InvalidRequest("The request body is not a JSON object.")
    return _fault(f"{what}.", param)


def _fault(message: str, param: str | None) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {message}" if param else message, param=param)


# --- the request ------------------------------------------------------------------------------------------------------


def _check(wire: WireRequest) -> None:
    """What the API refuses beyond the type of a single field."""
    if wire.max_tokens is not None and wire.max_completion_tokens is not None:
        raise _fault("max_tokens and max_completion_tokens exclude each other.", "max_tokens")
    if wire.top_logprobs is not None and not wire.logprobs:
        raise _fault("top_logprobs needs logprobs to be true.", "top_logprobs")
    if wire.stream_options is not None and not wire.stream:
        raise _fault("stream_options are for streams only.", "stream_options")


def _request(
    wire: WireRequest, fields: dict[str, msgspec.Raw], messages: tuple[Message, ...], tools: tuple[Tool, ...]
) -> Request:
    request = Request(
        model=wire.model,
        messages=messages,
        tools=tools,
        max_tokens=wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        stream=wire.stream is True,
    )
    return request if _USUAL.issuperset(fields) else msgspec.structs.replace(request, **_rest(wire, fields))


def _rest(wire: WireRequest, fields: dict[str, msgspec.Raw]) -> dict[str, Any]:
    """Read the fields that few requests have. `extra` is what `Request` can't say: unknown fields, and values of known
    ones that only this wire has."""
    extra = {name: _plain(raw) for name, raw in fields.items() if name not in _KNOWN}
    choice, format, effort, stop = wire.tool_choice, wire.response_format, wire.reasoning_effort, wire.stop
    if choice is not None and (tool_choice := _tool_choice(choice)) is None:
        extra["tool_choice"] = choice
    if format is not None and (response_format := _format(format)) is None:
        extra["response_format"] = _plain(fields["response_format"])
    if effort is not None and effort not in _EFFORTS:
        extra["reasoning_effort"] = effort
    return {
        "tool_choice": tool_choice if choice is not None else None,
        "parallel_tool_calls": wire.parallel_tool_calls,
        "response_format": response_format if format is not None else None,
        "top_k": wire.top_k,
        "stop": () if not stop else (stop,) if isinstance(stop, str) else tuple(stop),
        "seed": wire.seed,
        "n": 1 if wire.n is None else wire.n,
        "presence_penalty": wire.presence_penalty,
        "frequency_penalty": wire.frequency_penalty,
        "top_logprobs": (wire.top_logprobs or 0) if wire.logprobs else None,
        "reasoning_effort": effort if effort in _EFFORTS else None,
        "stream_usage": wire.stream_options is not None and bool(wire.stream_options.include_usage),
        "extra": extra,
    }


def _tool_choice(choice: str | dict[str, Any]) -> ToolChoice | None:
    if isinstance(choice, str):
        if choice not in _MODES:
            raise _fault('expected "none", "auto", "required" or an object.', "tool_choice")
        return ToolChoice(mode=cast("Any", choice))
    kind = choice.get("type")
    if not isinstance(kind, str):
        raise _fault("expected a string.", "tool_choice.type")
    if kind != "function":
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise _fault("expected the name of a function.", "tool_choice.function.name")
    return ToolChoice(mode="named", name=name)


def _format(wire: WireResponseFormat) -> ResponseFormat | None:
    if wire.type == "text":
        return ResponseFormat(type="text")
    if wire.type == "json_object":
        return ResponseFormat(type="json")
    if wire.type != "json_schema":
        return None
    schema = wire.json_schema
    if schema is None:
        raise _fault("This field is required.", "response_format.json_schema")
    return ResponseFormat(
        type="schema", schema=schema.schema, name=schema.name, description=schema.description, strict=schema.strict
    )


def _tool(tool: dict[str, Any], i: int) -> Tool:
    """Decode a tool that `WireTool` took. One that is no function is kept whole in `extra`."""
    function = tool.get("function")
    if tool["type"] != "function":
        own = tool.get(tool["type"])
        own = own if isinstance(own, dict) else {}
        name, description = own.get("name"), own.get("description")
        return Tool(
            name=name if isinstance(name, str) else tool["type"],
            description=description if isinstance(description, str) else None,
            extra=tool,
        )
    if function is None:
        raise _fault("This field is required.", f"tools[{i}].function")
    return Tool(
        name=function["name"],
        description=function.get("description"),
        parameters=function.get("parameters"),
        strict=function.get("strict"),
        extra={key: value for key, value in tool.items() if key not in ("type", "function")},
    )


# --- messages ---------------------------------------------------------------------------------------------------------


def _message(wire: WireMessage, tree: _Tree, i: int) -> Message:
    role, content = wire.role, wire.content
    if role in _ASKING:
        parts = (Text(text=content),) if isinstance(content, str) else _content(content, tree, i)
        return Message(role=_ASKING[role], parts=parts, name=wire.name)
    if role == "assistant":
        return Message(role=role, parts=_assistant_parts(wire, tree, i), name=wire.name)
    return Message(role="tool", parts=(_tool_result(wire, tree, i),))


def _content(content: list[WirePart] | None, tree: _Tree, i: int) -> tuple[Part, ...]:
    if not content:
        what = "This field is required." if content is None else "expected at least one part."
        raise _fault(what, f"messages[{i}].content")
    return _parts(content, tree, i)


def _parts(content: list[WirePart], tree: _Tree, i: int) -> tuple[Part, ...]:
    return tuple([_part(part, tree, i, j) for j, part in enumerate(content)])


def _part(part: WirePart, tree: _Tree, i: int, j: int) -> Part:
    kind = part.type
    if kind == "text" and part.text is not None:
        return Text(text=part.text)
    if kind == "image_url" and part.image_url is not None:
        return _image(part.image_url)
    if kind == "input_audio" and part.input_audio is not None:
        return Audio(data=part.input_audio.data, format=part.input_audio.format)
    if kind == "file" and part.file is not None:
        return _file(part.file)
    if kind == "refusal" and part.refusal is not None:
        return Refusal(text=part.refusal)
    if kind in ("text", "image_url", "input_audio", "file", "refusal"):
        raise _fault("This field is required.", f"messages[{i}].content[{j}].{kind}")
    return Unknown(wire="openai", value=tree.messages[i]["content"][j])


def _image(image: WireImage | str) -> Image:
    url, detail = (image, None) if isinstance(image, str) else (image.url, image.detail)
    if (inline := split_data_url(url)) is None:
        return Image(url=url, detail=detail)
    return Image(media_type=inline[0], data=inline[1], detail=detail)


def _file(file: WireFile) -> File:
    data = file.file_data
    if data is None:
        return File(id=file.file_id, name=file.filename)
    if data.startswith(("https://", "http://")):
        return File(url=data, name=file.filename, id=file.file_id)
    media_type, data = split_data_url(data) or (None, data)
    return File(data=data, media_type=media_type, name=file.filename, id=file.file_id)


def _assistant_parts(wire: WireMessage, tree: _Tree, i: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    if wire.reasoning_content or wire.reasoning or wire.reasoning_details:
        parts += reasoning_parts(wire.reasoning_content, wire.reasoning, wire.reasoning_details)
    if isinstance(wire.content, str):
        if wire.content:
            parts.append(Text(text=wire.content))
    elif wire.content:
        parts += _parts(wire.content, tree, i)
    if wire.refusal:
        parts.append(Refusal(text=wire.refusal))
    if wire.tool_calls:
        parts += [_tool_call(call, tree, i, j) for j, call in enumerate(wire.tool_calls)]
    if wire.function_call is not None:
        parts.append(ToolCall(id="", name=wire.function_call.name, arguments=wire.function_call.arguments))
    if wire.audio is not None:
        parts.append(Unknown(wire="openai", value={"audio": wire.audio}))
    return tuple(parts)


def _tool_call(call: WireToolCall, tree: _Tree, i: int, j: int) -> ToolCall | Unknown:
    if call.type != "function":
        return Unknown(wire="openai", value=tree.messages[i]["tool_calls"][j])
    function = call.function
    if function is None:
        raise _fault("This field is required.", f"messages[{i}].tool_calls[{j}].function")
    return ToolCall(
        id=call.id, name=function.name, arguments=function.arguments, signature=signature_of(call.extra_content)
    )


def _tool_result(wire: WireMessage, tree: _Tree, i: int) -> ToolResult:
    """A tool message, or the deprecated function message: its call has no id, as `_assistant_parts` decodes it."""
    call_id, name = wire.tool_call_id, wire.name
    if wire.role == "function":
        if name is None:
            raise _fault("This field is required.", f"messages[{i}].name")
        call_id = ""
    elif call_id is None:
        raise _fault("This field is required.", f"messages[{i}].tool_call_id")
    content: tuple[Part, ...] = ()
    if isinstance(wire.content, str):
        content = (Text(text=wire.content),) if wire.content else ()
    elif wire.content is not None or wire.role == "tool":
        content = _content(wire.content, tree, i)
    for j, part in enumerate(content):
        if not isinstance(part, Text | Image | File):
            raise _fault("a tool's result holds text, images and files.", f"messages[{i}].content[{j}].type")
    return ToolResult(call_id=call_id or "", content=cast("Any", content), name=name)


# --- embeddings -------------------------------------------------------------------------------------------------------


def _inputs(input: str | list[Any]) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    if isinstance(input, str):
        return (input,)
    for kind in (list[str], list[int], list[list[int]]):
        try:
            values: Any = msgspec.convert(input, kind)
        except msgspec.ValidationError:
            continue
        if not values or [] in values:
            raise _fault("expected at least one text or token.", "input")
        if kind == list[str]:
            return tuple(values)
        return (tuple(values),) if kind == list[int] else tuple([tuple(tokens) for tokens in values])
    raise _fault("expected a text, texts, token ids or lists of them.", "input")
