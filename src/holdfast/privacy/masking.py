"""Texts without their words: the shape of what was asked and answered, for those who may not read it.

Every letter becomes x and every digit 9, each character for one. Punctuation and white space stay, so that a list can
still be told from a sentence. Other symbols (emoji, private characters, invisible ones) become x: some of them are
letters in disguise.
"""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from holdfast.errors import DeadlineExceeded, LimitExceeded, ModelBusy, ModelDown, PriceUnknown, Saturated

LETTER, DIGIT = "x", "9"
_CACHED = 4096
"""Characters beyond ASCII that are remembered."""
_LARGEST = 10**18
_DEEPEST = 64


def mask(text: str) -> str:
    """Return a text of the same length with its letters and digits masked. Masking it again changes nothing.

    >>> mask("Anna Kraft, born 1985-03-12 (ß, ½, 漢字)")
    'xxxx xxxxx, xxxx 9999-99-99 (x, 9, xx)'
    """
    return text.translate(_MASKS)


class _Masks(dict[int, str]):
    """What stands for each character."""

    def __missing__(self, code: int) -> str:
        masked = _masked_character(chr(code))
        if len(self) < _CACHED:
            self[code] = masked
        return masked


def _masked_character(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "N":
        return DIGIT
    ascii = character.isascii() and not character.isalpha()
    plain = category[0] in "PZ" or category in ("Cc", "Sc", "Sm")
    if ascii or (plain and not any(part.isalnum() for part in unicodedata.normalize("NFKD", character))):
        return character
    return LETTER


_MASKS = _Masks()

Masker = Callable[[Any], Any]


def masked(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call as JSON values (see `log.view.call_json`) with everything masked that a person or a model wrote.

    That is the request, the reply, the repairs, and what errors say. What the wire itself says stays: the names of its
    fields, roles, types, how an answer ended, the model, and the numbers that say how it should answer. Below them,
    texts, names, ids, tool calls, schemas, tokens and vectors are masked, and so is every field that is not known here.

    The facts about the call stay, its session and its tags among them: they are what calls are found by. So do the
    messages of errors in which the gateway says in its own words why it sent nothing.
    """
    return _own_words(call, {name: _CALL.get(name, blur)(value) for name, value in call.items()})


def blur(value: Any, depth: int = 0) -> Any:
    """Return any JSON value with all its texts, names of members and numbers masked; true stands for true and false.

    What lies more than 64 levels deep becomes one x.
    """
    if depth > _DEEPEST:
        return LETTER
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return int(DIGIT * len(str(min(abs(value), _LARGEST))))
    if isinstance(value, float):
        return 9.9
    if isinstance(value, Mapping):
        return _blurred_members(value, depth + 1)
    if isinstance(value, list | tuple):
        return [blur(item, depth + 1) for item in value]
    return None


def _blurred_members(members: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Mask the names too; those that become the same are told apart by a count of them."""
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name, value in members.items():
        shown = unique = mask(str(name))
        while unique in found:
            counts[shown] = counts.get(shown, 1) + 1
            unique = f"{shown}#{counts[shown]}"
        found[unique] = blur(value, depth)
    return found


_OURS = frozenset(
    error.code for error in (DeadlineExceeded, LimitExceeded, ModelBusy, ModelDown, PriceUnknown, Saturated)
)
"""Errors that quote neither a caller nor a provider."""


def _own_words(value: Mapping[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """Leave the message of a call or an attempt as it is where it quotes nobody."""
    error = value.get("error")
    ours = isinstance(error, str) and error in _OURS and "message" in value
    return shown | {"message": value["message"]} if ours else shown


# --- what stays -------------------------------------------------------------------------------------------------------


def _keep(value: Any) -> Any:
    return value


def _number(value: Any) -> Any:
    """Keep a number, or what stands for none."""
    return value if value is None or isinstance(value, bool | int | float) else blur(value)


def _one_of(*words: str) -> Masker:
    """Keep a word of the wire."""
    return lambda value: value if value in words else blur(value)


def _members(known: Mapping[str, Masker], rest: Masker = blur) -> Masker:
    """Mask an object member by member. Names that are not known stay: they are the wire's."""
    return lambda value: (
        {name: known.get(name, rest)(member) for name, member in value.items()}
        if isinstance(value, Mapping)
        else blur(value)
    )


def _each(masker: Masker) -> Masker:
    return lambda value: [masker(item) for item in value] if isinstance(value, list | tuple) else blur(value)


_PARTS = ("text", "image", "audio", "file", "reasoning", "refusal", "tool_call", "tool_result", "unknown")
_type = _one_of(*_PARTS)
_part = _members({"type": _type, "is_error": _number, "content": _each(_members({"type": _type}))})
_message = _members({"role": _one_of("system", "user", "assistant", "tool"), "parts": _each(_part)})
_format = _members(
    {"type": _one_of("text", "json", "schema", "pattern", "choice", "grammar"), "strict": _number},
)
_SETTINGS = (
    "parallel_tool_calls",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "reasoning_tokens",
    "stream",
    "stream_usage",
    "dimensions",
)
_request = _members(
    {
        "model": _keep,
        "messages": _each(_message),
        "tools": _each(_members({"strict": _number})),
        "tool_choice": _members({"mode": _one_of("auto", "none", "required", "named")}),
        "response_format": _format,
        "reasoning_effort": _one_of("none", "minimal", "low", "medium", "high", "xhigh"),
        "encoding_format": _one_of("float", "base64"),
        **dict.fromkeys(_SETTINGS, _number),
    }
)
_choice = _members({"parts": _each(_part), "finish": _one_of("stop", "length", "tool_calls", "refused", "cut")})
_reply = _members(
    {"model": _keep, "choices": _each(_choice), "usage": _members({}, rest=_number), "created": _number},
)
_repair = _members({"kind": _keep, **dict.fromkeys(("offset", "choice", "tool", "attempt"), _number)})


def _attempt(value: Any) -> Any:
    shown = _members({"message": blur}, rest=_keep)(value)
    return _own_words(value, shown) if isinstance(value, Mapping) else shown


FACTS = (
    *("id", "at", "at_us", "kind", "wire", "name", "feature", "model", "provider", "served_model", "fingerprint"),
    *("config", "outcome", "status", "error", "finish", "stream", "store", "duration_us", "first_token_us"),
    *("session", "subject", "tags", "tenant", "key", "usage", "cost_usd", "contract", "repairs", "replayed"),
    *("samples", "agreement", "withheld"),
)
"""What is shown of a call as it is."""
_CALL: Mapping[str, Masker] = {
    **dict.fromkeys(FACTS, _keep),
    "attempts": _each(_attempt),
    "request": _request,
    "reply": _reply,
    "ledger": _each(_repair),
}
