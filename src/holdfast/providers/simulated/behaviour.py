"""How a simulated model behaves, and how that is written in the model's name.

A name is `base:key=value,key=value`: `gpt:ttft=300ms,tps=50,cut=12` is the model `gpt` with a first token after
300 ms, 50 tokens a second, and a connection that is cut after twelve tokens. A colon that no `key=` follows belongs to
the base.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from holdfast.chat import Usage
from holdfast.providers.simulated.faults import Fault
from holdfast.providers.simulated.plan import Position
from holdfast.settings import Duration, Settings

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class Behaviour(Settings, frozen=True, kw_only=True):
    """How a simulated model answers a request.

    The answer is `text`, else `words` words, else the recorded output for the prompt in `corpus` (files; see
    `corpus.py`), else the text of the last user message. It is preceded by `reasoning` (a text or a number of words).
    The first token comes `ttft` after the request (spread by `jitter`, the sigma of a lognormal), the following ones
    `tps` a second; 0 is as fast as the socket takes them. A token is a word.
    """

    text: str | None = None
    words: Count | None = None
    corpus: tuple[str, ...] = ()
    reasoning: str | Count | None = None
    ttft: Duration = Duration(0)
    tps: Annotated[float, Meta(ge=0)] = 0.0
    jitter: Annotated[float, Meta(ge=0)] = 0.0
    late_headers: bool = False
    """A streamed response's headers wait for its first token."""
    framing: Literal["chunked", "close"] = "chunked"
    """How a stream's end is told: by chunked coding, or only by the end of the connection."""
    tools: Literal["offered", "forced", "never"] = "offered"
    """When a tool is called: whenever one is offered (but not right after its result), when the request forces it."""
    usage: Literal["words", "none"] | Usage = "words"
    """Counted in words, absent, or fixed."""
    logprobs: bool = True
    """Whether log-probabilities are told when asked for, or refused as reasoning models do."""
    prefill: Literal["continue", "repeat", "ignore", "refuse"] = "continue"
    """What a final assistant message does: the reply continues it, repeats and continues it, begins anew, is a 400."""
    context: Count | None = None
    """The longest prompt in tokens."""
    refuse: Literal["prompt", "error", "block", "answer", "message"] | None = None
    """Content refusal: of the prompt as this wire does it, as an error, as a 200 without an answer; in the middle of
    the answer; or as the model's own words."""
    concurrency: Count | None = None
    """Requests beyond so many at once get a 429."""
    dimensions: Annotated[int, Meta(ge=1, le=8192)] = 256
    """Of embeddings, unless the request says."""
    faults: tuple[Fault, ...] = ()


class Step(Behaviour, frozen=True, kw_only=True):
    """A behaviour for the next `repeat` requests, or for as long as `lasts` from the moment it begins."""

    repeat: Annotated[int, Meta(ge=1)] = 1
    lasts: Duration | None = None

    def __post_init__(self) -> None:
        if self.lasts is not None and self.lasts <= 0:
            raise ValueError("a step lasts longer than 0s")


class Model(Behaviour, frozen=True, kw_only=True):
    """A model by name: its `steps` one after the other, `rounds` times (0: for ever), then its own behaviour."""

    steps: tuple[Step, ...] = ()
    rounds: Count = 1


PRESETS = {
    "sim-echo": "",
    "sim-primary": "ttft=60ms,tps=200,status=503,p=0.25",
    "sim-backup": "ttft=60ms,tps=200",
    "sim-fast": "ttft=20ms,tps=500",
    "sim-slow": "ttft=2s,tps=5",
    "sim-long": "words=400,ttft=200ms,tps=80",
    "sim-reasoning": "reasoning=20,ttft=100ms,tps=100",
    "sim-small": "context=200",
    "sim-limited": "status=429,retry_after=2",
    "sim-down": "status=503",
    "sim-flaky": "status=503,p=0.3",
    "sim-silent": "stall=start",
    "sim-reset": "reset=start",
    "sim-stall": "words=40,stall=12",
    "sim-cut": "words=40,cut=12",
    "sim-garbled": "words=40,malformed=bad_json,at=12",
    "sim-refuses": "refuse=prompt",
}
"""Models that are there without a script: what their names stand for."""

