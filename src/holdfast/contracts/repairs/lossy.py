"""Repairs that lose something, of a text that is JSON, and how their ledger follows that of the repairs before."""

from collections.abc import Collection, Iterator, Sequence

from holdfast.contracts.forms.schema import decode
from holdfast.contracts.ledger import Lossy, Repaired, replay_part
from holdfast.contracts.repairs.candidates import Candidate
from holdfast.contracts.repairs.places import Place, place_of
from holdfast.contracts.shape import Shape, fits
from holdfast.events import Repair

DROPS: frozenset[Lossy] = frozenset({"drop_unknown", "duplicate_keys"})


def dropped(original: str, repaired: Repaired, shape: Shape, allow: Collection[Lossy]) -> Repaired:
    """Take out the members that the contract forbids, or that come again, where it allows that."""
    if not DROPS.intersection(allow):
        return repaired
    try:
        if "duplicate_keys" not in allow:
            decode(repaired.text)  # a key that stands twice is refused, also where both would be dropped
        drops = list(_drops(repaired.text, place_of(repaired.text), shape, allow))
    except ValueError:
        return repaired
    if not drops:
        return repaired
    drops.sort(key=lambda drop: drop.offset)
    text = replay_part(repaired.text, drops, 0, len(repaired.text))
    return Repaired(text, composed(original, repaired.ledger, drops))


def _drops(text: str, root: Place, shape: Shape, allow: Collection[Lossy]) -> Iterator[Repair]:
    left = [(root, shape)]
    while left:
        place, shape = left.pop()
        inner = place.inner or []
        if place.is_object:
            reasons = _reasons([key for key, _ in inner], shape, allow)
            yield from _cuts(text, inner, reasons)
            left += [(item, shape.at(key)) for (key, item), why in zip(inner, reasons, strict=True) if why is None]
        else:
            left += [(item, shape.item()) for _, item in inner]


def _reasons(keys: list[str], shape: Shape, allow: Collection[Lossy]) -> list[Lossy | None]:
    """Return why each of the keys of an object is taken out, None for those that stay."""
    closed = "drop_unknown" in allow and shape.is_closed
    last = {key: number for number, key in enumerate(keys)} if "duplicate_keys" in allow else {}
    return [
        "drop_unknown" if closed and key not in shape.keys
        else "duplicate_keys" if last.get(key, number) != number
        else None
        for number, key in enumerate(keys)
    ]  # fmt: skip


def _cuts(text: str, members: list[tuple[str, Place]], reasons: list[Lossy | None]) -> Iterator[Repair]:
    """Yield what takes members out: each with the comma before it, or after it where none before it stays."""
    stays = False
    for number, ((_, place), reason) in enumerate(zip(members, reasons, strict=True)):
        if reason is None:
            stays = True
            continue
        start, end = place.begins, place.end
        if stays:
            start = members[number - 1][1].end
        elif number + 1 < len(members):
            end = members[number + 1][1].begins
        yield Repair(reason, start, text[start:end], "")


def merged_of(text: str, candidates: Sequence[Candidate], shape: Shape) -> Candidate | None:
    """Return the objects of a text as one, where they have the wanted keys between them, and none twice."""
    value: dict[str, object] = {}
    repairs: list[Repair] = []
    before: Candidate | None = None
    for one in candidates:
        if (
            not isinstance(one.value, dict)
            or not one.value.keys() & shape.keys.keys()
            or one.value.keys() & value.keys()
        ):
            return None
        if before:
            if text[before.end - 1] != "}" or (before.repairs and before.repairs[-1].kind == "closed"):
                return None
            repairs.append(Repair("merge", before.end - 1, text[before.end - 1 : one.start + 1], ", "))
        repairs += one.repairs
        value |= one.value
        before = one
    if len(candidates) < 2 or not fits(value, shape):
        return None
    return Candidate(candidates[0].start, candidates[-1].end, repairs, value)


def composed(original: str, first: Sequence[Repair], second: Sequence[Repair]) -> tuple[Repair, ...]:
    """Return one ledger for repairs of a text, and for others of what the first made of it.

    Where one of the second changes what one of the first put in, it takes its place.
    """
    ledger: list[Repair] = []
    left = list(reversed(first))
    shift = 0  # what is to be added to an offset in the original
    for repair in second:
        start, end = repair.offset, repair.offset + len(repair.before)
        while left and left[-1].offset + shift + len(left[-1].after) <= start:
            ledger.append(left.pop())
            shift += _growth(ledger[-1])
        begins, before, after, ends = start - shift, "", "", -1
        while left and (at := left[-1].offset + shift) < end:
            made = left.pop()
            if at < start:
                begins, before = made.offset, made.after[: start - at]
            if at + len(made.after) > end:
                ends, after = made.offset + len(made.before), made.after[end - at :]
            shift += _growth(made)
        ends = end - shift if ends < 0 else ends
        ledger.append(Repair(repair.kind, begins, original[begins:ends], before + repair.after + after))
    return (*ledger, *reversed(left))


def _growth(repair: Repair) -> int:
    return len(repair.after) - len(repair.before)
