"""Content blocks of the Anthropic wire to parts of a message, and back."""

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Raw

from holdfast.chat import File, Image, Part, Reasoning, Refusal, Text, ToolCall, ToolResult, Unknown
from holdfast.providers.decoding import Malformed, Unsayable, read

Json = dict[str, Any]

_IN_RESULTS = (Text, Image, File)
_SPOKEN = (Text, Refusal)

encode_json = msgspec.json.Encoder().encode
_QUOTE = ord('"')
_ID = re.compile(r"[\w-]+", re.ASCII)


def is_null(raw: Raw) -> bool:
    """Whether a field says null."""
    return len(memoryview(raw)) == 4 and bytes(raw) == b"null"


# --- from the wire ----------------------------------------------------------------------------------------------------


class Block(msgspec.Struct):
    """The fields of all the blocks that we know, so that a block of an unknown type decodes as well."""

    type: str
    text: Any = None
    source: Any = None
    title: Any = None
    id: Any = None
    name: Any = None
    input: Raw = Raw()
    tool_use_id: Any = None
    content: Raw = Raw()
    is_error: Any = None
    thinking: Any = None
    signature: Any = None
    data: Any = None

    def string(self, field: str, path: str) -> str:
        """Return a field that must be a string."""
        value = getattr(self, field)
        if not isinstance(value, str):
            problem = "Field required" if value is None else "Input should be a valid string"
            raise Malformed(f"{path}.{field}", problem)
        return value


_BLOCK = msgspec.json.Decoder(Block)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[Raw])


def blocks_of(content: Raw, path: str) -> str | list[Raw]:
    """Return the text or the blocks of a `content` field."""
    data = memoryview(content)
    if not data:
        raise Malformed(path, "Field required")
    found: str | list[Raw] = read(_TEXT if data[0] == _QUOTE else _LIST, content, path)
    return found


def decode_content(content: Raw, path: str) -> tuple[Part, ...]:
    """Decode a `content` field. Raises Malformed."""
    blocks = blocks_of(content, path)
    if isinstance(blocks, str):
        return (Text(text=blocks),)
    return decode_blocks(blocks, path)


def decode_blocks(blocks: list[Raw], path: str) -> tuple[Part, ...]:
    """Decode blocks; those that no other wire knows become Unknown. Raises Malformed."""
    return tuple([decode_block(raw, f"{path}.{i}") for i, raw in enumerate(blocks)])


def decode_block(raw: Raw, path: str) -> Part:
    """Decode one block. Raises Malformed."""
    block: Block = read(_BLOCK, raw, path)
    decode = _DECODERS.get(block.type)
    part = decode(block, path) if decode is not None else None
    return part if part is not None else Unknown(wire="anthropic", value=read(_OBJECT, raw, path))


def _decode_text(block: Block, path: str) -> Part:
    return Text(text=block.string("text", path))


def _decode_thinking(block: Block, path: str) -> Part:
    signature = None if block.signature is None else block.string("signature", path)
    return Reasoning(text=block.string("thinking", path), signature=signature or None)


def _decode_redacted(block: Block, path: str) -> Part:
    return Reasoning(redacted=block.string("data", path))


def _decode_call(block: Block, path: str) -> Part:
    data = bytes(block.input)
    if not data.startswith(b"{"):
        raise Malformed(f"{path}.input", "Input should be an object" if data else "Field required")
    read(_OBJECT, block.input, f"{path}.input")
    return ToolCall(id=block.string("id", path), name=block.string("name", path), arguments=data.decode())


def _decode_result(block: Block, path: str) -> Part | None:
    content = decode_content(block.content, f"{path}.content") if memoryview(block.content) else ()
    if not all(isinstance(part, _IN_RESULTS) for part in content):
        return None
    call_id = block.string("tool_use_id", path)
    if not isinstance(block.is_error, bool | None):
        raise Malformed(f"{path}.is_error", "Input should be a valid boolean")
    return ToolResult(call_id=call_id, content=content, is_error=block.is_error is True)  # type: ignore[arg-type]