PLAIN = (
    "text", "words", "reasoning", "ttft", "tps", "jitter", "late_headers", "framing", "tools", "usage", "logprobs",
    "prefill", "context", "refuse", "concurrency", "dimensions", "repeat", "lasts",
)  # fmt: skip
"""Keys of a suffix that are fields of a behaviour or step by the same name."""
FAULTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "status": lambda value: {"kind": "status", "status": value},
    "cut": lambda value: {"kind": "cut", "at": value},
    "reset": lambda value: {"kind": "reset", "at": value},
    "stall": lambda value: {"kind": "stall", "at": value},
    "trickle": lambda value: {"kind": "trickle", "bytes": value},
    "split": lambda value: {"kind": "split", "at": value},
    "malformed": lambda value: {"kind": "malformed", "what": value},
    "error_event": lambda value: {"kind": "error_event", "at": value},
    "wrong_length": lambda value: {"kind": "wrong_length", "by": value},
    "close": lambda value: {"kind": "close", "announced": value},
}
"""Keys of a suffix that add a fault."""
DETAILS = {
    **{name: name for name in ("retry_after", "at", "every", "times", "after", "down", "up", "on")},
    "for": "seconds",
    "p": "probability",
}
"""Keys of a suffix that say more of the fault before them."""
_SUFFIX = re.compile(r"(.*?):([a-z_]+=.*)")


def split_name(name: str) -> tuple[str, str]:
    """Split a model's name into its base and its suffix.

    >>> split_name("llama3:8b:tps=5,cut=12")
    ('llama3:8b', 'tps=5,cut=12')
    """
    match = _SUFFIX.fullmatch(name)
    return (match[1], match[2]) if match else (name, "")


def expand(suffix: str) -> dict[str, Any]:
    """Turn "ttft=300ms,cut=12" into the fields of a behaviour.

    Raises:
        ValueError: a key is unknown, stands twice or is out of place, or there is no `=`.
    """
    fields: dict[str, Any] = {}
    faults: list[dict[str, Any]] = []
    for pair in filter(None, [part.strip() for part in suffix.split(",")]):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f'expected key=value, got "{pair}"')
        if key in FAULTS:
            faults.append(FAULTS[key](value))
        elif key in DETAILS:
            if not faults:
                raise ValueError(f'"{key}" belongs after a fault, as in "status=429,retry_after=2"')
            faults[-1][DETAILS[key]] = value
        elif key in PLAIN and key not in fields:
            fields[key] = value
        else:
            raise ValueError(f'"{key}" stands twice' if key in PLAIN else _unknown(key))
    return fields | ({"faults": faults} if faults else {})


def _unknown(key: str) -> str:
    known = sorted([*PLAIN, *FAULTS, *DETAILS])
    return f'there is no "{key}"{did_you_mean(key, known)}; there are {", ".join(known)}'


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a hint at the word that is meant, empty when none is near."""
    near = difflib.get_close_matches(word, list(words), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def wrong_name(name: str) -> str | None:
    """Return what is wrong with a model's name where no script says what it stands for, None if it is right."""
    base, suffix = split_name(name)
    if base.startswith("sim-") and base not in PRESETS:
        hint = did_you_mean(base, PRESETS)
        return f'there is no simulated model "{base}"{hint}; there are {", ".join(PRESETS)}; or choose another name'
    try:
        overlay(Behaviour(), suffix)
    except ValueError as error:
        return str(error)
    return None


def read_value(type_: type, value: object) -> object:
    """Decode the types of settings that JSON doesn't have, for `msgspec.convert`."""
    if issubclass(type_, Duration | Position):
        return type_.parse(value)
    raise TypeError(f"no setting is a {type_.__name__}")


def write_value(value: object) -> object:
    """Encode the types of settings that JSON doesn't have."""
    return f"{float(value):g}s" if isinstance(value, Duration) else str(value)


def overlay(base: Behaviour, suffix: str) -> Behaviour:
    """Return `base` with what a suffix says in place of its own.

    Raises:
        ValueError: the suffix is wrong; the message says where.
    """
    fields = expand(suffix)
    if not fields:
        return base
    try:
        said = msgspec.convert(fields, Behaviour, strict=False, dec_hook=read_value)
    except msgspec.ValidationError as error:
        raise ValueError(readable(error)) from error
    return msgspec.structs.replace(base, **{key: getattr(said, key) for key in fields})


def readable(error: msgspec.ValidationError) -> str:
    """Say where a value is wrong, then what is wrong: `faults[0].at: expected ...`."""
    what, _, where = str(error).rpartition(" - at `$")
    return f"{where.rstrip('`').lstrip('.')}: {what}" if what else str(error)


def merge(*layers: Mapping[str, Any] | str) -> dict[str, Any]:
    """Lay the fields of behaviours over one another, each as written in a script: a table or a suffix."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= expand(layer) if isinstance(layer, str) else layer
    return merged
