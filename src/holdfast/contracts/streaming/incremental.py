"""Reads JSON as it comes, in pieces of any size: each character once, strings by regular expression.

What was read so far is a value at any time: the members that are complete, and strings, arrays and objects as far as
they got.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

import msgspec

from holdfast.pointers import step

MAX_VALUES: Final = 20_000
"""The most values that are read of one text: less than two hundred milliseconds."""
MAX_POINTERS: Final = 256 * 2**10
"""The most characters of pointers to complete values that are kept."""
_MAX_POINTER: Final = 1_000

_SPACE: Final = re.compile(r"[ \t\n\r]*+")
_DIGITS: Final = re.compile(r"[0-9]++")
_ESCAPE: Final = (
    r'\\(?:["\\/bfnrt]|u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
_BODY: Final = re.compile(rf'(?:[^"\\\x00-\x1f\ud800-\udfff]++|{_ESCAPE})*+')
_BODY_WITH_CONTROLS: Final = re.compile(rf'(?:[^"\\\ud800-\udfff]++|{_ESCAPE})*+')
_HEX: Final = "[0-9a-fA-F]"
_ESCAPE_BEGUN: Final = re.compile(
    rf"\\(?:u(?:[0-9a-ce-fA-CE-F]{_HEX}{{0,2}}|[dD](?:[0-7]{_HEX}?"
    rf"|[89abAB](?:{_HEX}(?:{_HEX}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?)?)?)?)?)?"
)
_LAYOUT: Final = re.compile(r"(?:[^\\]++|\\[^bfnrt])*+\\[bfnrt]")
_LITERALS: Final = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_NUMBER: Final = {
    ("sign", "0"): "zero", ("sign", "9"): "whole",
    ("zero", "."): "point", ("zero", "e"): "e",
    ("whole", "0"): "whole", ("whole", "9"): "whole", ("whole", "."): "point", ("whole", "e"): "e",
    ("point", "0"): "fraction", ("point", "9"): "fraction",
    ("fraction", "0"): "fraction", ("fraction", "9"): "fraction", ("fraction", "e"): "e",
    ("e", "+"): "e sign", ("e", "0"): "exponent", ("e", "9"): "exponent",
    ("e sign", "0"): "exponent", ("e sign", "9"): "exponent",
    ("exponent", "0"): "exponent", ("exponent", "9"): "exponent",
}  # fmt: skip
_KINDS: Final = {
    **dict.fromkeys("123456789", "9"), "0": "0", ".": ".", "e": "e", "E": "e", "+": "+", "-": "+"
}  # fmt: skip
_RUNS: Final = frozenset({"whole", "fraction", "exponent"})
_ENDS: Final = _RUNS | {"zero"}
_CONTENT: Final = json.JSONDecoder(strict=False).decode

_BEGINNINGS: Final = frozenset('"{[tfn-0123456789')

State = Callable[[str, int], int]


def _skip_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


class Malformed(Exception):
    """A character is no JSON. `at` counts the characters up to and with it."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


class Exhausted(Exception):
    """The text holds more values than are read, or deeper ones."""


class Frame:
    """An open bracket, with the key or number of the member that is read."""

    __slots__ = ("doubtful", "key", "last", "opened", "pending", "pointer", "schema", "unsure", "value", "wanted")

    def __init__(self, value: dict[str, Any] | list[Any], pointer: str | None, opened: int) -> None:
        self.value = value
        self.pointer = pointer
        """None where it is too long to be kept."""
        self.opened = opened
        self.key: Any = "" if isinstance(value, dict) else -1
        self.last: Any = None
        """The scalar that was read last; `doubtful`: it may be read in another way; `pending`: it is not settled."""
        self.doubtful = self.pending = False
        self.schema: Any = None
        """For the listener: what is wanted of this value, and of the member; `unsure`: it can't be judged."""
        self.wanted: Any = None
        self.unsure = False


class Listener(Protocol):
    """Hears of what is read. `at` counts the characters up to and with the one by which it is known."""

    def began(self, char: str, at: int) -> None:
        """A value begins."""

    def opened(self, frame: Frame, at: int) -> None: ...
    def named(self, frame: Frame, key: str, raw: int, at: int) -> None:
        """The quote after a key was read; `raw` is how many characters it was written in."""

    def keyed(self, frame: Frame, key: str, at: int) -> None:
        """The colon after a key was read."""

    def grew(self, raw: str, content: str, before: int) -> None:
        """A string that is a value goes on, after so many characters."""

    def settled(self, frame: Frame | None, value: Any, at: int) -> None:
        """A scalar is complete: it is the member of the frame, or all."""

    def closed(self, frame: Frame, at: int) -> None: ...


