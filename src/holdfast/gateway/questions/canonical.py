"""Requests in one form, however they were spelt: what is sent, and the key under which its answer is found again.

Two spellings of the same JSON become the same bytes: members sorted, a number written in one way. Only the members of
an object called "properties" keep their order, because models write the fields of an answer in the order of its schema.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from holdfast.chat import Request
from holdfast.providers.base import Source

_Key = TypeVar("_Key", int, str)

SEED: Final = 1
"""For callers who have none. Not 0, which some servers take for none."""
KEY_BYTES: Final = 32

_SAID_BY_THE_VALUE: Final = frozenset({"model", "temperature", "top_p", "top_k", "seed", "n"})
_ANYWHERE: Final = frozenset({"holdfast", "service_tier", "stream", "stream_options"})
_INDIFFERENT: Final[Mapping[str, frozenset[str]]] = {
    "openai": _ANYWHERE | {"metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "store"},
    "anthropic": _ANYWHERE,
}
"""Fields of a wire that change how an answer is sent, filed or billed, and not the answer. Who is asking is none."""

_MOST_KNOWN: Final = 4096
_PROPERTIES: Final = b'"properties"'
_KNOWN: Final[dict[bytes, bytes]] = {}
_NOTHING: Final = Request(model="", messages=())


# --- JSON -------------------------------------------------------------------------------------------------------------


def canonical(raw: bytes) -> bytes:
    """Return JSON in its one spelling; as it came where that can't be done, such as for integers beyond 64 bits.

    >>> canonical(b'{"b": 1.0, "a": [1e-1, -0.0]}')
    b'{"a":[0.1,0],"b":1}'
    """
    try:
        value = _DECODER.decode(raw)
        spelt = _SORTING.encode(value)
        return spelt if _PROPERTIES not in spelt else _AS_IT_STANDS.encode(_sorted(value))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return raw


def _sorted(value: Any, *, in_order: bool = False) -> Any:
    if isinstance(value, dict):
        names = value if in_order else sorted(value)
        return {name: _sorted(value[name], in_order=name == "properties" and not in_order) for name in names}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _number(text: str) -> int | float | Decimal:
    value = float(text)
    if value.is_integer() and abs(value) < 2**63:
        return int(value)
    return value if math.isfinite(value) else Decimal(text)


_DECODER = msgspec.json.Decoder(float_hook=_number)
_SORTING = msgspec.json.Encoder(order="sorted", decimal_format="number")
_AS_IT_STANDS = msgspec.json.Encoder(decimal_format="number")


# --- requests ---------------------------------------------------------------------------------------------------------


def reproduce(request: Request) -> Request:
    """Return a request whose answer varies as little as models allow: temperature 0, and a seed.

    The seed is the caller's, if there is one. `top_p` and `top_k` go, as there is nothing left for them to choose from,
    and some models refuse them beside a temperature. Who asks for several answers wants them to differ, and many
    servers refuse them at temperature 0: these keep how they are drawn, and get only the seed.
    """
    seed = SEED if request.seed is None else request.seed
    if request.n != 1:
        return msgspec.structs.replace(request, seed=seed)
    return msgspec.structs.replace(request, temperature=0.0, top_p=None, top_k=None, seed=seed)


def canonical_source(source: Source) -> Source:
    """Return a source from which a request is forwarded in its one spelling, instead of as it came.

    It costs nothing until something is forwarded from it.
    """
    fields, messages, tools = _Spelt(source.fields), _Spelt(source.messages), _Spelt(source.tools)
    return msgspec.structs.replace(source, fields=fields, messages=messages, tools=tools)


class _Spelt(Mapping[_Key, msgspec.Raw]):
    """Pieces in their one spelling, made when they are asked for, and in one order."""

    def __init__(self, pieces: Mapping[_Key, msgspec.Raw]) -> None:
        self._pieces: Mapping[_Key, msgspec.Raw] = pieces

    def __getitem__(self, key: _Key) -> msgspec.Raw:
        return msgspec.Raw(canonical(bytes(self._pieces[key])))

    def __iter__(self) -> Iterator[_Key]:
        return iter(sorted(self._pieces))

    def __len__(self) -> int:
        return len(self._pieces)


# --- keys -------------------------------------------------------------------------------------------------------------


def hash_of(parts: Mapping[str, str]) -> bytes:
    """Return what stands for named texts, in any order: all of a configuration that can change an answer."""
    return _digest(text.encode("utf-8", "surrogatepass") for pair in sorted(parts.items()) for text in pair)


def key_of(
    feature: bytes,
    request: Request,
    source: Source | None = None,
    *,
    subject: str | None = None,
    tenant: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> bytes:
    """Return what stands for all that can change the answer to a request. Two that share it may share the answer.

    `feature` is the hash of the feature's part of the configuration, `request` what `reproduce` returned, with the
    feature's prompt filled in, `source` how the caller spoke it (a value leaves out what only its wire knows),
    `subject` the keyed hash. `variables` are needed only where something else than the prompt looks at them.
    """
    wire = "" if source is None else source.wire
    indifferent = _INDIFFERENT.get(wire, _ANYWHERE)
    pieces = [feature, _head(request, source, indifferent, (subject, tenant, wire, variables or {}))]
    if source is not None:
        for name in sorted(source.fields.keys() - indifferent - _SAID_BY_THE_VALUE):
            pieces += (name.encode(), _digest_of(bytes(source.fields[name])))
    return _digest(pieces)


def _head(request: Request, source: Source | None, indifferent: frozenset[str], asker: tuple[Any, ...]) -> bytes:
    """Write who asks, and what a request says beyond its source. The source's messages stand there by their number."""
    came = _NOTHING if source is None else source.request
    numbers = {id(message): number for number, message in enumerate(came.messages)}
    fields = msgspec.structs.replace(
        request,
        messages=(),
        tools=() if request.tools is came.tools else request.tools,
        response_format=None if request.response_format is came.response_format else request.response_format,
        stream=False,
        stream_usage=False,
        extra={
            name: value
            for name, value in request.extra.items()
            if name not in indifferent and came.extra.get(name, _NOTHING) is not value
        },
    )
    head = (*asker, fields, [numbers.get(id(message), message) for message in request.messages])
    try:
        said = _SORTING.encode(head)
        return canonical(said) if source is None else said  # which holds nothing then that a caller has spelt
    except (ValueError, OverflowError, RecursionError):  # JSON as msgspec writes it can't say all that it reads
        return repr(head).encode("utf-8", "surrogatepass")


def _digest_of(raw: bytes) -> bytes:
    """Return the hash of the one spelling of JSON, which is remembered by the hash of how it came: it holds no text."""
    came = _digest((raw,))
    known = _KNOWN.get(came)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[came] = _digest((canonical(raw),))
    return known


def _digest(pieces: Iterable[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8))
        digest.update(piece)
    return digest.digest()
