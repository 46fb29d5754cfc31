"""Repairs the text of an answer into the one JSON value that it holds: no model call, no I/O, linear time.

It never drops, invents or merges data. What is taken off is what stands around the value, what is put in are brackets,
quotes, commas and escapes; the ledger says all of it. A text that is cut inside a value is refused, and so is one that
can be read in two ways.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from holdfast.contracts.ledger import Kind, Refused, Repaired, replay, replay_part
from holdfast.contracts.reader import Reader
from holdfast.contracts.shape import ANY, Shape, fits
from holdfast.contracts.source import Broken, Source
from holdfast.events import Repair

MAX_LENGTH = 2**20
"""Characters of a text that is not valid as it is."""
MAX_STARTS = 1000
"""Places in a text at which a value is looked for."""

_START = re.compile(r"""\{\s*+(?:[}"'`“„/#]|[A-Za-z_$][\w$-]{0,199}+\s*+:)|\[\s*+[\]\["'`“„{/#\d\-tfnTFN]""")
_FENCE = re.compile(r"\s*+(?:(?:```|~~~)(?:[ \t]?[A-Za-z][\w+-]*+(?=\s*\n))?+)?+\s*+")
_HEAD = re.compile(rf"{_FENCE.pattern}(?=[{{\[])")
_GOES_ON = re.compile(r"""\s*+,\s*+(?:["'“{\[]|[A-Za-z_$][\w$-]{0,199}+\s*+:)""")
_REMAINS = re.compile(r"""["']\s*+(?:[}\]]|,\s*+["']|:\s*+["'{\[\d])""")
"""What prose around a value doesn't have, but what is left of one has that was read too short."""
_DECODER = msgspec.json.Decoder(float_hook=float)  # without it 1e999 is an error


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    end: int
    repairs: list[Repair]
    value: object


def repair(text: str, shape: Shape = ANY) -> Repaired | Refused:
    """Return the JSON value that a text holds, or why there is none.

    A text that is JSON already is returned as it is, unless a scalar in it is of another type than its shape asks for
    and says the same (`"42"` for 42). Of several values in a text the last that fits the shape is meant: models that
    correct themselves do it below. A value that doesn't fit is returned too where it is the only one: judging it is the
    check's part.
    """
    try:
        value = _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return _mended(text, shape)
    if shape is ANY or fits(value, shape):
        return Repaired(text)
    return _coerced(text, shape)


def value_at_head(text: str, shape: Shape = ANY) -> Repaired | Refused | None:
    """Return the value with which a text begins, in a code fence perhaps; None where it begins with prose.

    A bracket that opens a list is prose where the shape asks for no list: "[1] says that".
    """
    start = _HEAD.match(text)
    if start is None or (text[start.end()] == "[" and not shape.allows("array")) or not _START.match(text, start.end()):
        return None
    reader = Reader(Source(text), shape, start.end())
    try:
        head = _candidate(reader)
    except Broken as mistake:
        return Refused(mistake.reason, mistake.offset, mistake.message) if reader.begun else None
    return Repaired(replay_part(text, head.repairs, head.start, head.end), tuple(head.repairs))


def _coerced(text: str, shape: Shape) -> Repaired:
    """Bring the scalars of a valid text to the types of its shape, where that changes no meaning."""
    reader = Reader(Source(text), shape, len(text) - len(text.lstrip()))
    try:
        reader.read()
    except Broken:
        return Repaired(text)
    return Repaired(replay(text, reader.repairs), tuple(reader.repairs))


def _mended(text: str, shape: Shape) -> Repaired | Refused:
    if len(text) > MAX_LENGTH:
        return Refused("too_long", MAX_LENGTH, f"the text is not JSON, and longer than {MAX_LENGTH:,} characters")
    if not text.isascii() and (lone := re.search("[\ud800-\udfff]", text)):
        return Refused("malformed", lone.start(), "half of a surrogate pair is no character")
    candidates, broken = _candidates(text, shape)
    best = max(candidates, key=lambda candidate: (_rank(candidate.value, shape), candidate.end), default=None)
    if best is None or (broken and not _stands_for(text, best, shape)):
        return _refused(text, shape, broken)
    if doubt := _doubt(text, best, candidates, shape):
        return doubt
    ledger = _ledger(text, best, candidates)
    return Repaired(replay(text, ledger), ledger)


def _refused(text: str, shape: Shape, broken: Broken | None) -> Refused:
    start = _FENCE.match(text).end()  # type: ignore[union-attr]
    if broken is None and text[start : start + 1] in ("{", "["):
        try:
            Reader(Source(text), shape, start).read()
        except Broken as mistake:
            broken = mistake
    if broken is None:
        return Refused("no_json", 0, "the text holds no JSON value")
    return Refused(broken.reason, broken.offset, broken.message)


def _stands_for(text: str, best: _Candidate, shape: Shape) -> bool:
    """Whether a value can stand for a broken one before or after it: it is all that is wanted, on lines of its own."""
    own_line = not text[: best.start].rpartition("\n")[2].strip()
    goes_on = any(f'"{key}"' in text[best.end :] for key in shape.keys)
    return own_line and bool(shape.required) and fits(best.value, shape) and not goes_on


def _doubt(text: str, best: _Candidate, candidates: list[_Candidate], shape: Shape) -> Refused | None:
    """Say why the best value may not be all that is meant."""
    remains = _rest(text, best, candidates)
    if _GOES_ON.match(text, best.end) or _REMAINS.search(remains):
        return Refused("ambiguous", best.end, "the value seems to go on after its end")
    others = [other for other in candidates if other.value != best.value]
    if others and shape is not ANY and not fits(best.value, shape):
        return Refused("ambiguous", best.start, f"the text holds {len(candidates)} values, and none is what is wanted")
    index = candidates.index(best)
    for first, second in pairwise(candidates[max(0, index - 1) : index + 2]):
        if first.value != second.value and not text[first.end : second.start].strip(" \t\r\n,;"):
            return Refused("ambiguous", second.start, "values follow each other, with nothing to say which is meant")
    return None


def _rest(text: str, best: _Candidate, candidates: list[_Candidate]) -> str:
    """Return what comes after a value up to where its code fence closes, without the values in it."""
    end = text.find("```", best.end)
    pieces, at = [], best.end
    for other in candidates:
        if other.start >= at:
            pieces.append(text[at : other.start])
            at = other.end
    return "".join([*pieces, text[at:]]) if end < 0 else text[best.end : end]


def _candidates(text: str, shape: Shape) -> tuple[list[_Candidate], Broken | None]:
    """Return the values in a text, and the first mistake in something that was one but for it."""
    found: list[_Candidate] = []
    broken: Broken | None = None
    source = Source(text)
    at = starts = 0
    while start := _START.search(text, at):
        starts += 1
        if starts > MAX_STARTS:
            return [], Broken("too_many", start.start(), f"the text has more than {MAX_STARTS:,} opening brackets")
        reader = Reader(source, shape, start.start())
        try:
            found.append(_candidate(reader))
            at = found[-1].end
        except Broken as mistake:
            if mistake.reason in ("too_deep", "too_many"):
                return [], mistake
            if reader.begun:
                broken = broken or mistake
            at = max(mistake.offset, start.start() + 1) if reader.begun else start.start() + 1
    if not found and not broken:
        return _scalars(text, shape)
    return found, broken


def _candidate(reader: Reader) -> _Candidate:
    end = reader.read()
    written = replay_part(reader.text, reader.repairs, reader.start, end)
    try:
        value = _DECODER.decode(written)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Broken("malformed", reader.start, f"the value that begins here can't be repaired: {error}") from error
    return _Candidate(reader.start, end, reader.repairs, value)


def _scalars(text: str, shape: Shape) -> tuple[list[_Candidate], Broken | None]:
    """Read a text that is a scalar, in a fence perhaps. In prose there is no telling one."""
    start = _FENCE.match(text).end()  # type: ignore[union-attr]
    reader = Reader(Source(text), shape, start)
    if start == len(text):
        return [], None
    try:
        candidate = _candidate(reader)
    except Broken as mistake:
        return [], mistake if mistake.reason == "cut" else None
    return ([candidate], None) if _FENCE.fullmatch(text, candidate.end) else ([], None)


def _rank(value: object, shape: Shape) -> tuple[bool, int, bool]:
    """Order values by how well they fit: in all, by the keys that are wanted, objects before lists."""
    wanted = shape.required or shape.keys.keys()
    present = len(wanted & value.keys()) if isinstance(value, dict) else 0
    return fits(value, shape), present, isinstance(value, dict)


def _ledger(text: str, chosen: _Candidate, candidates: list[_Candidate]) -> tuple[Repair, ...]:
    head, tail = text[: chosen.start], text[chosen.end :]
    head, tail = head if head.strip() else "", tail if tail.strip() else ""  # space around a value is JSON
    before = any(other.end <= chosen.start for other in candidates)
    after = any(other.start >= chosen.end for other in candidates)
    first = [Repair(_around(head, before), 0, head, "")] if head else []
    last = [Repair(_around(tail, after), chosen.end, tail, "")] if tail else []
    return (*first, *chosen.repairs, *last)


def _around(text: str, holds_value: bool) -> Kind:
    if holds_value:
        return "passed_over"
    return "fence" if _FENCE.fullmatch(text) else "prose"
