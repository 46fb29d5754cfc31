"""The most that an attempt may use, before it is sent.

A token is at least a byte of what is sent. What is not sent but referred to, or makes other tokens than its bytes
(images, sound, documents, tools that the provider runs), may fill the model's context.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from holdfast.chat import EmbeddingRequest, Part, Reasoning, Refusal, Request, Text, Tool, ToolCall, ToolResult
from holdfast.gateway.catalog import Model
from holdfast.gateway.spending.budgets import Need

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
        *("cachedContent", "cached_content", "container", "data_sources", "enable_search", "file_search"),
        *("mcp_servers", "plugins", "previous_response_id", "prompt", "search_parameters", "web_search_options"),
    }
)
"""Fields of a request that bring input which is not in it."""
_COUNTS: Final = frozenset({"best_of", "candidateCount", "candidate_count", "n", "num_return_sequences"})
"""Fields that ask for several answers. One that the caller's wire doesn't know is sent to a model of another wire."""
_LENGTHS: Final = frozenset(
    {
        *("budget_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens", "max_tokens"),
        *("maxOutputTokens", "min_tokens", "n_predict", "num_predict", "thinking_budget"),
    }
)
"""Fields that say how long an answer may be, as the above."""
_HOLDERS: Final = ("extra_body", "generationConfig", "generation_config", "options", "reasoning", "thinking")
"""Fields that hold such fields."""
_RATES: Final = ("fallbacks", "models", "provider", "route", "service_tier", "serviceTier", "speed")
"""Fields that choose other rates, or another model..."""
_USUAL_RATES: Final = (None, "auto", "default", "flex", "on_demand", "standard", "standard_only")
"""...unless they say no more than this."""


def need(model: Model, request: Request | EmbeddingRequest, size: int) -> Need:
    """Return the most that one attempt of a request may use; `size` is the bytes that are sent."""
    body = model.upstream.endpoint.body
    if type(request) is Request and not (request.extra or body or request.tools or request.reasoning_tokens):
        input, output = _plain(model, request, size)
    else:
        input, output = _input(model, request, size), _output(model, request, size)
    if input is None:
        why = f"What is sent may fill the context of {model.name}, whose size is not known: set its `context`."
        return Need(1, None, None, why)
    if output is None:
        why = f"How long an answer may be is not known: set max_tokens, or `max_output` of the model {model.name}."
        return Need(1, None, None, why)
    if request.extra and (field := _rate_of(request.extra)) is not None:
        return Need(1, input + output, None, f"What `{field}` makes of the price of {model.name} is not known.")
    cost = None if model.price is None else model.price.worst_nanousd(input, output)
    if cost is None:
        return Need(1, input + output, None, f"The price of {model.name} is not known: set its `price`.")
    return Need(1, input + output, cost)


def _plain(model: Model, request: Request, size: int) -> tuple[int | None, int | None]:
    """Return the most input and output of a request without any of what the functions below look for, as most are."""
    messages, asked, context = request.messages, request.max_tokens, model.context
    if all(map(_are_words, [message.parts for message in messages])):
        input: int | None = size + ADDED + ADDED_BY_MESSAGE * len(messages)
    else:
        input = context
    if asked is None:
        asked = context if model.max_output is None else model.max_output
    elif context is not None and context < asked:
        asked = context
    return input, None if asked is None else asked * request.n


def _rate_of(said: Mapping[str, Any]) -> str | None:
    """Return the field that chooses a rate which is not known, None where there is none."""
    return next((name for name in _RATES if said.get(name) not in _USUAL_RATES), None)


def _input(model: Model, request: Request | EmbeddingRequest, size: int) -> int | None:
    if isinstance(request, EmbeddingRequest):
        return size + ADDED + ADDED_BY_MESSAGE * len(request.input)
    if not _all_said(request, model.upstream.endpoint.body):
        return model.context
    return size + ADDED + ADDED_BY_MESSAGE * len(request.messages) + (ADDED_BY_TOOLS if request.tools else 0)


def _output(model: Model, request: Request | EmbeddingRequest, size: int) -> int | None:
    if isinstance(request, EmbeddingRequest):
        return 0
    most = _longest(model, request)
    if most is None:
        return None
    body = model.upstream.endpoint.body
    predicted = size if "prediction" in request.extra or "prediction" in body else 0  # what is wrong of it is charged
    return most * _answers(request, body) + predicted


def _longest(model: Model, request: Request) -> int | None:
    """Return how many tokens an answer may have. Where more is asked for than the model is said to give, that counts:
    either it is refused, or what is said is wrong.
    """
    asked, context = request.max_tokens, model.context
    if _asks_for_more(request, asked or 0):
        return model.max_output if context is None else context
    if asked is None:
        return context if model.max_output is None else model.max_output
    return asked if context is None else min(asked, context)


def _asks_for_more(request: Request, tokens: int) -> bool:
    """Whether an answer, or what is thought before it, may be longer than so many tokens by what else is asked for."""
    said = request.extra
    if not said:
        return (request.reasoning_tokens or 0) > tokens
    replaced = any(said.get(name) is not None and not isinstance(said[name], dict) for name in _HOLDERS)
    if replaced or (request.reasoning_tokens or 0) > tokens:
        return True
    return any(not isinstance(length, int) or not 0 <= length <= tokens for length in _found(_LENGTHS, said))


def _answers(request: Request, body: Mapping[str, Any]) -> int:
    """Return how many answers are asked for, by the request or by what is added to it."""
    if not (body or request.extra):
        return request.n
    counts = [*_found(_COUNTS, request.extra), *_found(_COUNTS, body)]
    return max(request.n, *[count for count in counts if isinstance(count, int)], 1)


def _found(names: Iterable[str], said: Mapping[str, Any]) -> Iterator[Any]:
    """Return what fields of these names say, in an object or in those that it holds for more of its fields."""
    for fields in (said, *[said[name] for name in _HOLDERS if isinstance(said.get(name), dict)]):
        yield from [fields[name] for name in names if fields.get(name) is not None]


def _all_said(request: Request, body: Mapping[str, Any]) -> bool:
    """Whether all that the model gets to read is in what is sent, as words."""
    for fields in (request.extra, body):
        if fields and not _FROM_ELSEWHERE.isdisjoint(fields):
            return False
    if "tools" in body or (request.tools and not all(_is_callers(tool) for tool in request.tools)):
        return False
    return all(map(_are_words, [message.parts for message in request.messages]))


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
