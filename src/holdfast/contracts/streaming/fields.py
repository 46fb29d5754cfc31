"""Judges JSON while it comes: whether a member that is complete, or one that grows, can still be right.

What is said is said of what no continuation and no repair can change.
"""

import json
import re
from typing import Any, Final

from holdfast.contracts.base import Contract, Violation, shortened
from holdfast.contracts.conditions import AtField
from holdfast.contracts.forms.cost import MAX_DEPTH
from holdfast.contracts.forms.model import ModelForm
from holdfast.contracts.forms.patterns import MAX_WORK
from holdfast.contracts.forms.schema import JsonForm
from holdfast.contracts.forms.subschemas import ANY, Subschema
from holdfast.contracts.predicates import Predicate
from holdfast.contracts.repairs.scalars import coerced_to
from holdfast.contracts.shape import Shape
from holdfast.contracts.streaming.incremental import Exhausted, Frame, JsonParser, Malformed
from holdfast.pointers import pointer, step

_MAX_KEY: Final = 200
"""Characters of a key that the repair knows as one."""
_COST_OF_CHECK: Final = 20
_MAX_TOLD: Final = 20_000
_ONLY_WHOLE: Final = frozenset({"merge", "duplicate_keys", "complete"})
"""Repairs after which no member of an answer can be told from its text."""
_UNIT: Final = re.compile(r"\\u[dD][89abAB]..\\u....|\\u....|\\.|.", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_LOOSE: Final = frozenset(char for char in map(chr, range(0x3001)) if char.isspace()) | {","}
"""What the repair may take off the end of a string that was not closed."""
_OPEN: Final = object()
"""A value that can't be told yet."""


class Objection(Exception):
    """An answer can't meet its contract any more. `at` counts the characters up to and with the one that decided."""

    def __init__(self, violation: Violation, at: int) -> None:
        super().__init__(violation.message)
        self.violation = violation
        self.at = at


class Fields:
    """Judges one text, from the character on that comes after the first `base`. It is what its parser tells it."""

    def __init__(self, contract: Contract, *, strict: bool, base: int = 0) -> None:
        form = contract.form.json if isinstance(contract.form, ModelForm) else contract.form
        assert isinstance(form, JsonForm)
        self._contract = contract
        self._root: Subschema = form.subschemas.root
        self._cost = form.weight + _COST_OF_CHECK
        self._work = 0
        self._strict = strict
        self._judging = strict or not contract.allow & _ONLY_WHOLE
        self._drops = not strict and "drop_unknown" in contract.allow
        self._begun = strict
        self._held: Violation | None = None
        self._growing: Subschema | None = None
        self._length = 0
        self._conditions = [
            one for one in contract.conditions if isinstance(one, AtField | Predicate) and one.field and not self._drops
        ]
        self.impure_at: int | None = None
        """After how many characters the text is known to be no JSON without a repair."""
        self.is_over = False
        self._parser = JsonParser(self, strict=strict, base=base)

    def feed(self, text: str) -> None:
        """Take what comes next. Raises Objection."""
        if self.is_over:
            return
        try:
            self._parser.feed(text)
        except Malformed as fault:
            self.is_over = True
            self.impure_at = self.impure_at or fault.at
            if self._strict:
                message = f"not JSON: {fault.message} (at character {fault.at - 1})"
                raise Objection(Violation("", message, "json"), fault.at) from None
        except Exhausted:
            self.is_over = True

    def known(self) -> Any:
        return self._parser.known()

    @property
    def complete(self) -> list[str]:
        return self._parser.complete

    # What the parser tells

    def began(self, char: str, at: int) -> None:
        frames = self._parser.frames
        self._growing, self._length = None, 0
        wanted = self._root
        if frames:
            frame = frames[-1]
            if isinstance(frame.value, list):
                self._next_item(frame, at)
            wanted = frame.wanted
        if char not in (wanted.starts if self._strict else wanted.mended_starts):
            message = f"a value of type {wanted.types or 'that can be'} does not begin with {json.dumps(char)}"
            self._object("type", message, at)
        if char == '"' and wanted.max_length is not None:
            self._growing = wanted

    def _next_item(self, frame: Frame, at: int) -> None:
        if frame.key and len(self._parser.frames) == 1:
            self._begin(at)
        most = frame.schema.max_items
        if most is not None and frame.key >= most:
            self._object("maxItems", f"it has more than {most:,} items", at, inside=False)
        frame.wanted = frame.schema.item(frame.key)

    def opened(self, frame: Frame, at: int) -> None:
        frames = self._parser.frames
        frame.schema = frames[-2].wanted if len(frames) > 1 else self._root
        if len(frames) > MAX_DEPTH:
            self._object("json", f"not JSON: it is nested more than {MAX_DEPTH} deep", at)
            raise Exhausted

    def named(self, frame: Frame, key: str, raw: int, at: int) -> None:
        if self._strict:
            self._judge_key(frame, key, at)
        elif raw != len(key) or raw > _MAX_KEY or _CONTROL.search(key):
            self._judging = False  # the repair may read another key, or none

    def keyed(self, frame: Frame, key: str, at: int) -> None:
        if not self._strict:
            if not self._begun and len(self._parser.frames) == 1:
                self._begin(at)
            self._judge_key(frame, key, at)

    def _judge_key(self, frame: Frame, key: str, at: int) -> None:
        schema: Subschema = frame.schema
        if key in frame.value:
            self._object("json", f"the key {_shown(key)} stands twice in one object", at, inside=False)
        frame.wanted = schema.at(key)
        if schema.forbids(key):
            if not self._drops:
                self._object("additionalProperties", f"the key {_shown(key)} is not expected", at, inside=False)
            frame.wanted, frame.unsure = ANY, True
        most = schema.max_properties
        if most is not None and len(frame.value) >= most and not self._drops:
            self._object("maxProperties", f"it has more than {most:,} keys", at, inside=False)

    def grew(self, raw: str, content: str, before: int) -> None:
        if not self._strict and self.impure_at is None and (control := _CONTROL.search(raw)):
            self.impure_at = before + control.end()
        if self._growing is None or (most := self._growing.max_length) is None:
            return
        room = max(most - self._length, 0)
        self._length += len(content)
        if self._length > most and (at := self._too_long(raw, content, room)):
            self._object("maxLength", f"it is longer than {most:,} characters", before + at)

    def _too_long(self, raw: str, content: str, room: int) -> int:
        """Return how many characters of a piece make its string too long, 0 where it still can be right."""
        if self._strict:
            over = room
        elif not self._stays_string():
            self._growing = None
            return 0
        else:
            over = next((i for i in range(room, len(content)) if content[i] not in _LOOSE), -1)
        if over < 0 or len(raw) == len(content):
            return over + 1
        return next(unit.end() for number, unit in enumerate(_UNIT.finditer(raw)) if number == over)

    def _stays_string(self) -> bool:
        shape = self._shape()
        return not shape.choices and shape.allows("string")

    def settled(self, frame: Frame | None, value: Any, at: int) -> None:
        if not self._judging:
            return
        size = len(value) if isinstance(value, str) else 1
        if frame is None:
            self._judge(self._root, value, size, at)
        elif (frame.doubtful and not self._strict) or self._judge(frame.wanted, value, size, at) is _OPEN:
            frame.unsure = True

    def closed(self, frame: Frame, at: int) -> None:
        frames = self._parser.frames
        is_root = len(frames) == 1
        if is_root and not self._begun:
            self._begin(at)
        if self._judging:
            self._judge_whole(frame, at)
        if is_root and not self._strict:
            self._judging, self.is_over = False, True  # a value that follows may be the one that counts
        elif not is_root:
            frames[-2].unsure |= frame.unsure

    def _judge_whole(self, frame: Frame, at: int) -> None:
        schema: Subschema = frame.schema
        if isinstance(frame.value, dict):
            for key in schema.required:
                if key not in frame.value:
                    self._object("required", f"the key {_shown(key)} is missing", at, inside=False)
        if (schema.is_deep or self._conditions) and not frame.unsure and not self._drops:
            known = self._judge(schema if schema.is_deep else ANY, frame.value, at - frame.opened, at, outer=True)
            frame.unsure = known is _OPEN

    # Judging

    def _begin(self, at: int) -> None:
        """Note that this is JSON, and no prose with a bracket, so that what was found counts."""
        self._begun = True
        if self._held:
            raise Objection(self._held, at)

    def _object(self, keyword: str, message: str, at: int, *, inside: bool = True) -> None:
        """Object to what is read, or to the bracket that it stands in."""
        if self._judging and self._held is None:
            frames = self._parser.frames
            steps = [frame.key for frame in (frames if inside else frames[:-1])]
            self._raise(Violation(pointer(steps), message, keyword), at)

    def _raise(self, violation: Violation, at: int) -> None:
        if self._begun:
            raise Objection(violation, at)
        self._held = self._held or violation

    def _judge(self, schema: Subschema, value: Any, size: int, at: int, *, outer: bool = False) -> object:
        """Object to a complete value that will do neither as it is nor repaired. _OPEN: it can't be told.

        It is the member that is read or, where `outer`, the bracket that it stands in.
        """
        frames = self._parser.frames
        steps = [frame.key for frame in (frames[:-1] if outer else frames)]
        conditions = [one for one in self._conditions if _is_at(steps, one.field)] if self._conditions else []
        self._work += self._cost * (size + 1)
        if self._work > MAX_WORK:
            return None
        if (wrong := self._wrong(schema, conditions, steps, value, size)) is None:
            return None
        if not self._strict:
            repaired = self._repaired(value, self._shape(outer=outer))
            if repaired is _OPEN:
                return _OPEN
            if repaired != value and (wrong := self._wrong(schema, conditions, steps, repaired, size)) is None:
                return None
        self._raise(wrong, at)
        return None

    def _wrong(
        self, schema: Subschema, conditions: list[AtField | Predicate], steps: list[Any], value: Any, size: int
    ) -> Violation | None:
        if not schema.admits(value):
            path = pointer(steps)
            if size > _MAX_TOLD:
                return Violation(path, "it does not meet the schema", "schema")
            return schema.violation(path, value)
        for condition in conditions:
            for violation in condition.violations("", _nested(steps, value)):
                return violation
        return None

    def _shape(self, *, outer: bool = False) -> Shape:
        """Return what the repair knows of the member that is read, or of the bracket that it stands in."""
        shape = self._contract.shape
        for frame in self._parser.frames[:-1] if outer else self._parser.frames:
            shape = shape.at(frame.key) if isinstance(frame.value, dict) else shape.item()
        return shape

    def _repaired(self, value: Any, shape: Shape) -> Any:
        """Return a value as the repair writes its scalars, _OPEN where that is not known."""
        if isinstance(value, str):
            coerced = coerced_to(value, shape) if shape.choices or not shape.allows("string") else None
            return json.loads(coerced[1]) if coerced else value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _OPEN if "string" in shape.types and not shape.allows("integer") else value
        if isinstance(value, dict):
            inner = {key: self._repaired(item, shape.at(key)) for key, item in value.items()}
            return _OPEN if _OPEN in inner.values() else inner
        if isinstance(value, list):
            items = [self._repaired(item, shape.item()) for item in value]
            return _OPEN if _OPEN in items else items
        return value


def _shown(key: str) -> str:
    return json.dumps(shortened(key), ensure_ascii=False)


def _is_at(steps: list[Any], field: tuple[str, ...]) -> bool:
    return len(steps) == len(field) and all(
        wanted in ("*", step(key)) for key, wanted in zip(steps, field, strict=True)
    )


def _nested(steps: list[Any], value: Any) -> Any:
    """Return a value at some steps, and nothing beside it."""
    for key in reversed(steps):
        value = {str(key): value}
    return value
