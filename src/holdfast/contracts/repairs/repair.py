"""Repairs the text of an answer into the one JSON value that it holds: no model call, no I/O, linear time.

It never drops, invents or merges data, but for the repairs that are allowed by name. What is taken off is what stands
around the value, what is put in are brackets, quotes, commas and escapes; the ledger says all of it. A text that is cut
inside a value is refused, and so is one that can be read in two ways.
"""

import re
from collections.abc import Collection
from itertools import pairwise

import msgspec

from holdfast.contracts.ledger import Kind, Lossy, Refused, Repaired, replay
from holdfast.contracts.repairs.candidates import DECODER, FENCE, START, Candidate, candidate, candidates_in
from holdfast.contracts.repairs.lossy import dropped, merged_of
from holdfast.contracts.repairs.reader import Reader
from holdfast.contracts.repairs.source import Broken, Source
from holdfast.contracts.shape import ANY, Shape, fits
from holdfast.events import Repair

MAX_LENGTH = 2**20
"""Characters of a text that is not valid as it is."""

_HEAD = re.compile(rf"{FENCE.pattern}(?=[{{\[])")
_GOES_ON = re.compile(r"""\s*+,\s*+(?:["'“{\[]|[A-Za-z_$][\w$-]{0,199}+\s*+:)""")
_REMAINS = re.compile(r"""["']\s*+(?:[}\]]|,\s*+["']|:\s*+["'{\[\d])""")
"""What prose around a value doesn't have, but what is left of one has that was read too short."""


def repair(text: str, shape: Shape = ANY, allow: Collection[Lossy] = frozenset()) -> Repaired | Refused:
    """Return the JSON value that a text holds, or why there is none.

    A text that is JSON already is returned as it is, unless a scalar in it is of another type than its shape asks for
    and says the same (`"42"` for 42). Of several values in a text the last that fits the shape is meant: models that
    correct themselves do it below. A value that doesn't fit is returned too where it is the only one: judging it is the
    check's part.

    Args:
        allow: repairs that lose something or make something up, and may be made nonetheless.
    """
    try:
        value = DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        result = _mended(text, shape, allow)
    else:
        result = Repaired(text) if shape is ANY or fits(value, shape) else _coerced(text, shape, allow)
    return result if isinstance(result, Refused) else dropped(text, result, shape, allow)


def value_at_head(text: str, shape: Shape = ANY, allow: Collection[Lossy] = frozenset()) -> Repaired | Refused | None:
    """Return the value with which a text begins, in a code fence perhaps; None where it begins with prose.

    A bracket that opens a list is prose where the shape asks for no list: "[1] says that".
    """
    start = _HEAD.match(text)
    if start is None or (text[start.end()] == "[" and not shape.allows("array")) or not START.match(text, start.end()):
        return None
    reader = Reader(Source(text), shape, start.end(), allow)
    try:
        head = candidate(reader, allow)
    except Broken as mistake:
        return Refused(mistake.reason, mistake.offset, mistake.message) if reader.begun else None
    return dropped(text, _repaired(text, head, [head]), shape, allow)


def _coerced(text: str, shape: Shape, allow: Collection[Lossy]) -> Repaired:
    """Bring the scalars of a valid text to the types of its shape, where that changes no meaning."""
    reader = Reader(Source(text), shape, len(text) - len(text.lstrip()), allow)
    try:
        reader.read()
    except Broken:
        return Repaired(text)
    return Repaired(replay(text, reader.repairs), tuple(reader.repairs))


def _mended(text: str, shape: Shape, allow: Collection[Lossy]) -> Repaired | Refused:
    if len(text) > MAX_LENGTH:
        return Refused("too_long", MAX_LENGTH, f"the text is not JSON, and longer than {MAX_LENGTH:,} characters")
    if not text.isascii() and (lone := re.search("[\ud800-\udfff]", text)):
        return Refused("malformed", lone.start(), "half of a surrogate pair is no character")
    candidates, broken = candidates_in(text, shape, allow)
    best = max(candidates, key=lambda candidate: (_rank(candidate.value, shape), candidate.end), default=None)
    if "merge" in allow and not broken and (merged := merged_of(text, candidates, shape)):
        candidates, best = [merged], merged
    if not broken and best and not best.is_completed and candidates[-1].is_completed:
        broken = Broken("cut", len(text), "the text ends inside a value")
    if best is None or (broken and not _stands_for(text, best, shape)):
        return _refused(text, shape, broken)
    return _doubt(text, best, candidates, shape) or _repaired(text, best, candidates)


def _refused(text: str, shape: Shape, broken: Broken | None) -> Refused:
    start = FENCE.match(text).end()  # type: ignore[union-attr]
    if broken is None and text[start : start + 1] in ("{", "["):
        try:
            Reader(Source(text), shape, start).read()
        except Broken as mistake:
            broken = mistake
    if broken is None:
        return Refused("no_json", 0, "the text holds no JSON value")
    return Refused(broken.reason, broken.offset, broken.message)


def _stands_for(text: str, best: Candidate, shape: Shape) -> bool:
    """Whether a value can stand for a broken one before or after it: it is all that is wanted, on lines of its own."""
    own_line = not text[: best.start].rpartition("\n")[2].strip()
    goes_on = any(f'"{key}"' in text[best.end :] for key in shape.keys)
    return own_line and bool(shape.required) and fits(best.value, shape) and not goes_on


def _doubt(text: str, best: Candidate, candidates: list[Candidate], shape: Shape) -> Refused | None:
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


def _rest(text: str, best: Candidate, candidates: list[Candidate]) -> str:
    """Return what comes after a value up to where its code fence closes, without the values in it."""
    end = text.find("```", best.end)
    pieces, at = [], best.end
    for other in candidates:
        if other.start >= at:
            pieces.append(text[at : other.start])
            at = other.end
    return "".join([*pieces, text[at:]]) if end < 0 else text[best.end : end]


def _rank(value: object, shape: Shape) -> tuple[bool, int, bool]:
    """Order values by how well they fit: in all, by the keys that are wanted, objects before lists."""
    wanted = shape.required or shape.keys.keys()
    present = len(wanted & value.keys()) if isinstance(value, dict) else 0
    return fits(value, shape), present, isinstance(value, dict)


def _repaired(text: str, chosen: Candidate, candidates: list[Candidate]) -> Repaired:
    head, tail = text[: chosen.start], text[chosen.end :]
    head, tail = head if head.strip() else "", tail if tail.strip() else ""  # space around a value is JSON
    before = any(other.end <= chosen.start for other in candidates)
    after = any(other.start >= chosen.end for other in candidates)
    first = [Repair(_around(head, before), 0, head, "")] if head else []
    last = [Repair(_around(tail, after), chosen.end, tail, "")] if tail else []
    ledger = (*first, *chosen.repairs, *last)
    return Repaired(replay(text, ledger), ledger)


def _around(text: str, holds_value: bool) -> Kind:
    if holds_value:
        return "passed_over"
    return "fence" if FENCE.fullmatch(text) else "prose"
