"""Parts of the Gemini wire to parts of a message, and back.

Results of tools are objects on this wire: `{"output": TEXT}`, or `{"error": TEXT}` for a failed call. A text that is a
JSON object is sent as that object.
"""

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Raw

from holdfast.chat import Audio, File, Image, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, Unknown
from holdfast.providers.decoding import Malformed, Unsayable
from holdfast.providers.google.wire import (
    Blob,
    Content,
    FileData,
    FunctionCall,
    FunctionResponse,
    Json,
    WirePart,
    encode_json,
    read,
)

# Fields of a part that say something about its data, and are no data themselves.
_ABOUT = frozenset({"thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"})
_WRAPPERS = (["output"], ["result"], ["error"])


CallId = Callable[[FunctionCall], str]
"""Gives a call its id: this wire need not."""
ResultId = Callable[[FunctionResponse], str]
"""Finds the id of the call that a result answers."""


# --- from the wire ----------------------------------------------------------------------------------------------------


def decode_content(
    content: Content, path: str, whole: Callable[[], Any], call_id: CallId, result_id: ResultId
) -> tuple[Part, ...]:
    """Decode the parts of a content. `whole` gives the content as plain JSON. Raises Malformed."""
    parts: list[Part] = []
    for i, part in enumerate(content.parts or ()):
        place = f"{path}.parts[{i}]"
        if part.text is not None:
            parts.extend(_decode_text(part))
        elif part.function_call is not None:
            parts.append(_decode_call(part, part.function_call, place, call_id))
        elif part.function_response is not None:
            parts.append(_decode_result(part.function_response, place, result_id))
        elif part.inline_data is not None:
            parts.append(decode_media(part.inline_data))
        elif part.file_data is not None:
            parts.append(_decode_file(part.file_data))
        else:
            parts.extend(_decode_other(part, whole()["parts"][i], place))
    return tuple(parts)


def _decode_text(part: WirePart) -> Iterator[Part]:
    """A signature may come on text that is no thought: it then follows the text as reasoning without words."""
    text, signature = part.text or "", part.thought_signature or None
    if part.thought:
        if text or signature:
            yield Reasoning(text=text, signature=signature)
        return
    if text:
        yield Text(text=text)
    if signature:
        yield Reasoning(signature=signature)


def _decode_call(part: WirePart, call: FunctionCall, path: str, call_id: CallId) -> ToolCall:
    arguments = object_text(call.args, f"{path}.functionCall.args")
    signature = part.thought_signature or None
    return ToolCall(id=call_id(call), name=call.name, arguments=arguments, signature=signature)


def object_text(raw: Raw, path: str) -> str:
    """Return an object as the JSON text that it came in; an absent one is empty. Raises Malformed."""
    data = bytes(raw)
    if not data or data == b"null":
        return "{}"
    read(data, Json, path)
    return data.decode()


def _decode_result(result: FunctionResponse, path: str, result_id: ResultId) -> ToolResult:
    text = object_text(result.response, f"{path}.functionResponse.response")
    value: Json = read(text.encode(), Json)
    failed = list(value) == ["error"]
    if list(value) in _WRAPPERS:
        (inner,) = value.values()
        text = inner if isinstance(inner, str) else encode_json(inner).decode()
    content: list[Text | Image | File] = [Text(text=text)] if text else []
    for part in result.parts or ():
        media = decode_media(part.inline_data) if part.inline_data is not None else None
        if isinstance(media, Audio):
            media = File(data=media.data, media_type=f"audio/{media.format}")
        if media is not None:
            content.append(media)
    return ToolResult(call_id=result_id(result), content=tuple(content), name=result.name, is_error=failed)


def decode_media(blob: Blob) -> Image | Audio | File:
    """Decode inline data by its media type."""
    kind, _, format = (blob.mime_type or "").partition("/")
    if kind == "image":
        return Image(data=blob.data, media_type=blob.mime_type)
    if kind == "audio":
        return Audio(data=blob.data, format="mp3" if format == "mpeg" else format)
    return File(data=blob.data, media_type=blob.mime_type or None)


def _decode_file(file: FileData) -> Image | File:
    media_type = file.mime_type or _guess(file.file_uri)
    if media_type and media_type.startswith("image/"):
        return Image(url=file.file_uri, media_type=media_type)
    return File(url=file.file_uri, media_type=media_type)


def _decode_other(part: WirePart, value: Json, path: str) -> Iterator[Part]:
    if any(field not in _ABOUT and data is not None for field, data in value.items()):
        yield Unknown(wire="google", value=value)
    elif part.thought_signature:
        yield Reasoning(signature=part.thought_signature)
    else:
        raise Malformed(f"{path}.data", "required oneof field 'data' must have one initialized field")


