"""Streams of the Anthropic wire, event by event: from a model, and to a caller."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from holdfast.chat import Choice, Chunk, ToolCallDelta, Usage
from holdfast.errors import CallError, MalformedResponse
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.anthropic.answer_tool import NAME as ANSWER
from holdfast.providers.anthropic.answers import StopDetails, WireUsage, encode_ending, encode_usage, finish_of
from holdfast.providers.anthropic.content import Json, encode_json, tool_id
from holdfast.providers.anthropic.errors import ErrorObject, encode_error, event_error
from holdfast.providers.decoding import Malformed, read


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class _Message(msgspec.Struct):
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None


class _Opening(msgspec.Struct):
    """The fields of a block that is opened. `input` is whole at once on some servers."""

    type: str
    text: Any = None
    thinking: Any = None
    signature: Any = None
    data: Any = None
    id: Any = None
    name: Any = None
    input: Raw = Raw()


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    delta: _Delta | None = None
    content_block: _Opening | None = None
    message: _Message | None = None
    usage: WireUsage | None = None
    error: ErrorObject | None = None


class _Peek(msgspec.Struct):
    type: str
    index: Any = -1


_EVENT = msgspec.json.Decoder(_Event)
_PEEK = msgspec.json.Decoder(_Peek)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_NEEDS = {
    "message_start": "message",
    "content_block_start": "content_block",
    "content_block_delta": "delta",
    "message_delta": "delta",
    "error": "error",
}


# --- from a model -----------------------------------------------------------------------------------------------------


class MessagesDecoder:
    """Decodes a streamed message. Every event gives one chunk, if only to carry `raw` to a caller of the same wire.

    The answer is complete when it has been said why it ended; a `message_stop` that is lost takes nothing with it.
    """

    def __init__(self, key: str | None = None) -> None:
        self.complete = False
        self._key = key
        self._usage = WireUsage()
        self._calls: dict[int, int] = {}  # the number of the tool call that a block holds
        self._silent: set[int] = set()  # blocks of tool calls without arguments so far
        self._answers: set[int] = set()  # blocks whose input is the answer
        self._said = False  # whether any such input has come

    def feed(self, event: ServerSentEvent) -> Sequence[Chunk]:
        data = event.data
        if not data:
            return ()
        try:
            said = _EVENT.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self._unknown(data)
        delta = said.delta
        if said.type != "content_block_delta" or delta is None:
            chunk = self._other(said, data)
        elif delta.type == "text_delta":
            chunk = Chunk(text=delta.text, raw=data)
        else:
            chunk = self._block_delta(said.index, delta, data)
        if said.usage is not None:
            chunk.usage = self._counted(said.usage)
        return (chunk,)

    def _unknown(self, data: bytes) -> Sequence[Chunk]:
        """Let an event of an unknown type pass, whatever it holds."""
        try:
            type = read(_PEEK, data).type
            if type not in _NEEDS and read(_OBJECT, data):
                return (Chunk(raw=data),)
            read(_EVENT, data, type)
        except Malformed as error:
            raise MalformedResponse(f"An event of the stream does not follow the format: {error}") from None
        raise MalformedResponse

    def _block_delta(self, index: int, delta: _Delta, data: bytes) -> Chunk:
        if delta.type == "thinking_delta":
            return Chunk(reasoning=delta.thinking, raw=data)
        if delta.type == "signature_delta":
            return Chunk(reasoning_signature=delta.signature, raw=data)
        if index in self._answers:
            self._said = self._said or bool(delta.partial_json)
            return Chunk(text=delta.partial_json)
        if delta.type == "input_json_delta" and index in self._calls and delta.partial_json:
            self._silent.discard(index)
            piece = ToolCallDelta(index=self._calls[index], arguments=delta.partial_json)
            return Chunk(tool_calls=(piece,), raw=data)
        return Chunk(raw=data)

    def _other(self, said: _Event, data: bytes) -> Chunk:
        need = _NEEDS.get(said.type)
        if need is not None and getattr(said, need) is None:
            raise MalformedResponse(f"An event of the type {said.type} lacks `{need}`.")
        if said.error is not None and said.type == "error":
            raise event_error(said.error, key=self._key)
        if said.message is not None:
            self._usage = (said.message.usage or WireUsage()).over(self._usage)
            return Chunk(id=said.message.id, model=said.message.model, raw=data)
        if said.content_block is not None:
            return self._open(said.index, said.content_block, data)
        if said.type == "content_block_stop" and said.index in self._silent:
            self._silent.discard(said.index)
            return Chunk(tool_calls=(ToolCallDelta(index=self._calls[said.index], arguments="{}"),), raw=data)
        if said.type == "message_delta" and said.delta is not None:
            return self._ending(said.delta, data)
        self.complete = self.complete or said.type == "message_stop"
        return Chunk(raw=data)

    def _open(self, index: int, block: _Opening, data: bytes) -> Chunk:
        match block:
            case _Opening(type="text", text=str(text)):
                return Chunk(text=text, raw=data)
            case _Opening(type="thinking", thinking=str(text)):
                return Chunk(reasoning=text, reasoning_signature=block.signature or None, raw=data)
            case _Opening(type="redacted_thinking", data=str(sealed)):
                return Chunk(reasoning_redacted=sealed, raw=data)
            case _Opening(type="tool_use", id=str(), name=name) if name == ANSWER:
                return self._answer(index, block)
            case _Opening(type="tool_use", id=str(id), name=str(name)):
                number = self._calls[index] = len(self._calls)
                arguments = _arguments(block)
                if not arguments:
                    self._silent.add(index)
                call = ToolCallDelta(index=number, id=id, name=name, arguments=arguments)
                return Chunk(tool_calls=(call,), raw=data)
            case _Opening(type="text" | "thinking" | "redacted_thinking" | "tool_use"):
                raise MalformedResponse(f"A block of the type {block.type} opens without its fields.")
        return Chunk(raw=data)

    def _answer(self, index: int, block: _Opening) -> Chunk:
        self._answers.add(index)
        text = _arguments(block)
        self._said = self._said or bool(text)
        return Chunk(text=text)

    def _ending(self, delta: _Delta, data: bytes) -> Chunk:
        finish = finish_of(delta.stop_reason) if delta.stop_reason is not None else None
        self.complete = self.complete or finish is not None
        if self._answers and not self._calls and finish == "tool_calls":
            return Chunk(finish="stop", text="" if self._said else "{}")
        return Chunk(
            finish=finish,
            stop_sequence=delta.stop_sequence,
            refusal_reason=delta.stop_details.reason if delta.stop_details and finish == "refused" else None,
            raw=data,
        )

    def _counted(self, usage: WireUsage) -> Usage | None:
        """Return the usage in all, if an event tells of the output: the message could not know it when it started."""
        self._usage = usage.over(self._usage)
        return self._usage.usage() if usage.output_tokens is not None else None


def _arguments(block: _Opening) -> str:
    """Return the input that a block opens with, "" where it is yet to come."""
    whole = bytes(block.input)
    return "" if whole in (b"", b"{}", b"null") else whole.decode()


# --- to a caller ------------------------------------------------------------------------------------------------------


def sse(type: str, payload: bytes) -> bytes:
    """Return an event of the stream."""
    return b"event: %s\ndata: %s\n\n" % (type.encode(), payload)


def event(payload: Json) -> bytes:
    """Return an event named by the type of its payload."""
    return sse(payload["type"], encode_json(payload))


class MessagesEncoder:
    """Encodes a streamed message.

    As long as chunks carry events of this same wire, these go out as they came. From the first one that doesn't, or
    from a second beginning, events are made from the neutral fields, in step with what the caller has already.
    """

    def __init__(self, *, id: str, model: str) -> None:
        self._id, self._model = id, model
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._started = False
        self._verbatim = True
        self._next = 0  # index of the next block
        self._open: str | None = None  # the type of the block that is open, if any
        self._sealed = False  # whether the open thinking block has its signature
        self._call = -1  # number of the tool call that is open
        self._arguments: list[str] = []
        self._waiting: dict[int, list[ToolCallDelta]] = {}  # pieces of calls that come before the open one is whole
        self._ending = Choice()
        self._usage: Usage | None = None
        self._last: dict[str, bytes] = {}  # message_delta and message_stop as they came

    def chunk(self, chunk: Chunk, wire: str) -> bytes:
        if chunk.choice > 0:
            return b""
        if chunk.finish is not None:
            self._ending = Choice(
                finish=chunk.finish, stop_sequence=chunk.stop_sequence, refusal_reason=chunk.refusal_reason
            )
        if chunk.usage is not None:
            self._usage = chunk.usage
        if self._verbatim and wire == "anthropic" and chunk.raw is not None:
            passed = self._pass(chunk.raw)
            if passed is not None:
                return passed
        return self._make(chunk)

    def end(self, summary: Mapping[str, Any]) -> bytes:
        out = [] if self._started else [self._start()]
        self._close(out)
        for number in sorted(self._waiting):
            self._flush(number, out)
            self._close(out)
        delta = self._last.get("message_delta") if self._verbatim else None
        if delta is not None and b'"usage"' in delta:  # clients fail without it
            out.append(sse("message_delta", delta))
        elif delta is not None:
            out.append(event(_OBJECT.decode(delta) | {"usage": encode_usage(self._usage)}))
        else:
            ending = {"stop_details": None} | encode_ending(self._ending)
            out.append(event({"type": "message_delta", "delta": ending, "usage": encode_usage(self._usage)}))
        stop = self._last.get("message_stop") if self._verbatim else None
        payload: Json = _OBJECT.decode(stop) if stop is not None else {"type": "message_stop"}
        out.append(event(payload | ({"holdfast": summary} if summary else {})))
        return b"".join(out)

    def object(self, value: Any, complete: Sequence[str]) -> bytes:
        """Tell what is known of the answer."""
        known = {"event": "object", "object": value, "complete": list(complete)}
        told = event({"type": "holdfast.object", "holdfast": known})
        if self._started:
            return told
        self._verbatim = False
        return self._start() + told  # nothing comes before the beginning of a message

    def reset(self) -> bytes:
        """Take back all that was sent; a second `message_start` begins the other answer."""
        self._begin_anew()
        return event({"type": "holdfast.reset", "holdfast": {"event": "reset"}})

    def error(self, error: CallError, call: str, summary: Mapping[str, Any]) -> bytes:
        payload: Json = {"type": "error", "error": encode_error(error), "request_id": call}
        return event(payload | ({"holdfast": summary} if summary else {}))

    # --- events as they came ---

    def _pass(self, raw: bytes) -> bytes | None:
        """Return the event to send, None where the stream has to be made by hand from here on."""
        peek = _PEEK.decode(raw)
        type = peek.type
        if type == "content_block_delta" and self._started:
            return b"event: content_block_delta\ndata: " + raw.replace(b"\n", b" ") + b"\n\n"
        if type in ("message_delta", "message_stop"):
            self._last[type] = raw.replace(b"\n", b" ")
            return b""
        if self._started if type == "message_start" else type.startswith("content_block") and not self._started:
            return None
        if type == "message_start":
            self._started = True
        elif type == "content_block_start":
            self._open, self._next = _OBJECT.decode(raw)["content_block"]["type"], peek.index + 1
            self._call, self._sealed = -1, False
        elif type == "content_block_stop":
            self._open = None
        elif not type.isidentifier():
            return b""
        return sse(type, raw.replace(b"\n", b" "))

    # --- events made by hand ---

    def _make(self, chunk: Chunk) -> bytes:
        self._verbatim = False
        out: list[bytes] = []
        if not self._started:
            self._id, self._model = chunk.id or self._id, chunk.model or self._model
            out.append(self._start())
        if chunk.reasoning or chunk.reasoning_signature or chunk.reasoning_redacted:
            self._think(chunk, out)
        if text := chunk.text + chunk.refusal:
            if self._open != "text":
                self._begin({"type": "text", "text": ""}, out)
            out.append(self._delta({"type": "text_delta", "text": text}))
        for delta in chunk.tool_calls:
            self._call_tool(delta, out)
        return b"".join(out)

    def _start(self) -> bytes:
        self._started = True
        message: Json = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": encode_usage(self._usage),
        }
        return event({"type": "message_start", "message": message})

    def _begin(self, block: Json, out: list[bytes]) -> None:
        self._close(out)
        out.append(event({"type": "content_block_start", "index": self._next, "content_block": block}))
        self._open, self._sealed = block["type"], False
        self._next += 1

    def _close(self, out: list[bytes]) -> None:
        if self._open is not None:
            out.append(event({"type": "content_block_stop", "index": self._next - 1}))
        self._open, self._call = None, -1

    def _delta(self, delta: Json) -> bytes:
        return event({"type": "content_block_delta", "index": self._next - 1, "delta": delta})

    def _think(self, chunk: Chunk, out: list[bytes]) -> None:
        if chunk.reasoning or chunk.reasoning_signature:
            if self._open != "thinking" or self._sealed:
                self._begin({"type": "thinking", "thinking": "", "signature": ""}, out)
            if chunk.reasoning:
                out.append(self._delta({"type": "thinking_delta", "thinking": chunk.reasoning}))
            if chunk.reasoning_signature:
                out.append(self._delta({"type": "signature_delta", "signature": chunk.reasoning_signature}))
                self._sealed = True
        if chunk.reasoning_redacted:
            self._begin({"type": "redacted_thinking", "data": chunk.reasoning_redacted}, out)
            self._close(out)

    def _call_tool(self, delta: ToolCallDelta, out: list[bytes]) -> None:
        """Send a piece of a tool call. Blocks follow each other on this wire, so calls that interleave have to wait."""
        if delta.index == self._call:
            if delta.arguments:
                self._arguments.append(delta.arguments)
                out.append(self._delta({"type": "input_json_delta", "partial_json": delta.arguments}))
            return
        self._waiting.setdefault(delta.index, []).append(delta)
        if self._call < 0 or _whole("".join(self._arguments)):
            self._flush(delta.index, out)

    def _flush(self, number: int, out: list[bytes]) -> None:
        deltas = self._waiting.pop(number)
        id = next((delta.id for delta in deltas if delta.id), f"toolu_{self._id}_{number}")
        name = next((delta.name for delta in deltas if delta.name), "")
        self._begin({"type": "tool_use", "id": tool_id(id), "name": name, "input": {}}, out)
        self._call, self._arguments = number, []
        for delta in deltas:
            self._call_tool(delta, out)


def _whole(arguments: str) -> bool:
    try:
        _OBJECT.decode(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True
