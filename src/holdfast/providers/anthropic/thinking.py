"""How much a model is to think: from the neutral words to those that the model at hand accepts."""

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.chat import Message, Reasoning, Request, ToolCall
from holdfast.providers.anthropic.abilities import Abilities, budget_of, effort_of

Json = dict[str, Any]

_LEAST_BUDGET = 1024


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """`config` is the field `thinking`, `effort` a field of `output_config`; None leaves them to the model."""

    config: Json | None = None
    effort: str | None = None

    @property
    def budget(self) -> int:
        return self.config.get("budget_tokens", 0) if self.config else 0


def plan_thinking(request: Request, able: Abilities) -> Thinking:
    """Return what to say about thinking, which is nothing where the request says nothing."""
    effort, tokens = request.reasoning_effort, request.reasoning_tokens
    if effort == "none" or tokens == 0:
        return _without(able)
    if effort is None and tokens is None:
        return Thinking()
    wanted = effort or effort_of(tokens or 0)
    said = able.effort(wanted) if effort or "enabled" not in able.thinking else None
    if "adaptive" in able.thinking and (tokens is None or "enabled" not in able.thinking):
        forced = _forces_a_tool(request)
        return Thinking(config=None if forced else {"type": "adaptive"}, effort=able.effort(wanted))
    budget = _budget(tokens or budget_of(wanted), request) if "enabled" in able.thinking else 0
    return Thinking(config={"type": "enabled", "budget_tokens": budget} if budget else None, effort=said)


def _without(able: Abilities) -> Thinking:
    for type in ("disabled", "between_tools"):
        if type in able.thinking:
            return Thinking(config={"type": type})
    return Thinking(effort=able.effort("low") if able.thinking else None)


def _budget(wanted: int, request: Request) -> int:
    """Return the tokens to think with: fewer than the answer may have in all, 0 where there can be no thinking."""
    if _forces_a_tool(request) or _leaves_no_room(request.messages):
        return 0
    budget = max(_LEAST_BUDGET, wanted)
    if request.max_tokens is not None and budget >= request.max_tokens:
        budget = request.max_tokens // 2 if request.reasoning_tokens is None else request.max_tokens - 1
    return budget if budget >= _LEAST_BUDGET else 0


def _forces_a_tool(request: Request) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode in ("required", "named")


def _leaves_no_room(messages: Sequence[Message]) -> bool:
    """Whether the conversation is in the middle of a turn that began without thinking."""
    last = next((message for message in reversed(messages) if message.role == "assistant"), None)
    if last is None or messages[-1].role == "user":
        return False
    if messages[-1] is last:
        return True
    calls = any(isinstance(part, ToolCall) for part in last.parts)
    thought = any(isinstance(part, Reasoning) and (part.signature or part.redacted) for part in last.parts)
    return calls and not thought
