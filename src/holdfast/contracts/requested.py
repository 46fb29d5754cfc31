"""Contracts that come with a call: its `response_format`, or the parameters of its strict tools.

A call is not kept waiting for what was compiled before: the last contracts are kept, by the bytes they came in.
"""

import importlib.util
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec

from holdfast.chat import ResponseFormat, Tool
from holdfast.contracts.base import Contract, Form, Schema
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import ChoiceForm, PatternForm
from holdfast.errors import ConfigError, InvalidRequest
from holdfast.privacy.memories import dropped_by

MAX_KEPT: Final = 256
"""Contracts that are kept."""
MAX_KEPT_BYTES: Final = 64 * 2**20
"""About how much memory the kept contracts may take."""
_BYTES_A_BYTE: Final = 100
_BYTES_A_PATTERN: Final = 40_000
"""What a byte of a schema, and a pattern in it, take at most when they are compiled."""
LIGHT: Final = 2 * 2**10
"""Bytes of a schema up to which it is compiled within some milliseconds, whatever it says."""

_OBJECT: Final[Schema] = {"type": "object"}
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Kept:
    """Contracts by the bytes they came in, least recently used dropped first. Any thread may use it."""

    def __init__(self, most: int = MAX_KEPT, most_bytes: int = MAX_KEPT_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._contracts: OrderedDict[tuple[str, bytes], Contract] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._contracts)

    def get(self, key: tuple[str, bytes]) -> Contract | None:
        with self._lock:
            if (contract := self._contracts.get(key)) is not None:
                self._contracts.move_to_end(key)
            return contract

    def put(self, key: tuple[str, bytes], contract: Contract) -> None:
        with self._lock:
            if key not in self._contracts:
                self._bytes += _compiled_bytes(key[1])
            self._contracts[key] = contract
            while self._contracts and (len(self._contracts) > self._most or self._bytes > self._most_bytes):
                (_, dropped), _ = self._contracts.popitem(last=False)
                self._bytes -= _compiled_bytes(dropped)

    def clear(self) -> None:
        with self._lock:
            self._contracts.clear()
            self._bytes = 0


def _compiled_bytes(raw: bytes) -> int:
    return _BYTES_A_BYTE * len(raw) + _BYTES_A_PATTERN * raw.count(b"attern")


_kept: Final = Kept()
dropped_by(_kept.clear)


@cache
def available() -> bool:
    """Return whether contracts of calls can be kept: it takes the extra `contracts`."""
    return importlib.util.find_spec("jsonschema_rs") is not None


def requested(format: ResponseFormat, raw: bytes | None = None) -> Contract | None:
    """Return the contract that a call asks for, None where it asks for none or none can be checked here.

    Args:
        raw: the bytes that the format came in, if they are at hand: they are looked up without encoding it.

    Raises:
        InvalidRequest: it is no contract, or one that could take unbounded work to check.
    """
    if format.type == "text" or not available():
        return None
    key = _format_key(format, raw)
    if (contract := _kept.get(key)) is None:
        try:
            contract = Contract(_form(format), name=format.name or "response_format")
        except ConfigError as error:
            param = "response_format.json_schema.schema" if format.type == "schema" else "response_format"
            raise InvalidRequest(f"{param}: {_told(error)}", param=param) from error
        _kept.put(key, contract)
    return contract


def arguments_of(tool: Tool, raw: bytes | None = None) -> Contract | None:
    """Return the contract of the arguments of a strict tool, None for any other, or if none can be checked here.

    Raises:
        InvalidRequest: its parameters are no schema, or one that could take unbounded work to check.
    """
    if not tool.strict or tool.parameters is None or not available():
        return None
    key = _arguments_key(tool, raw)
    if (contract := _kept.get(key)) is None:
        try:
            contract = Contract(compile_schema(tool.parameters), name=tool.name)
        except ConfigError as error:
            raise InvalidRequest(f"the parameters of the tool {tool.name!r}: {_told(error)}", param="tools") from error
        _kept.put(key, contract)
    return contract


def at_hand(format: ResponseFormat | None, raw: bytes | None, tools: Sequence[Tool]) -> bool:
    """Return whether nothing has to be compiled for a call with such a format and tools that could take long."""
    keys = [] if format is None else [_format_key(format, raw)]
    keys += [_arguments_key(tool) for tool in tools if tool.strict and tool.parameters is not None]
    return not available() or all(len(key[1]) <= LIGHT or _kept.get(key) is not None for key in keys)


def format_of(contract: Contract) -> ResponseFormat | None:
    """Return what a model's server can be asked to enforce of a contract, None where it is nothing."""
    constraint = contract.constraint
    if constraint is None:
        return None
    if constraint.kind == "pattern":
        return ResponseFormat(type="pattern", pattern=constraint.value)
    if constraint.kind == "choice":
        return ResponseFormat(type="choice", choices=constraint.value)
    if constraint.kind == "grammar":
        return ResponseFormat(type="grammar", grammar=constraint.value)
    if constraint.value == _OBJECT:
        return ResponseFormat(type="json")
    schema = constraint.value if isinstance(constraint.value, dict) else {}
    return ResponseFormat(type="schema", schema=schema, name=_name(contract.name), strict=True)


def _format_key(format: ResponseFormat, raw: bytes | None) -> tuple[str, bytes]:
    return "format", _ENCODER.encode(format) if raw is None else raw


def _arguments_key(tool: Tool, raw: bytes | None = None) -> tuple[str, bytes]:
    return "arguments", _ENCODER.encode((tool.name, tool.parameters)) if raw is None else raw


def _form(format: ResponseFormat) -> Form:
    if format.type == "pattern":
        return PatternForm(format.pattern or "")
    if format.type == "choice":
        return ChoiceForm(format.choices)
    if format.type == "grammar":
        return GrammarForm(format.grammar or "")
    return compile_schema(_OBJECT if format.type == "json" or format.schema is None else format.schema)


def _name(name: str) -> str:
    """Return a name that every wire takes."""
    stem = re.sub(r"\.\w+\Z", "", name.rpartition("/")[2])
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", stem).strip("_")[:64] or "answer"


def _told(error: ConfigError) -> str:
    problem = error.problems[0]
    return f"{problem.key}: {problem.message}" if problem.key.startswith("/") else problem.message
