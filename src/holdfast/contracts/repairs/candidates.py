"""The values that a text holds, each read with the repairs that it needs."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from holdfast.contracts.ledger import Lossy, replay_part
from holdfast.contracts.repairs.reader import Reader
from holdfast.contracts.repairs.source import Broken, Source
from holdfast.contracts.shape import Shape
from holdfast.events import Repair

MAX_STARTS = 1000
"""Places in a text at which a value is looked for."""

START = re.compile(r"""\{\s*+(?:[}"'`“„/#]|[A-Za-z_$][\w$-]{0,199}+\s*+:)|\[\s*+[\]\["'`“„{/#\d\-tfnTFN]""")
FENCE = re.compile(r"\s*+(?:(?:```|~~~)(?:[ \t]?[A-Za-z][\w+-]*+(?=\s*\n))?+)?+\s*+")
DECODER = msgspec.json.Decoder(float_hook=float)  # without it 1e999 is an error


@dataclass(frozen=True, slots=True)
class Candidate:
    """A value that may be the one that is meant."""

    start: int
    end: int
    repairs: list[Repair]
    value: object

    @property
    def is_completed(self) -> bool:
        return bool(self.repairs) and self.repairs[-1].kind == "complete"


def candidates_in(text: str, shape: Shape, allow: Collection[Lossy]) -> tuple[list[Candidate], Broken | None]:
    """Return the values in a text, and the first mistake in something that was one but for it."""
    found: list[Candidate] = []
    broken: Broken | None = None
    source = Source(text)
    at = starts = 0
    while start := START.search(text, at):
        starts += 1
        if starts > MAX_STARTS:
            return [], Broken("too_many", start.start(), f"the text has more than {MAX_STARTS:,} opening brackets")
        reader = Reader(source, shape, start.start(), allow)
        try:
            found.append(candidate(reader, allow))
            at = found[-1].end
        except Broken as mistake:
            if mistake.reason in ("too_deep", "too_many"):
                return [], mistake
            if reader.begun:
                broken = broken or mistake
            at = max(mistake.offset, start.start() + 1) if reader.begun else start.start() + 1
    if not found and not broken:
        return _scalars(text, shape, allow)
    return found, broken


def candidate(reader: Reader, allow: Collection[Lossy]) -> Candidate:
    """Read the value at which a reader stands. Raises Broken."""
    end = _end(reader, allow)
    written = replay_part(reader.text, reader.repairs, reader.start, end)
    try:
        value = DECODER.decode(written)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Broken("malformed", reader.start, f"the value that begins here can't be repaired: {error}") from error
    return Candidate(reader.start, end, reader.repairs, value)


def _end(reader: Reader, allow: Collection[Lossy]) -> int:
    try:
        return reader.read()
    except Broken as mistake:
        cut = mistake.reason == "cut" and not reader.text[mistake.offset :].strip()
        begun = reader.begun or not FENCE.sub("", reader.text[: reader.start], count=1)
        if "complete" not in allow or not cut or not begun or not reader.complete():
            raise
        return len(reader.text)


def _scalars(text: str, shape: Shape, allow: Collection[Lossy]) -> tuple[list[Candidate], Broken | None]:
    """Read a text that is a scalar, in a fence perhaps. In prose there is no telling one."""
    start = FENCE.match(text).end()  # type: ignore[union-attr]
    reader = Reader(Source(text), shape, start, allow)
    if start == len(text):
        return [], None
    try:
        found = candidate(reader, allow)
    except Broken as mistake:
        return [], mistake if mistake.reason == "cut" else None
    return ([found], None) if FENCE.fullmatch(text, found.end) else ([], None)