# --- to the wire ------------------------------------------------------------------------------------------------------


def encode_parts(parts: Iterable[Part], names: Mapping[str, str], base_url: str = "") -> list[Json]:
    """Return the parts on the wire; `names` are those of the functions by the ids of their calls. Raises Unsayable."""
    encoded: list[Json] = []
    for part in parts:
        if isinstance(part, Text | Refusal):
            if part.text:
                encoded.append({"text": part.text})
        elif isinstance(part, Reasoning):
            _add_reasoning(encoded, part)
        else:
            encoded.append(_encode_part(part, names, base_url))
    return encoded


def _add_reasoning(encoded: list[Json], part: Reasoning) -> None:
    """Sealed reasoning is another provider's, and left out; a signature without words goes on the text before it."""
    if part.text:
        thought: Json = {"text": part.text, "thought": True}
        encoded.append(thought | ({"thoughtSignature": part.signature} if part.signature else {}))
    elif part.signature and encoded and list(encoded[-1]) == ["text"]:
        encoded[-1]["thoughtSignature"] = part.signature
    elif part.signature:
        encoded.append({"text": "", "thought": True, "thoughtSignature": part.signature})


def _encode_part(part: Part, names: Mapping[str, str], base_url: str) -> Json:
    match part:
        case ToolCall():
            return encode_call(part)
        case ToolResult():
            return {"functionResponse": _encode_result(part, names)}
        case Image(url=str(url)):
            return _file_data(url, part.media_type or _guess(url))
        case Image():
            return _inline(part.data, part.media_type or "image/png")
        case Audio():
            return _inline(part.data, f"audio/{part.format}")
        case File():
            return _encode_file(part, base_url)
        case Unknown(wire="google"):
            return part.value
        case Unknown():
            raise Unsayable(f"a part that only the {part.wire} wire knows")
    raise Unsayable(type(part).__name__)


def encode_call(call: ToolCall) -> Json:
    """Return a part that calls a function."""
    part: Json = {"functionCall": {"id": call.id, "name": call.name, "args": _arguments(call.arguments)}}
    return part | ({"thoughtSignature": call.signature} if call.signature else {})


def _arguments(text: str) -> Raw | Json:
    """Return arguments as the object that the wire asks for; what is none is shown as it was written."""
    if not text.strip():
        return {}
    value = _as_object(text)
    return Raw(text.encode()) if value is not None else {"arguments": text}


def _as_object(text: str) -> Json | None:
    try:
        return read(text.encode(), Json) if text.lstrip()[:1] == "{" else None
    except Malformed:
        return None


def _encode_result(result: ToolResult, names: Mapping[str, str]) -> Json:
    name = result.name or names.get(result.call_id)
    if name is None:
        raise Unsayable(f"a tool result without a name that answers no earlier call (id {result.call_id!r})")
    text = "".join([part.text for part in result.content if isinstance(part, Text)])
    value = None if result.is_error else _as_object(text)
    wrapped: Raw | Json = {"error" if result.is_error else "output": text}
    if value is not None and list(value) not in _WRAPPERS:
        wrapped = Raw(text.encode())
    encoded: Json = {"id": result.call_id, "name": name, "response": wrapped}
    media = [_result_media(part) for part in result.content if not isinstance(part, Text)]
    return encoded | ({"parts": media} if media else {})


def _result_media(part: Image | File) -> Json:
    if part.data is None:
        raise Unsayable("an image or file in a tool result that is not inline")
    return _inline(part.data, part.media_type or ("image/png" if isinstance(part, Image) else "application/pdf"))


def _encode_file(file: File, base_url: str) -> Json:
    if file.data is not None:
        return _inline(file.data, file.media_type or _guess(file.name or "") or "application/pdf")
    if file.url is not None:
        return _file_data(file.url, file.media_type or _guess(file.url))
    if file.id is not None and file.id.startswith("files/"):
        return _file_data(f"{base_url}/{file.id}", file.media_type)
    raise Unsayable(f"a file by the id {file.id!r}, which is not one of this provider's (files/...)")


def _inline(data: str | None, media_type: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data or ""}}


def _file_data(uri: str, media_type: str | None) -> Json:
    return {"fileData": {"fileUri": uri} | ({"mimeType": media_type} if media_type else {})}


def _guess(name: str) -> str | None:
    """Return the media type that the ending of a name or an address stands for."""
    return mimetypes.guess_type(name.partition("?")[0].rpartition("/")[2])[0]
