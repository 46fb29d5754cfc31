"""Answers of a given form from models that can't be held to a schema: they are made to call a tool whose input it is.

The tool has a name of its own, by which an answer is known again: what its input says is then the answer's text. Where
the model can't be made to call it, it is told of the form in words.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from holdfast.chat import Finish, Message, Part, Request, ResponseFormat, Text, Tool, ToolCall, ToolChoice
from holdfast.privacy.memories import remembering
from holdfast.providers.anthropic.abilities import Abilities
from holdfast.providers.dialects.dialect import Json, below
from holdfast.providers.dialects.narrowing import Unsuited, narrowed
from holdfast.providers.dialects.servers import CLAUDE_TOOL

NAME: Final = "holdfast_answer"
"""What the tool is called. A caller's own can't be."""

_PURPOSE: Final = "Gives the answer. The input of this tool is the whole answer."
_ONLY_JSON: Final = "Answer with JSON and nothing else: no code fence, no words around it."
_VALID: Final = "It is valid under this JSON Schema:"
_PROPERTY: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_FOREIGN: Final = frozenset({"tools", "tool_choice", "thinking", "stop_sequences"})
"""Fields that go with no forced tool, or cut its input, wherever they come from."""
_MOST_LEARNED: Final = 64 * 2**10
"""Bytes of the longest schema whose tool is remembered."""
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()


# --- to the model -----------------------------------------------------------------------------------------------------


def asked(request: Request, able: Abilities, settings: Mapping[str, Any]) -> Request:
    """Return a request as the model can be asked: a schema as a tool, or in words, where the model knows none.

    `settings` are the fields that are added to every body.
    """
    format = request.response_format
    if able.structured or format is None or format.type != "schema":
        return request
    plain = replace(request, response_format=None)
    tool = _tool(format) if _can_be_forced(request, able, settings) else None
    if tool is None:
        return _told(plain, format)
    choice = ToolChoice(mode="named", name=NAME)
    return replace(plain, tools=(tool,), tool_choice=choice, parallel_tool_calls=False)


def forces(request: Request) -> bool:
    """Whether a request is for an answer through the tool."""
    choice = request.tool_choice
    return len(request.tools) == 1 and request.tools[0].name == NAME and choice is not None and choice.name == NAME


def _can_be_forced(request: Request, able: Abilities, settings: Mapping[str, Any]) -> bool:
    """Whether the model takes a forced tool: not with others, not while it thinks, nor after its own beginning."""
    asks = request.reasoning_effort not in (None, "none") or bool(request.reasoning_tokens)
    begun = bool(request.messages) and request.messages[-1].role == "assistant"
    foreign = not _FOREIGN.isdisjoint(settings) or not _FOREIGN.isdisjoint(request.extra)
    return able.tools and not (request.tools or request.stop or begun or foreign or (asks and able.thinking))


def _tool(format: ResponseFormat) -> Tool | None:
    """Return the tool whose input a schema describes, None where none can have such an input."""
    key = _ENCODER.encode((format.schema or {}, format.description))
    return _learned(key) if len(key) <= _MOST_LEARNED else _made(key)


def _made(key: bytes) -> Tool | None:
    schema, description = _DECODER.decode(key)
    try:
        found = narrowed(schema, CLAUDE_TOOL)
    except (Unsuited, RecursionError):
        return None
    if not _is_input(found.schema):
        return None
    said = [_PURPOSE, description or ""]
    if found.checked:
        said.append(f"{_VALID}\n{_written(schema)}")
    return Tool(name=NAME, description="\n\n".join(filter(None, said)), parameters=found.schema)


_learned = remembering(64)(_made)


def _is_input(schema: Json) -> bool:
    """Whether a tool may have such a schema: of an object, no alternatives at its root, and plain names."""
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if not all(_PROPERTY.fullmatch(name) for name in node.get("properties", ())):
                return False
            waiting += [inner for inner, _ in below(node)]
    return schema.get("type") == "object" and "anyOf" not in schema


def _told(request: Request, format: ResponseFormat) -> Request:
    lines = [_ONLY_JSON, format.description or ""]
    if format.schema:
        lines.append(f"{_VALID}\n{_written(format.schema)}")
    words = Message(role="system", parts=(Text(text="\n\n".join(filter(None, lines))),))
    messages = request.messages
    first = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    return replace(request, messages=(*messages[:first], words, *messages[first:]))


def _written(schema: Json) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


# --- from the model ---------------------------------------------------------------------------------------------------


def said(parts: tuple[Part, ...], finish: Finish) -> tuple[tuple[Part, ...], Finish] | None:
    """Return an answer that was given through the tool as what it says, and how it ended; None if it was not."""
    if not any(_answers(part) for part in parts):
        return None
    cut = finish in ("length", "refused")
    last = len(parts) - 1
    told = tuple([_text(part, cut=cut and at == last) if _answers(part) else part for at, part in enumerate(parts)])
    calls = any(isinstance(part, ToolCall) for part in told)
    return told, "stop" if finish == "tool_calls" and not calls else finish


def _answers(part: Part) -> bool:
    return isinstance(part, ToolCall) and part.name == NAME


def _text(part: Part, *, cut: bool) -> Text:
    """Return what an input says. One that was cut stays open, though the server has closed it."""
    assert isinstance(part, ToolCall)
    return Text(text=part.arguments.rstrip().removesuffix("}") if cut else part.arguments)