def _source(block: Block, path: str) -> Json:
    if not isinstance(block.source, dict):
        raise Malformed(f"{path}.source", "Field required" if block.source is None else "Input should be an object")
    for field, value in block.source.items():
        if field != "content" and value is not None and not isinstance(value, str):
            raise Malformed(f"{path}.source.{field}", "Input should be a valid string")
    return block.source


def _decode_image(block: Block, path: str) -> Part | None:
    match _source(block, path):
        case {"type": "base64", "data": str(data), "media_type": str(media_type)}:
            return Image(data=data, media_type=media_type)
        case {"type": "url", "url": str(url)}:
            return Image(url=url)
        case {"type": "base64" | "url"}:
            raise Malformed(f"{path}.source", "An image needs `data` and `media_type`, or a `url`")
    return None


def _decode_document(block: Block, path: str) -> Part | None:
    name = block.string("title", path) if block.title is not None else None
    match _source(block, path):
        case {"type": "base64", "data": str(data), "media_type": str(media_type)}:
            return File(name=name, data=data, media_type=media_type)
        case {"type": "text", "data": str(text)}:
            return File(name=name, data=b64encode(text.encode()).decode(), media_type="text/plain")
        case {"type": "url", "url": str(url)}:
            return File(name=name, url=url)
        case {"type": "file", "file_id": str(id)}:
            return File(name=name, id=id)
        case {"type": "base64" | "text" | "url" | "file"}:
            raise Malformed(f"{path}.source", "A document needs `data`, a `url` or a `file_id`")
    return None


_DECODERS: dict[str, Callable[[Block, str], Part | None]] = {
    "text": _decode_text,
    "thinking": _decode_thinking,
    "redacted_thinking": _decode_redacted,
    "tool_use": _decode_call,
    "tool_result": _decode_result,
    "image": _decode_image,
    "document": _decode_document,
}


# --- to the wire ------------------------------------------------------------------------------------------------------


def encode_parts(parts: Iterable[Part]) -> list[Json]:
    """Return the blocks of parts; empty text, which the wire refuses, is left out. Raises Unsayable."""
    return [encode_part(part) for part in parts if not (isinstance(part, _SPOKEN) and not part.text)]


def encode_part(part: Part) -> Json:
    """Return the block of a part. Raises Unsayable."""
    match part:
        case Text() | Refusal():
            return {"type": "text", "text": part.text}
        case Reasoning(redacted=str(sealed)):
            return {"type": "redacted_thinking", "data": sealed}
        case Reasoning():
            return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        case ToolCall():
            return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": _input(part.arguments)}
        case ToolResult():
            return _encode_result(part)
        case Image():
            return {"type": "image", "source": _image_source(part)}
        case File():
            return {"type": "document", "source": _file_source(part)} | ({"title": part.name} if part.name else {})
        case Unknown(wire="anthropic"):
            return part.value
        case Unknown():
            raise Unsayable(f"a part of the type {part.value.get('type')!r} that only the {part.wire} wire knows")
    raise Unsayable("audio")


def tool_id(id: str) -> str:
    """Return the id of a tool call in the letters that the wire allows: other providers use more."""
    return id if _ID.fullmatch(id) else re.sub(r"[^A-Za-z0-9_-]", "_", id) or "_"


def _input(arguments: str) -> Raw | Json:
    """Return arguments as the object that the wire asks for; what is none is shown to the model as it was written."""
    if not arguments.strip():
        return {}
    try:
        _OBJECT.decode(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {"arguments": arguments}
    return Raw(arguments.encode())


def _encode_result(part: ToolResult) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": tool_id(part.call_id)}
    if content := encode_parts(part.content):
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _image_source(image: Image) -> Json:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type or "image/png", "data": image.data or ""}


def _file_source(file: File) -> Json:
    if file.id is not None:
        return {"type": "file", "file_id": file.id}
    if file.url is not None:
        return {"type": "url", "url": file.url}
    media_type, data = file.media_type or "application/pdf", file.data or ""
    if media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if not media_type.startswith("text/"):
        raise Unsayable(f"a document of the type {media_type}: it takes application/pdf and text")
    try:
        return {"type": "text", "media_type": "text/plain", "data": b64decode(data, validate=True).decode()}
    except ValueError:
        raise Unsayable(f"a document of the type {media_type} that is not UTF-8 text in base64") from None
