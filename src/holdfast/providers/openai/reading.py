"""Answers as servers send them: JSON of the wire -> `chat.py` values, whole or event by event."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from holdfast.chat import Choice, Chunk, Finish, Part, Refusal, Reply, Text, ToolCall, ToolCallDelta, Unknown, Usage
from holdfast.errors import MalformedResponse, Overloaded, ProviderError, ProviderFailed
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.openai.failures import failure
from holdfast.providers.openai.wire import (
    WireAnswer,
    WireAnswerCall,
    WireChoice,
    WirePlainReply,
    WireReply,
    WireWholeAnswer,
    finish,
    reasoning_parts,
    signature_of,
)

_T = TypeVar("_T")
_REPLY = msgspec.json.Decoder(WireReply)
_PLAIN_REPLY = msgspec.json.Decoder(WirePlainReply)
_JSON = msgspec.json.Decoder()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SAID = frozenset(("id", "object", "created", "model", "choices", "usage", "system_fingerprint", "error", "holdfast"))
_BROKEN_OFF = {
    "error": ProviderFailed,
    "abort": ProviderFailed,
    "cancelled": ProviderFailed,
    "insufficient_system_resource": Overloaded,
}
"""Finish reasons that say the answer is not whole: they are failures, never an end."""
_NO_ANSWER = WireAnswer()


def _parse(decoder: "msgspec.json.Decoder[_T]", body: bytes, what: str) -> _T:
    """Decode a payload. Raises MalformedResponse."""
    try:
        if not body.isascii():
            body.decode()  # msgspec skips what it does not need, and a caller may get all of it
        return decoder.decode(body)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _malformed(what, error) from None


def _tree(data: bytes | msgspec.Raw, what: str) -> Any:
    """Decode a payload that `_parse` has accepted, or a part of it, as it is. Raises MalformedResponse."""
    try:
        return _JSON.decode(data)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _malformed(what, error) from None


class _Answer(msgspec.Struct, dict=True):
    """A whole answer, as plain JSON where a part of it is asked for that its struct leaves out."""

    body: bytes
    id: str
    api_key: str | None

    @cached_property
    def tree(self) -> Any:
        return _tree(self.body, "answer")


def _malformed(what: str, error: Exception) -> MalformedResponse:
    return MalformedResponse(f"The provider's {what} does not follow the openai wire: {error}.")


class ReplyReader:
    """Decodes the whole answers of one server. One that says more than the API does is known by its first answer, and
    its answers are read twice: for the fields of the API, and for the others."""

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key
        self._says_more = False

    def read(self, body: bytes) -> Reply:
        """Raises MalformedResponse, or what an error in place of the answer reports."""
        wire, extra = self._open(body)
        if wire.error:
            raise failure(_tree(body, "answer"), api_key=self._api_key)
        if not wire.choices:
            raise MalformedResponse("The provider's answer has no choices.")
        id, wires = wire.id or "", wire.choices
        usage = wire.usage or wires[0].usage
        return Reply(
            id=id,
            model=wire.model or "",
            choices=_choices(wires, _Answer(body, id, self._api_key)),
            usage=usage.value() if usage is not None else None,
            fingerprint=wire.system_fingerprint,
            created=int(wire.created or 0),
            extra=extra,
        )

    def _open(self, body: bytes) -> tuple[WireReply, dict[str, Any]]:
        """Return the fields of the API, and the others."""
        if self._says_more:
            return _open_twice(body)
        try:
            wire = _parse(_PLAIN_REPLY, body, "answer")
        except MalformedResponse:
            opened = _open_twice(body)
            self._says_more = True
            return opened
        return wire, {} if wire.service_tier is UNSET else {"service_tier": wire.service_tier}


def _open_twice(body: bytes) -> tuple[WireReply, dict[str, Any]]:
    wire = _parse(_REPLY, body, "answer")
    return wire, {name: _tree(raw, "answer") for name, raw in _FIELDS.decode(body).items() if name not in _SAID}


def _choices(wires: Sequence[WireChoice], answer: _Answer) -> tuple[Choice, ...]:
    if len(wires) == 1:  # mostly, and a comprehension has its price
        return (_choice(wires[0], 0, answer),)
    return tuple([_choice(wire, i, answer) for i, wire in enumerate(wires)])


def _choice(wire: WireChoice, i: int, answer: _Answer) -> Choice:
    message, word = wire.message, wire.finish_reason
    if wire.error or word in _BROKEN_OFF:
        raise _broken_off(wire, answer.api_key)
    if message is None:
        raise MalformedResponse("The provider's answer has a choice without a message.")
    parts, end = _parts(message), finish(word)
    if message.tool_calls or message.function_call is not None:
        calls = _calls(message, i, answer)
        parts, end = [*parts, *calls], _finish(word, calls=bool(calls))
    if message.annotations or message.audio:
        parts += _own_parts(message)
    return Choice(
        parts=tuple(parts),
        finish=end,
        logprobs=wire.logprobs.value() if wire.logprobs is not None else None,
        stop_sequence=wire.stop_reason if isinstance(wire.stop_reason, str) else None,
        refusal_reason=_filtered(wire.content_filter_results) if wire.content_filter_results else None,
    )


def _broken_off(wire: WireChoice, api_key: str | None) -> ProviderError:
    """Return what a choice reports instead of its end."""
    if wire.error:
        return failure({"error": wire.error}, api_key=api_key)
    word = wire.finish_reason or ""
    return _BROKEN_OFF[word](f"The provider broke the answer off: {word}.")


def _finish(word: str | None, *, calls: bool) -> Finish:
    """Some servers finish tool calls with "stop"."""
    end = finish(word)
    return "tool_calls" if calls and end == "stop" else end


def _parts(message: WireAnswer) -> list[Part]:
    """Read reasoning, text and refusal."""
    parts: list[Part] = []
    text, thinking = message.content, ""
    if not isinstance(text, str):
        text, thinking = _content(text)
    if thinking or message.reasoning_content or message.reasoning or message.reasoning_details:
        parts += reasoning_parts(message.reasoning_content or thinking, message.reasoning, message.reasoning_details)
    if text:
        parts.append(Text(text=text))
    if message.refusal:
        parts.append(Refusal(text=message.refusal))
    return parts


def _calls(message: WireAnswer, i: int, answer: _Answer) -> list[Part]:
    """Read the calls of functions, then those that only this wire has, as they came."""
    wires = message.tool_calls or []
    calls: list[Part] = [
        _tool_call(call, call.id or f"call_{answer.id}_{j}")
        for j, call in enumerate(wires)
        if call.function is not None
    ]
    if (function := message.function_call) is not None:
        calls.append(ToolCall(id="", name=function.name or "", arguments=function.text))
    own = [j for j, call in enumerate(wires) if call.function is None and call.type is not None and call.id]
    return calls + [Unknown(wire="openai", value=answer.tree["choices"][i]["message"]["tool_calls"][j]) for j in own]


def _tool_call(call: WireAnswerCall, id: str) -> ToolCall:
    function = call.function
    assert function is not None
    if not function.name:
        raise MalformedResponse("The provider's answer has a tool call without a name.")
    return ToolCall(id=id, name=function.name, arguments=function.text, signature=signature_of(call.extra_content))


def _own_parts(message: WireWholeAnswer) -> list[Unknown]:
    """Keep the fields of a message that only this wire has."""
    own = {"annotations": message.annotations, "audio": message.audio}
    return [Unknown(wire="openai", value={key: value}) for key, value in own.items() if value]


def _content(content: str | list[Any] | None) -> tuple[str, str]:
    """Return text and thinking of a content. As a list it is Mistral's, whose thinking is a list again."""
    if isinstance(content, str):
        return content, ""
    if not content:
        return "", ""
    blocks = [block for block in content if isinstance(block, dict)]
    text = "".join([block["text"] for block in blocks if isinstance(block.get("text"), str)])
    inner = [block["thinking"] for block in blocks if block.get("thinking")]
    return text, "".join([part if isinstance(part, str) else _content(part)[0] for part in inner])


