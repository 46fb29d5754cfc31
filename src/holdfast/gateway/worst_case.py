"""The most that an attempt may use, before it is sent.

A token is at least a byte of what is sent. What is not sent but referred to, or makes other tokens than its bytes
(images, sound, documents, tools that the provider runs), may fill the model's context.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from holdfast.chat import EmbeddingRequest, Message, Part, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from holdfast.gateway.budgets import Need
from holdfast.gateway.catalog import Model

ADDED: Final = 256
"""Tokens that a server may add to a request of its own: what opens and closes it, a system message..."""
ADDED_BY_MESSAGE: Final = 16
"""...what stands around a message or a text..."""
ADDED_BY_TOOLS: Final = 1024
"""...and how it tells the model of tools."""

_WORDS: Final = (Text, ToolCall, Reasoning, Refusal)
_OWN_TOOLS: Final = (None, "function", "custom")
"""The types of tools that the caller runs."""
_FROM_ELSEWHERE: Final = frozenset(
    {
        *("cachedContent", "cached_content", "container", "file_search", "mcp_servers", "plugins"),
        *("previous_response_id", "prompt", "web_search_options"),
    }
)
"""Fields of a request that bring input which is not in it."""


def need(model: Model, request: Request | EmbeddingRequest, size: int) -> Need:
    """Return the most that one attempt of a request may use; `size` is the bytes that are sent."""
    input, output = _input(model, request, size), _output(model, request, size)
    if input is None:
        why = f"What is sent may fill the context of {model.name}, whose size is not known: set its `context`."
        return Need(1, None, None, why)
    if output is None:
        why = f"How long an answer may be is not known: set max_tokens, or `max_output` of the model {model.name}."
        return Need(1, None, None, why)
    cost = None if model.price is None else model.price.worst_nanousd(input, output)
    return Need(1, input + output, cost, f"The price of {model.name} is not known: set its `price`.")


def _input(model: Model, request: Request | EmbeddingRequest, size: int) -> int | None:
    if isinstance(request, EmbeddingRequest):
        return size + ADDED + ADDED_BY_MESSAGE * len(request.input)
    if not _all_said(request, model.upstream.endpoint.body):
        return model.context
    return size + ADDED + ADDED_BY_MESSAGE * len(request.messages) + (ADDED_BY_TOOLS if request.tools else 0)


def _output(model: Model, request: Request | EmbeddingRequest, size: int) -> int | None:
    if isinstance(request, EmbeddingRequest):
        return 0
    most = model.context if model.max_output is None else model.max_output
    if request.max_tokens is not None and (most is None or request.max_tokens < most):
        most = request.max_tokens
    if most is None:
        return None
    body = model.upstream.endpoint.body
    predicted = size if "prediction" in request.extra or "prediction" in body else 0  # what is wrong of it is charged
    return most * _answers(request, body) + predicted


def _answers(request: Request, body: Mapping[str, Any]) -> int:
    """Return how many answers are asked for, by the request or by what is added to it."""
    if not body:
        return request.n
    config = body.get("generationConfig")
    counts = [body.get("n"), config.get("candidateCount") if isinstance(config, dict) else None]
    return max(request.n, *[count for count in counts if isinstance(count, int)], 1)


def _all_said(request: Request, body: Mapping[str, Any]) -> bool:
    """Whether all that the model gets to read is in what is sent, as words."""
    if not (_FROM_ELSEWHERE.isdisjoint(request.extra) and _FROM_ELSEWHERE.isdisjoint(body)):
        return False
    if "tools" in body or not all(_is_callers(tool) for tool in request.tools):
        return False
    return all(_is_words(message) for message in request.messages)


def _is_words(message: Message) -> bool:
    return _are_words(message.parts)


def _are_words(parts: Iterable[Part]) -> bool:
    for part in parts:
        if isinstance(part, _WORDS):
            continue
        if not isinstance(part, ToolResult) or not _are_words(part.content):
            return False
    return True


def _is_callers(tool: Tool) -> bool:
    """Whether the caller runs a tool. What a provider runs has a type of its own, or is in `extra` by its own name."""
    return not tool.extra or (tool.extra.get("type") in _OWN_TOOLS and tool.name not in tool.extra)
