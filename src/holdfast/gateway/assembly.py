"""The chunks of a stream, put together into the reply that they were."""

from collections.abc import Iterable

from holdfast.chat import (
    Choice,
    Chunk,
    Finish,
    Logprob,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Text,
    ToolCall,
    ToolCallDelta,
    Usage,
)


class Assembly:
    """Collects the chunks of one answer."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.model = ""
        self.fingerprint: str | None = None
        self.id = ""
        self._choices: dict[int, _Choice] = {}
        self.text_alone = True
        """Whether nothing but text has been said."""

    @property
    def began(self) -> bool:
        """Whether anything has been said."""
        return bool(self._choices)

    @property
    def text(self) -> str:
        """The text of the first choice so far."""
        return self.reply().text if self._choices else ""

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk of the stream."""
        choice = self._choices.get(chunk.choice)
        if choice is None:
            choice = self._choices[chunk.choice] = _Choice()
        if chunk.text and not (chunk.tool_calls or chunk.reasoning or chunk.refusal):  # as most are
            choice.say("text", chunk.text)
        elif chunk.speaks or chunk.reasoning_signature is not None:
            self.text_alone = False
            choice.add(chunk)
        if not self.model and chunk.model:
            self.id, self.model = chunk.id, chunk.model
        if chunk.fingerprint is not None:
            self.fingerprint = chunk.fingerprint
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish is not None:
            choice.end(chunk)
        if chunk.logprobs is not None:
            choice.logprobs.extend(chunk.logprobs)

    def reply(self) -> Reply:
        """Return what has been said so far. A choice that has not ended is "cut"."""
        choices = tuple(self._choices[index].value() for index in sorted(self._choices))
        return Reply(id=self.id, model=self.model, choices=choices, usage=self.usage, fingerprint=self.fingerprint)


class _Choice:
    def __init__(self) -> None:
        self.finish: Finish | None = None
        self.logprobs: list[Logprob] = []
        self._stop_sequence: str | None = None
        self._refusal_reason: str | None = None
        self._kind = ""
        self._said: list[str] = []
        self._signature: str | None = None
        self._parts: list[Part] = []
        self._calls: dict[int, _ToolCall] = {}

    def say(self, kind: str, piece: str) -> None:
        if kind != self._kind:
            self._close()
            self._kind = kind
        self._said.append(piece)

    def add(self, chunk: Chunk) -> None:
        if chunk.reasoning:
            self.say("reasoning", chunk.reasoning)
        if chunk.reasoning_signature is not None:
            self.say("reasoning", "")
            self._signature = chunk.reasoning_signature
            self._close()
        if chunk.reasoning_redacted is not None:
            self._close()
            self._parts.append(Reasoning(redacted=chunk.reasoning_redacted))
        if chunk.text:
            self.say("text", chunk.text)
        if chunk.refusal:
            self.say("refusal", chunk.refusal)
        for delta in chunk.tool_calls:
            call = self._calls.setdefault(delta.index, _ToolCall())
            call.id = call.id or delta.id or ""
            call.name = call.name or delta.name or ""
            call.signature = call.signature or delta.signature
            call.arguments.append(delta.arguments)

    def end(self, chunk: Chunk) -> None:
        self.finish = chunk.finish
        self._stop_sequence = chunk.stop_sequence
        self._refusal_reason = chunk.refusal_reason

    def value(self) -> Choice:
        self._close()
        calls = [self._calls[index].value() for index in sorted(self._calls)]
        return Choice(
            parts=(*self._parts, *calls),
            finish=self.finish or "cut",
            logprobs=tuple(self.logprobs) or None,
            stop_sequence=self._stop_sequence,
            refusal_reason=self._refusal_reason,
        )

    def _close(self) -> None:
        said = "".join(self._said)
        match self._kind:
            case "text":
                if self._parts and isinstance(before := self._parts[-1], Text):  # it was looked at half-way
                    self._parts[-1] = Text(text=before.text + said)
                else:
                    self._parts.append(Text(text=said))
            case "reasoning":
                self._parts.append(Reasoning(text=said, signature=self._signature))
            case "refusal":
                self._parts.append(Refusal(text=said))
        self._kind, self._said, self._signature = "", [], None


class _ToolCall:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.signature: str | None = None
        self.arguments: list[str] = []

    def value(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.arguments), signature=self.signature)


def chunks_of(reply: Reply) -> Iterable[Chunk]:
    """Return a whole reply as the chunks of a stream, for a caller who asked for one."""
    for index, choice in enumerate(reply.choices):
        calls = 0
        for part in choice.parts:
            piece = Chunk(choice=index, id=reply.id, model=reply.model, fingerprint=reply.fingerprint)
            match part:
                case Text():
                    piece.text = part.text
                case Reasoning():
                    piece.reasoning = part.text
                    piece.reasoning_signature = part.signature
                    piece.reasoning_redacted = part.redacted
                case Refusal():
                    piece.refusal = part.text
                case ToolCall():
                    piece.tool_calls = (
                        ToolCallDelta(
                            index=calls, id=part.id, name=part.name, arguments=part.arguments, signature=part.signature
                        ),
                    )
                    calls += 1
                case _:
                    continue
            yield piece
        yield Chunk(
            choice=index,
            finish=choice.finish,
            stop_sequence=choice.stop_sequence,
            refusal_reason=choice.refusal_reason,
            logprobs=choice.logprobs,
            usage=reply.usage,
            id=reply.id,
            model=reply.model,
        )