def _filtered(results: Any) -> str | None:
    """Return the categories for which Azure withheld an answer."""
    if not isinstance(results, dict):
        return None
    names = [name for name, result in results.items() if isinstance(result, dict) and result.get("filtered") is True]
    return ", ".join(names) or None


# --- streams ----------------------------------------------------------------------------------------------------------


class _Calls:
    """The tool calls of one choice: numbers them as `ToolCallDelta.index` wants it, whatever the server does.

    Servers leave the index out, send every call as number 0, repeat the id in every delta, or leave it out for good.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._numbers: dict[int, int] = {}

    def delta(self, wire: WireAnswerCall, stream_id: str) -> tuple[ToolCallDelta, bool]:
        """Return the delta, and whether the wire said just that."""
        function = wire.function
        name = (function.name or None) if function is not None else None
        number = self._number(wire, name)
        opens = number == len(self.ids)
        id = (wire.id or f"call_{stream_id}_{number}") if opens else None
        if opens:
            self.ids.append(id or "")
        delta = ToolCallDelta(
            index=number,
            id=id,
            name=name if opens else None,
            arguments=function.text if function is not None else "",
            signature=signature_of(wire.extra_content) if wire.extra_content else None,
        )
        as_said = wire.index == number and (wire.id or None) == id and (opens or not name)
        return delta, as_said and (function is None or isinstance(function.arguments, str | None))

    def _number(self, wire: WireAnswerCall, name: str | None) -> int:
        new = len(self.ids)
        number = new - 1 if wire.index is None else self._numbers.get(wire.index, new)
        if (
            number < 0
            or number == new
            or (wire.id and wire.id != self.ids[number])
            or (wire.index is None and name and not wire.id)
        ):
            number = new
            if wire.id and wire.index is None and wire.id in self.ids:
                return self.ids.index(wire.id)
        if wire.index is not None:
            self._numbers[wire.index] = number
        return number


class OpenAIStream:
    """Decodes one streamed answer."""

    def __init__(self, api_key: str | None = None) -> None:
        self.complete = False
        self._api_key = api_key
        self._calls: dict[int, _Calls] = {}
        self._open: set[int] = set()
        self._finished: set[int] = set()

    def feed(self, event: ServerSentEvent) -> Sequence[Chunk]:
        """See `StreamDecoder.feed`."""
        data = event.data
        if data[:1] != b"{":
            if data.strip() == b"[DONE]":
                return self._done()
            if not data or data.isspace():
                return ()
        if event.name == b"error":
            raise self._failure(data)
        wire = _parse(_REPLY, data, "event")
        if wire.error or (wire.x_groq is not None and wire.x_groq.error):
            raise self._failure(data)
        choices = wire.choices
        usage = self._usage(wire) if wire.usage is not None or wire.x_groq is not None else None
        if choices is not None and len(choices) == 1:
            return (self._chunk(choices[0], wire, usage, data),)
        if choices is None and wire.usage is None:
            raise self._stray(data)
        return self._chunks(wire, usage, data)

    def _done(self) -> Sequence[Chunk]:
        """End the choices that the server ended with the stream only."""
        if not self._finished and not self._open:
            raise MalformedResponse("The provider's stream is done before it has begun.")
        self.complete = True
        numbers, self._open = sorted(self._open), set()
        self._finished.update(numbers)
        return [Chunk(choice=number, finish="tool_calls" if number in self._calls else "stop") for number in numbers]

    def _chunks(self, wire: WireReply, usage: Usage | None, data: bytes) -> Sequence[Chunk]:
        """Return the chunks of an event that has several choices, or none."""
        if not wire.choices:
            if usage is None:
                return ()
            id, model = wire.id or "", wire.model or ""
            return (Chunk(usage=usage, id=id, model=model, fingerprint=wire.system_fingerprint, raw=data),)
        chunks = [self._chunk(choice, wire, None, None) for choice in wire.choices]
        chunks[-1].usage = usage or chunks[-1].usage
        return chunks

    def _chunk(self, choice: WireChoice, wire: WireReply, usage: Usage | None, raw: bytes | None) -> Chunk:
        number = choice.index
        delta = choice.delta or choice.message or _NO_ANSWER
        content = delta.content
        chunk = Chunk(
            choice=number,
            text=content if isinstance(content, str) else "",
            usage=usage,
            id=wire.id or "",
            model=wire.model or "",
            fingerprint=wire.system_fingerprint,
            raw=raw,
        )
        if content and not chunk.text:
            chunk.text, chunk.reasoning = _content(content)
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            _read_reasoning(chunk, delta)
        if delta.refusal:
            chunk.refusal = delta.refusal
        if delta.tool_calls or delta.function_call is not None:
            self._read_calls(chunk, delta)
        if choice.logprobs is not None:
            chunk.logprobs = choice.logprobs.value()
        if choice.usage is not None and usage is None:
            chunk.usage = choice.usage.value()
        if number not in self._finished:
            self._open.add(number)
        if choice.finish_reason or choice.error:
            self._end(chunk, choice)
        return chunk

    def _read_calls(self, chunk: Chunk, delta: WireAnswer) -> None:
        calls = self._calls.setdefault(chunk.choice, _Calls())
        read = [calls.delta(call, chunk.id) for call in delta.tool_calls or ()]
        if not all(as_said for _, as_said in read):
            chunk.raw = None
        deltas = [delta for delta, _ in read]
        if delta.function_call is not None:
            calls.ids = calls.ids or [""]
            function = delta.function_call
            deltas.append(ToolCallDelta(index=0, id=None, name=function.name, arguments=function.text))
        chunk.tool_calls = tuple(deltas)

    def _end(self, chunk: Chunk, choice: WireChoice) -> None:
        if choice.error or choice.finish_reason in _BROKEN_OFF:
            raise _broken_off(choice, self._api_key)
        chunk.finish = _finish(choice.finish_reason, calls=chunk.choice in self._calls)
        chunk.stop_sequence = choice.stop_reason if isinstance(choice.stop_reason, str) else None
        chunk.refusal_reason = _filtered(choice.content_filter_results)
        self._finished.add(chunk.choice)
        self._open.discard(chunk.choice)
        self.complete = not self._open

    def _usage(self, wire: WireReply) -> Usage | None:
        usage = wire.usage or (wire.x_groq.usage if wire.x_groq is not None else None)
        return usage.value() if usage is not None else None

    def _failure(self, data: bytes) -> ProviderError:
        try:
            body = _JSON.decode(data)
        except (ValueError, RecursionError, OverflowError):
            body = data.decode(errors="replace")
        if isinstance(body, dict) and not body.get("error") and isinstance(groq := body.get("x_groq"), dict):
            body = groq
        return failure(body, api_key=self._api_key)

    def _stray(self, data: bytes) -> ProviderError:
        """An object that is no chunk: an error that some servers send without an envelope, or nothing we know."""
        body = _tree(data, "event")
        if body.get("object") == "error" or "detail" in body or ("message" in body and "code" in body):
            return failure(body, api_key=self._api_key)
        return MalformedResponse("The provider's event has neither choices nor usage.")


def _read_reasoning(chunk: Chunk, delta: WireAnswer) -> None:
    for part in reasoning_parts(delta.reasoning_content, delta.reasoning, delta.reasoning_details):
        chunk.reasoning += part.text
        chunk.reasoning_signature = part.signature or chunk.reasoning_signature
        chunk.reasoning_redacted = part.redacted or chunk.reasoning_redacted
