"""What a simulated model answers: a whole `Reply`, and the same as the pieces of a stream."""

import itertools
import math
from collections.abc import Iterator

import msgspec

from holdfast.chat import (
    Choice,
    Chunk,
    EmbeddingReply,
    EmbeddingRequest,
    Finish,
    Logprob,
    Part,
    Reasoning,
    Refusal,
    Reply,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from holdfast.providers.base import Wire
from holdfast.providers.simulated.behaviour import Behaviour
from holdfast.providers.simulated.choosing import choice_logprobs, choices_of, choose
from holdfast.providers.simulated.corpus import Corpus
from holdfast.providers.simulated.failures import Failure, context_too_long, prefill_refused, prompt_refused
from holdfast.providers.simulated.synthesis import synthesize
from holdfast.providers.simulated.tokens import count, fraction, prose, tokenize
from holdfast.providers.simulated.vectors import embed

_REFUSAL = "I'm sorry, but I can't help with that."
_REASONS = {"openai": "content_filter", "anthropic": "refusal", "google": "SAFETY"}


class Source(msgspec.Struct, frozen=True):
    """What an answer is made from, besides the request."""

    wire: Wire
    behaviour: Behaviour
    corpus: Corpus | None
    id: str
    created: int


def reply(request: Request, source: Source) -> Reply:
    """Answer a request.

    Raises:
        Failure: the provider refuses the request.
    """
    _check(request, source)
    choices = tuple([_choice(request, source, number) for number in range(max(request.n, 1))])
    usage = _usage(request, choices, source.behaviour)
    return Reply(id=source.id, model=request.model, choices=choices, usage=usage, created=source.created)


def prompt_tokens(request: Request) -> int:
    """Return the length of a prompt: the words of its texts and tool results."""
    parts = [part for message in request.messages for part in message.parts]
    results = [inner for part in parts if isinstance(part, ToolResult) for inner in part.content]
    return sum([count(part.text) for part in [*parts, *results] if isinstance(part, Text)])


def _check(request: Request, source: Source) -> None:
    behaviour, wire = source.behaviour, source.wire
    tokens = prompt_tokens(request)
    if behaviour.context is not None and tokens > behaviour.context:
        raise context_too_long(wire, tokens, behaviour.context)
    prefill = _prefill(request)
    if prefill is not None and behaviour.prefill == "refuse":
        raise prefill_refused(wire)
    if prefill and wire == "anthropic" and prefill != prefill.rstrip():
        raise Failure(400, "messages: final assistant content cannot end with trailing whitespace")
    if request.top_logprobs is not None and not behaviour.logprobs:
        raise Failure(403 if wire == "openai" else 400, "You are not allowed to request logprobs from this model")
    if behaviour.refuse == "error" or (behaviour.refuse == "prompt" and wire == "openai"):
        raise prompt_refused(wire)


def _prefill(request: Request) -> str | None:
    last = request.messages[-1] if request.messages else None
    return last.text if last is not None and last.role == "assistant" else None


def _choice(request: Request, source: Source, number: int) -> Choice:
    behaviour = source.behaviour
    thoughts = _thoughts(source)
    if behaviour.refuse in ("prompt", "block"):
        return Choice(finish="refused", refusal_reason=_REASONS[source.wire])
    if behaviour.refuse == "message":
        said: Part = Refusal(text=_REFUSAL) if source.wire == "openai" else Text(text=_REFUSAL)
        return Choice(parts=(*thoughts, said))
    tool = _tool(request, behaviour)
    if tool is not None:
        return Choice(parts=(*thoughts, _call(tool, request, source.id, number)), finish="tool_calls")
    tokens, finish, stopped_by = _limited(_continued(_text(request, source, number), request, behaviour), request)
    if behaviour.refuse == "answer":
        tokens, finish, stopped_by = tokens[: len(tokens) // 2], "refused", None
    return Choice(
        parts=(*thoughts, Text(text="".join(tokens))) if tokens else thoughts,
        finish=finish,
        logprobs=_logprobs(tokens, request),
        stop_sequence=stopped_by,
        refusal_reason=_REASONS[source.wire] if finish == "refused" else None,
    )


def _thoughts(source: Source) -> tuple[Part, ...]:
    reasoning = source.behaviour.reasoning
    text = str(reasoning or "")
    text = prose(int(text)) if text.isdecimal() else text
    signature = "c2ltdWxhdGVk" if source.wire == "anthropic" else None
    return (Reasoning(text=text, signature=signature),) if text else ()


def _echo(request: Request) -> str:
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


def _text(request: Request, source: Source, number: int) -> str:
    behaviour = source.behaviour
    if behaviour.text is not None:
        return behaviour.text
    if behaviour.words is not None:
        return prose(behaviour.words)
    if source.corpus is not None:
        output = source.corpus.output(_echo(request), number)
        if output is None:
            raise Failure(400, f"The corpus has no output for this prompt, but for {len(source.corpus)} others.")
        return output
    if choices := choices_of(request):
        return choose(choices, _echo(request), number, request.seed)
    wanted = request.response_format
    if wanted is not None and wanted.type != "text":
        fitting = synthesize(wanted.schema, _echo(request)) if wanted.type == "schema" else {"text": _echo(request)}
        return _json(fitting)
    return _echo(request)


def _json(value: object) -> str:
    """Encode with spaces, so that it has several tokens."""
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _continued(text: str, request: Request, behaviour: Behaviour) -> str:
    """Leave out of a reply what the request already put into the assistant's mouth, or say it again first."""
    prefill = _prefill(request)
    if not prefill or behaviour.prefill == "ignore":
        return text
    rest = text.removeprefix(prefill)
    return prefill + rest if behaviour.prefill == "repeat" else rest


def _limited(text: str, request: Request) -> tuple[list[str], Finish, str | None]:
    """Return the tokens within the request's stop sequences and limit, why they end, and which sequence ended them."""
    found = [(text.find(stop), stop) for stop in request.stop if stop and stop in text]
    at, stopped_by = min(found, default=(len(text), None))
    tokens = tokenize(text[:at])
    if request.max_tokens is not None and len(tokens) > request.max_tokens:
        return tokens[: request.max_tokens], "length", None
    return tokens, "stop", stopped_by


def _tool(request: Request, behaviour: Behaviour) -> Tool | None:
    choice = request.tool_choice
    if not request.tools or behaviour.tools == "never" or (choice and choice.mode == "none"):
        return None
    if choice and choice.mode == "named":
        return next((tool for tool in request.tools if tool.name == choice.name), None)
    forced = choice is not None and choice.mode == "required"
    answered = any(isinstance(part, ToolResult) for part in request.messages[-1].parts) if request.messages else False
    offered = behaviour.tools == "offered" and not answered and _prefill(request) is None
    return request.tools[0] if forced or offered else None


def _call(tool: Tool, request: Request, id: str, number: int) -> ToolCall:
    arguments = synthesize(tool.parameters or {"type": "object"}, _echo(request))
    prefix = "toolu" if id.startswith("msg_") else "call"
    return ToolCall(id=f"{prefix}_{id[-12:]}{number}", name=tool.name, arguments=_json(arguments))


def _logprobs(tokens: list[str], request: Request) -> tuple[Logprob, ...] | None:
    """Give each token a probability between 1/2 and 1, and to each of its alternatives half of what is left."""
    top, choices = request.top_logprobs, choices_of(request)
    if top is None:
        return None
    if "".join(tokens) in choices:
        return choice_logprobs(choices, _echo(request), tokens, top)
    return tuple([_logprob(token, place, top) for place, token in enumerate(tokens)])


def _logprob(token: str, place: int, top: int) -> Logprob:
    probability = 0.5 + fraction(token, place) / 2.01
    left = [(1 - probability) / 2 ** (rank + 1) for rank in range(max(top - 1, 0))]
    others = [_one(f"{token}~{rank + 1}", share) for rank, share in enumerate(left)]
    chosen = _one(token, probability)
    return msgspec.structs.replace(chosen, top=(chosen, *others) if top else ())


def _one(token: str, probability: float) -> Logprob:
    return Logprob(token=token, logprob=math.log(probability), bytes=tuple(token.encode()))


def _usage(request: Request, choices: tuple[Choice, ...], behaviour: Behaviour) -> Usage | None:
    if isinstance(behaviour.usage, Usage):
        return behaviour.usage
    if behaviour.usage == "none":
        return None
    parts = [part for choice in choices for part in choice.parts]
    reasoning = sum([count(part.text) for part in parts if isinstance(part, Reasoning)])
    spoken = sum([count(part.text) for part in parts if isinstance(part, Text | Refusal)])
    calls = sum([count(part.arguments) for part in parts if isinstance(part, ToolCall)])
    return Usage(
        input_tokens=prompt_tokens(request), output_tokens=reasoning + spoken + calls, reasoning_tokens=reasoning
    )


# --- the same as a stream ---------------------------------------------------------------------------------------------


def chunks(reply: Reply) -> Iterator[Chunk]:
    """Iterate over the pieces of an answer: a chunk a token, the choices in turn, then what ends each of them."""
    spoken = [_spoken(choice, number) for number, choice in enumerate(reply.choices)]
    first = True
    for turn in itertools.zip_longest(*spoken):
        for chunk in filter(None, turn):
            if first:
                chunk.id, chunk.model, first = reply.id, reply.model, False
            yield chunk
    for number, choice in enumerate(reply.choices):
        named = first and number == 0
        yield Chunk(
            choice=number,
            finish=choice.finish,
            stop_sequence=choice.stop_sequence,
            refusal_reason=choice.refusal_reason,
            usage=reply.usage if number == len(reply.choices) - 1 else None,
            id=reply.id if named else "",
            model=reply.model if named else "",
        )


def _spoken(choice: Choice, number: int) -> Iterator[Chunk]:
    logprobs = iter(choice.logprobs or ())
    calls = 0
    for part in choice.parts:
        if isinstance(part, Text):
            for token in tokenize(part.text):
                told = next(logprobs, None)
                yield Chunk(choice=number, text=token, logprobs=(told,) if told else None)
        elif isinstance(part, Reasoning):
            yield from _reasoned(part, number)
        elif isinstance(part, Refusal):
            yield from [Chunk(choice=number, refusal=token) for token in tokenize(part.text)]
        elif isinstance(part, ToolCall):
            yield from _called(part, number, calls)
            calls += 1


def _reasoned(part: Reasoning, number: int) -> Iterator[Chunk]:
    tokens = tokenize(part.text)
    for token in tokens[:-1]:
        yield Chunk(choice=number, reasoning=token)
    yield Chunk(choice=number, reasoning="".join(tokens[-1:]), reasoning_signature=part.signature)


def _called(call: ToolCall, number: int, index: int) -> Iterator[Chunk]:
    head, *rest = tokenize(call.arguments) or [""]
    first = ToolCallDelta(index=index, id=call.id, name=call.name, arguments=head)
    yield Chunk(choice=number, tool_calls=(first,))
    for token in rest:
        yield Chunk(choice=number, tool_calls=(ToolCallDelta(index=index, arguments=token),))


# --- vectors ----------------------------------------------------------------------------------------------------------


def vectors(request: EmbeddingRequest, behaviour: Behaviour) -> EmbeddingReply:
    """Embed the texts of a request; token ids count as words."""
    texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in request.input]
    size = request.dimensions or behaviour.dimensions
    usage = None if behaviour.usage == "none" else Usage(input_tokens=sum(map(count, texts)))
    usage = behaviour.usage if isinstance(behaviour.usage, Usage) else usage
    return EmbeddingReply(model=request.model, vectors=tuple([embed(text, size) for text in texts]), usage=usage)
