"""Answers as servers send them: JSON of the wire -> `chat.py` values, whole or event by event."""

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.chat import Choice, Chunk, Finish, Part, Refusal, Reply, Text, ToolCall, ToolCallDelta, Unknown, Usage
from holdfast.errors import MalformedResponse, Overloaded, ProviderError, ProviderFailed
from holdfast.http.sse import ServerSentEvent
from holdfast.providers.openai.failures import failure
from holdfast.providers.openai.wire import (
    WireAnswer,
    WireAnswerCall,
    WireChoice,
    WireReply,
    finish,
    reasoning_parts,
    signature_of,
)

_REPLY = msgspec.json.Decoder(WireReply)
_JSON = msgspec.json.Decoder()
_SAID = frozenset(("id", "object", "created", "model", "choices", "usage", "system_fingerprint", "error", "holdfast"))
_OWN_FIELDS = ("annotations", "audio")
_BROKEN_OFF = {
    "error": ProviderFailed,
    "abort": ProviderFailed,
    "cancelled": ProviderFailed,
    "insufficient_system_resource": Overloaded,
}
"""Finish reasons that say the answer is not whole: they are failures, never an end."""
_NO_ANSWER = WireAnswer()


def parse(body: bytes, what: str) -> WireReply:
    """Decode a payload. Raises MalformedResponse."""
    try:
        if not body.isascii():
            body.decode()  # msgspec skips what it does not need, and a caller may get all of it
        return _REPLY.decode(body)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _malformed(what, error) from None


def _tree(body: bytes, what: str) -> Any:
    """Decode a payload that `parse` has accepted, as it is. Raises MalformedResponse."""
    try:
        return _JSON.decode(body)
    except (ValueError, RecursionError, OverflowError) as error:
        raise _malformed(what, error) from None


def _malformed(what: str, error: Exception) -> MalformedResponse:
    return MalformedResponse(f"The provider's {what} does not follow the openai wire: {error}.")


def read_reply(body: bytes, api_key: str | None) -> Reply:
    """Decode a whole answer. Raises MalformedResponse, or what an error in its place reports."""
    wire = parse(body, "answer")
    tree = _tree(body, "answer")
    if wire.error:
        raise failure(tree, api_key=api_key)
    if not wire.choices:
        raise MalformedResponse("The provider's answer has no choices.")
    id = wire.id or ""
    choices = [_choice(choice, tree["choices"][i], id, api_key) for i, choice in enumerate(wire.choices)]
    usage = wire.usage or (wire.choices[0].usage if wire.choices else None)
    return Reply(
        id=id,
        model=wire.model or "",
        choices=tuple(choices),
        usage=usage.value() if usage is not None else None,
        fingerprint=wire.system_fingerprint,
        created=int(wire.created or 0),
        extra={key: value for key, value in tree.items() if key not in _SAID},
    )


def _choice(wire: WireChoice, tree: dict[str, Any], id: str, api_key: str | None) -> Choice:
    if wire.message is None:
        raise MalformedResponse("The provider's answer has a choice without a message.")
    _check(wire, api_key)
    parts = [*_parts(wire.message, id), *_own_parts(tree["message"])]
    calls = any(isinstance(part, ToolCall) or _is_call(part) for part in parts)
    return Choice(
        parts=tuple(parts),
        finish=_finish(wire.finish_reason or "stop", calls=calls),
        logprobs=wire.logprobs.value() if wire.logprobs is not None else None,
        stop_sequence=wire.stop_reason if isinstance(wire.stop_reason, str) else None,
        refusal_reason=_filtered(wire.content_filter_results),
    )


def _check(wire: WireChoice, api_key: str | None) -> None:
    """Raise what a choice reports instead of its end."""
    if wire.error:
        raise failure({"error": wire.error}, api_key=api_key)
    if wire.finish_reason in _BROKEN_OFF:
        raise _BROKEN_OFF[wire.finish_reason](f"The provider broke the answer off: {wire.finish_reason}.")


def _finish(word: str, *, calls: bool) -> Finish:
    """Some servers finish tool calls with "stop"."""
    end = finish(word)
    return "tool_calls" if calls and end == "stop" else end


def _parts(answer: WireAnswer, id: str) -> list[Part]:
    text, thinking = _content(answer.content)
    parts: list[Part] = list(
        reasoning_parts(answer.reasoning_content or thinking, answer.reasoning, answer.reasoning_details)
    )
    if text:
        parts.append(Text(text=text))
    if answer.refusal:
        parts.append(Refusal(text=answer.refusal))
    for i, call in enumerate(answer.tool_calls or ()):
        if call.function is not None:
            parts.append(_tool_call(call, call.id or f"call_{id}_{i}"))
    if answer.function_call is not None:
        parts.append(ToolCall(id="", name=answer.function_call.name or "", arguments=answer.function_call.text))
    return parts


def _tool_call(call: WireAnswerCall, id: str) -> ToolCall:
    function = call.function
    assert function is not None
    if not function.name:
        raise MalformedResponse("The provider's answer has a tool call without a name.")
    return ToolCall(id=id, name=function.name, arguments=function.text, signature=signature_of(call.extra_content))


def _own_parts(message: dict[str, Any]) -> list[Unknown]:
    """Keep what only this wire says: custom tool calls, and fields of the message such as audio."""
    calls = [call for call in message.get("tool_calls") or () if "function" not in call]
    own = [Unknown(wire="openai", value=call) for call in calls if isinstance(call.get("type"), str) and call.get("id")]
    return own + [Unknown(wire="openai", value={key: message[key]}) for key in _OWN_FIELDS if message.get(key)]


def _is_call(part: Part) -> bool:
    return isinstance(part, Unknown) and "id" in part.value


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
        wire = parse(data, "event")
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
            return (_named(Chunk(usage=usage, raw=data), wire),) if usage is not None else ()
        chunks = [self._chunk(choice, wire, None, None) for choice in wire.choices]
        chunks[-1].usage = usage or chunks[-1].usage
        return chunks

    def _chunk(self, choice: WireChoice, wire: WireReply, usage: Usage | None, raw: bytes | None) -> Chunk:
        number = choice.index
        delta = choice.delta or choice.message or _NO_ANSWER
        chunk = _named(Chunk(choice=number, usage=usage, raw=raw), wire)
        content = delta.content
        if isinstance(content, str):
            chunk.text = content
        elif content:
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
        _check(choice, self._api_key)
        calls = chunk.choice in self._calls
        chunk.finish = _finish(choice.finish_reason or "stop", calls=calls)
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


def _named(chunk: Chunk, wire: WireReply) -> Chunk:
    if wire.id:
        chunk.id = wire.id
    if wire.model:
        chunk.model = wire.model
    chunk.fingerprint = wire.system_fingerprint
    return chunk


def _read_reasoning(chunk: Chunk, delta: WireAnswer) -> None:
    for part in reasoning_parts(delta.reasoning_content, delta.reasoning, delta.reasoning_details):
        chunk.reasoning += part.text
        chunk.reasoning_signature = part.signature or chunk.reasoning_signature
        chunk.reasoning_redacted = part.redacted or chunk.reasoning_redacted