class JsonParser:
    """Reads one JSON value, from the character on that comes after the first `base`.

    Where it isn't `strict`, strings may hold raw control characters, and a scalar in brackets is settled only when what
    follows it shows that it ended: the next key with its colon, the next element or the closing bracket.
    """

    def __init__(self, listener: Listener, *, strict: bool, base: int = 0) -> None:
        self.frames: list[Frame] = []
        self.value: Any = None
        self.complete: list[str] = []
        """Pointers to values that are settled, in order."""
        self._room = MAX_POINTERS
        self._listener = listener
        self._strict = strict
        self._body = _BODY if strict else _BODY_WITH_CONTROLS
        self._base = base
        self._carry = ""
        self._state: State = self._value
        self._values = 0
        self._pieces: list[str] = []
        self._growing = self._in_key = self._layout = False
        self._raw = 0
        self._key = ""
        self._number = ""
        self._word: tuple[str, Any] = ("", None)

    def feed(self, text: str) -> None:
        """Take what comes next. Raises Malformed, Exhausted, and what the listener raises; then it must not go on."""
        if self._carry:
            text, self._carry = self._carry + text, ""
        at, end = 0, len(text)
        while at < end:
            at = self._state(text, at)
        self._base += end - len(self._carry)

    def known(self) -> Any:
        """Return the value as far as it is known. It is the one that goes on growing. None: nothing is."""
        if self._growing:
            content = "".join(self._pieces)
            self._pieces = [content]
            self._put(content)
        return self.value

    def _put(self, value: Any) -> None:
        if not self.frames:
            self.value = value
            return
        frame = self.frames[-1]
        if isinstance(frame.value, dict) or frame.key < len(frame.value):
            frame.value[frame.key] = value
        else:
            frame.value.append(value)

    def _fault(self, wanted: str, text: str, at: int) -> NoReturn:
        raise Malformed(f"expected {wanted}, found {json.dumps(text[at], ensure_ascii=False)}", self._base + at + 1)

    # Values

    def _value(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        char = text[at]
        if char not in _BEGINNINGS:
            self._fault("a value", text, at)
        if self.frames and isinstance((frame := self.frames[-1]).value, list):
            if frame.pending:
                self._settle(frame, self._base + at + 1)
            frame.key += 1
        self._values += 1
        if self._values > MAX_VALUES:
            raise Exhausted
        self._listener.began(char, self._base + at + 1)
        if char == '"':
            return self._open_string(text, at)
        if char in "{[":
            return self._open(text, at)
        return self._open_literal(text, at) if char in _LITERALS else self._open_number(text, at)

    def _open(self, text: str, at: int) -> int:
        pointer: str | None = ""
        if self.frames:
            pointer = self._pointer(self.frames[-1])
        is_object = text[at] == "{"
        frame = Frame({} if is_object else [], pointer, self._base + at)
        self._put(frame.value)
        self.frames.append(frame)
        self._state = self._first_key if is_object else self._first_element
        self._listener.opened(frame, self._base + at + 1)
        return at + 1

    def _first_element(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] == "]":
            return self._close(at)
        self._state = self._value
        return at

    def _after(self, text: str, at: int) -> int:
        """Read what follows a value in brackets."""
        at = _skip_space(text, at)
        if at == len(text):
            return at
        is_object = isinstance(self.frames[-1].value, dict)
        if text[at] == ",":
            self._state = self._next_key if is_object else self._value
            return at + 1
        if text[at] == ("}" if is_object else "]"):
            return self._close(at)
        return self._fault("a comma or }" if is_object else "a comma or ]", text, at)

    def _close(self, at: int) -> int:
        here = self._base + at + 1
        frame = self.frames[-1]
        if frame.pending:
            self._settle(frame, here)
        self._listener.closed(frame, here)
        self.frames.pop()
        self._tell(frame.pointer)
        self._state = self._after if self.frames else self._end
        return at + 1

    def _end(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at < len(text):
            self._fault("nothing after the JSON", text, at)
        return at

    def _scalar(self, value: Any, at: int, *, doubtful: bool = False) -> None:
        self._put(value)
        if not self.frames:
            self._state = self._end
            self._tell("")
            self._listener.settled(None, value, at)
            return
        frame = self.frames[-1]
        frame.last, frame.doubtful, frame.pending = value, doubtful, True
        self._state = self._after
        if self._strict:
            self._settle(frame, at)

    def _settle(self, frame: Frame, at: int) -> None:
        frame.pending = False
        self._tell(self._pointer(frame))
        self._listener.settled(frame, frame.last, at)

    # Pointers

    def _pointer(self, frame: Frame) -> str | None:
        """Return the pointer to the member of a frame that is read."""
        if frame.pointer is None or len(frame.pointer) > _MAX_POINTER:
            return None
        return f"{frame.pointer}/{step(frame.key)}"

    def _tell(self, pointer: str | None) -> None:
        if pointer is not None and (not pointer or self._room >= len(pointer)):
            self._room -= len(pointer)
            self.complete.append(pointer)

    # Keys

    def _first_key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at < len(text) and text[at] == "}":
            return self._close(at)
        return self._next_key(text, at)

    def _next_key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] != '"':
            self._fault("a key", text, at)
        self._in_key = True
        return self._open_string(text, at)

    def _colon(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            self._fault("a colon", text, at)
        frame, here = self.frames[-1], self._base + at + 1
        if frame.pending:
            self._settle(frame, here)
        frame.key = self._key
        self._state = self._value
        self._listener.keyed(frame, self._key, here)
        return at + 1

    # Strings

    def _open_string(self, text: str, at: int) -> int:
        self._pieces = []
        self._raw = 0
        self._growing = not self._in_key
        self._layout = False
        self._state = self._string
        return at + 1

    def _string(self, text: str, at: int) -> int:
        end = self._body.match(text, at).end()  # type: ignore[union-attr]
        if end > at:
            self._grow(text[at:end], self._base + at)
        if end == len(text):
            return end
        if text[end] == '"':
            self._close_string(self._base + end + 1)
            return end + 1
        return self._cut_escape(text, end)

    def _grow(self, raw: str, before: int) -> None:
        content = raw
        if "\\" in raw:
            self._layout = self._layout or _LAYOUT.match(raw) is not None
            content = _CONTENT(f'"{raw}"')
        self._pieces.append(content)
        self._raw += len(raw)
        if self._growing:
            self._listener.grew(raw, content, before)

    def _close_string(self, at: int) -> None:
        content = "".join(self._pieces)
        self._growing = False
        if not self._in_key:
            self._scalar(content, at, doubtful=self._layout)
            return
        self._in_key = False
        self._key = content
        self._state = self._colon
        self._listener.named(self.frames[-1], content, self._raw, at)

    def _cut_escape(self, text: str, at: int) -> int:
        """Keep what there is of an escape until the rest comes."""
        begun = _ESCAPE_BEGUN.match(text, at)
        if begun is None:
            self._fault("no control character and no half of a pair in a string", text, at)
        if begun.end() < len(text):
            self._fault("an escape of JSON", text, begun.end())
        self._carry = text[at:]
        return len(text)

    # Numbers and literals

    def _open_number(self, text: str, at: int) -> int:
        self._pieces = [text[at]]
        self._number = "sign" if text[at] == "-" else "zero" if text[at] == "0" else "whole"
        self._state = self._digits
        return at + 1

    def _digits(self, text: str, at: int) -> int:
        start = at
        while at < len(text):
            if self._number in _RUNS and (run := _DIGITS.match(text, at)):
                at = run.end()
            elif following := _NUMBER.get((self._number, _KINDS.get(text[at], ""))):
                self._number = following
                at += 1
            elif self._number not in _ENDS:
                self._fault("a digit", text, at)
            else:
                self._pieces.append(text[start:at])
                self._close_number(self._base + at + 1)
                return at
        self._pieces.append(text[start:])
        return at

    def _close_number(self, at: int) -> None:
        try:
            value = msgspec.json.decode("".join(self._pieces))
        except msgspec.MsgspecError:
            raise Malformed("a number is out of range", at) from None
        self._scalar(value, at)

    def _open_literal(self, text: str, at: int) -> int:
        self._word = _LITERALS[text[at]]
        self._raw = 1
        self._state = self._literal
        return at + 1

    def _literal(self, text: str, at: int) -> int:
        word, value = self._word
        while at < len(text):
            if text[at] != word[self._raw]:
                self._fault(word, text, at)
            at += 1
            self._raw += 1
            if self._raw == len(word):
                self._scalar(value, self._base + at)
                break
        return at
