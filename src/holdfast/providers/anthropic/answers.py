"""What whole answers and streams of the Anthropic wire have in common: how they end, and what they cost."""

from typing import Any

import msgspec

from holdfast.chat import Choice, Finish, Usage

_FINISHES: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refused",
}
_STOP_REASONS: dict[Finish, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refused": "refusal",
}
_CATEGORIES = frozenset({"cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"})


class StopDetails(msgspec.Struct):
    """Why an answer was refused."""

    category: str | None = None
    explanation: str | None = None

    @property
    def reason(self) -> str | None:
        return self.category or self.explanation


class TokenDetails(msgspec.Struct):
    thinking_tokens: int = 0


class WireUsage(msgspec.Struct):
    """Tokens as the wire counts them: `input_tokens` without the cached ones. None is not said."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: TokenDetails | None = None

    def over(self, earlier: "WireUsage") -> "WireUsage":
        """Return these counts, and the earlier ones where these say nothing: on a stream they are cumulative."""
        merged = (mine if mine is not None else old for mine, old in zip(_counts(self), _counts(earlier), strict=True))
        return WireUsage(*merged)

    def usage(self) -> Usage:
        read, write = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        return Usage(
            input_tokens=(self.input_tokens or 0) + read + write,
            output_tokens=self.output_tokens or 0,
            cache_read_tokens=read,
            cache_write_tokens=write,
            reasoning_tokens=self.output_tokens_details.thinking_tokens if self.output_tokens_details else 0,
        )


def _counts(usage: WireUsage) -> tuple[Any, ...]:
    return msgspec.structs.astuple(usage)


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Return usage as the wire counts it. An unknown one is zero, because clients expect numbers."""
    usage = usage or Usage()
    fresh = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    wire: dict[str, Any] = {
        "input_tokens": max(0, fresh),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        wire["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return wire


def finish_of(stop_reason: str) -> Finish:
    """Return how an answer ended.

    A paused turn, and any end that we don't know, is "length": it must not pass for a complete answer.
    """
    return _FINISHES.get(stop_reason, "length")


def encode_ending(choice: Choice) -> dict[str, Any]:
    """Return the fields that say how an answer ended."""
    ending: dict[str, Any] = {"stop_reason": _STOP_REASONS[choice.finish], "stop_sequence": choice.stop_sequence}
    if choice.finish == "stop" and choice.stop_sequence is not None:
        ending["stop_reason"] = "stop_sequence"
    if choice.refusal_reason is not None:
        known = choice.refusal_reason in _CATEGORIES
        category, explanation = (choice.refusal_reason, None) if known else (None, choice.refusal_reason)
        ending["stop_details"] = {"type": "refusal", "category": category, "explanation": explanation}
    return ending
