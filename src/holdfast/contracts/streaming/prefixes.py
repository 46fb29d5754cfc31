"""Judges text while it comes: whether it can still be a choice, match a pattern or grammar, and keep its limits."""

import json
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from holdfast.contracts.base import Condition, Contract, Violation, shortened
from holdfast.contracts.conditions import BYTES_PER_TOKEN, Length, OnText, Phrases
from holdfast.contracts.forms.grammar import MAX_PARSED, SECONDS, STEP, GrammarForm, matcher_of_pattern
from holdfast.contracts.forms.text import ChoiceForm, PatternForm
from holdfast.contracts.streaming.fields import Objection
from holdfast.errors import ConfigError
from holdfast.privacy.memories import remembering

_WORD: Final = re.compile(r"\S+")
_QUOTES: Final = frozenset("\"'`“”„‘’«»*")
"""What may stand around a choice, beside white space."""
_FENCE: Final = "`~"


class Watcher(Protocol):
    """Judges one text for one reason."""

    def feed(self, text: str) -> None:
        """Take what comes next. Raises Objection, and is not fed again then."""
        ...


def watchers_of_text(contract: Contract, *, strict: bool) -> Iterator[Watcher]:
    """Yield what judges the text of an answer itself.

    What repairs may still take off is not counted, so of an answer that may be repaired its limits aren't judged.
    """
    form = contract.form
    if isinstance(form, ChoiceForm) and contract.constraint:
        yield Choices(contract.constraint.value) if strict else LooseChoices(contract.constraint.value)
    elif isinstance(form, GrammarForm):
        yield Derivation(form.matcher(), "grammar", strict=strict)
    elif isinstance(form, PatternForm) and contract.constraint and (matcher := _matcher(contract.constraint.value)):
        yield Derivation(matcher, "pattern", strict=strict)
    if strict or contract.constraint is None:
        for condition in contract.conditions:
            inner = condition.condition if isinstance(condition, OnText) else condition
            if inner is not condition or not contract.is_json:
                yield from _limits(inner)


def _limits(condition: Condition) -> Iterator[Watcher]:
    if isinstance(condition, Length) and condition.max is not None and condition.is_usual:
        yield _LENGTHS[condition.unit](condition.max)
    elif isinstance(condition, Phrases) and condition.keyword != "includes":
        yield Stops(condition.phrases, goes_on=condition.keyword == "stops_at")


# --- lengths and phrases ----------------------------------------------------------------------------------------------


class Characters:
    def __init__(self, most: int) -> None:
        self._most = most
        self._length = 0

    def feed(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._most:
            raise _over("characters", self._most, self._most + 1)


class Words:
    def __init__(self, most: int) -> None:
        self._most = most
        self._words = self._length = 0
        self._inside = False

    def feed(self, text: str) -> None:
        for word in _WORD.finditer(text):
            if self._inside and not word.start():
                continue
            self._words += 1
            if self._words > self._most:
                raise _over("words", self._most, self._length + word.start() + 1)
        self._length += len(text)
        self._inside = not text[-1:].isspace() if text else self._inside


class Tokens:
    """Tokens as `approximate_tokens` counts them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most * BYTES_PER_TOKEN
        self._length = 0

    def feed(self, text: str) -> None:
        size = len(text.encode(errors="surrogatepass"))
        if size > self._left:
            for at, char in enumerate(text, self._length + 1):
                self._left -= len(char.encode(errors="surrogatepass"))
                if self._left < 0:
                    raise _over("tokens", self._most, at)
        self._left -= size
        self._length += len(text)


_LENGTHS: Final[dict[str, Callable[[int], Watcher]]] = {"characters": Characters, "words": Words, "tokens": Tokens}


def _over(unit: str, most: int, at: int) -> Objection:
    return Objection(Violation("", f"it has more than {most:,} {unit}", unit), at)


class Stops:
    """Phrases that must not occur or, where `goes_on`, that nothing may come after."""

    def __init__(self, phrases: Sequence[str], *, goes_on: bool) -> None:
        self._phrases = phrases
        self._goes_on = goes_on
        self._kept = max(map(len, phrases), default=1) - 1
        self._tail = ""
        self._length = 0
        self._ends: dict[str, int] = {}
        """Where a phrase first ended."""

    def feed(self, text: str) -> None:
        base = self._length - len(self._tail)
        text = self._tail + text
        for phrase in self._phrases:
            if phrase not in self._ends and (at := text.find(phrase)) >= 0:
                self._ends[phrase] = base + at + len(phrase)
        self._length = base + len(text)
        self._tail = text[-self._kept :] if self._kept else ""
        ended = min(self._ends, key=lambda phrase: self._ends[phrase], default=None)
        if ended is None:
            return
        shown = json.dumps(shortened(ended), ensure_ascii=False)
        if not self._goes_on:
            raise Objection(Violation("", f"it holds {shown}", "stops_before"), self._ends[ended])
        if self._length > self._ends[ended]:
            raise Objection(Violation("", f"it goes on after {shown}", "stops_at"), self._ends[ended] + 1)


# --- choices ----------------------------------------------------------------------------------------------------------


class Choices:
    """Texts of which an answer has to be one, to the letter."""

    def __init__(self, choices: Sequence[str]) -> None:
        self._choices = sorted(choices)
        self._first, self._end = 0, len(self._choices)
        self._length = 0

    def feed(self, text: str) -> None:
        for char in text:
            if not self.goes_on(char):
                raise _no_choice(self.taken + char, self._length + 1)

    def goes_on(self, char: str) -> bool:
        """Take a character, if a choice has it next."""
        at = self._length
        first = bisect_left(self._choices, char, self._first, self._end, key=lambda choice: choice[at : at + 1])
        if first == self._end or self._choices[first][at : at + 1] != char:
            return False
        self._end = bisect_right(self._choices, char, first, self._end, key=lambda choice: choice[at : at + 1])
        self._first = first
        self._length += 1
        return True

    @property
    def taken(self) -> str:
        return self._choices[self._first][: self._length]


class LooseChoices:
    """The same, but for case, and for white space and quotes around. In a code fence nothing is objected to."""

    def __init__(self, choices: Sequence[str]) -> None:
        bare = {_bare(choice.casefold()) for choice in choices}
        self._choices = Choices(tuple(bare))
        self._longest = max(map(len, bare))
        self._around = ""
        """White space and quotes since the last character of a choice, if there was one; shortened where too many."""
        self._has_begun = self._is_fenced = False
        self._length = 0

    def feed(self, text: str) -> None:
        for char in text:
            if self._is_fenced:
                return
            self._length += 1
            if _stands_around(char):
                self._pass(char)
            elif char == "~" and not self._has_begun and not self._around:
                self._is_fenced = True
            else:
                self._take(char)

    def _pass(self, char: str) -> None:
        if (self._has_begun or self._around or not char.isspace()) and len(self._around) < self._longest + len("```"):
            self._around += char
            self._is_fenced = not self._has_begun and self._around == "```"

    def _take(self, char: str) -> None:
        between = self._around.casefold() if self._has_begun else ""
        for folded in between + char.casefold():
            if not self._choices.goes_on(folded):
                raise _no_choice(self._choices.taken + folded, self._length)
        self._around = ""
        self._has_begun = True


def _stands_around(char: str) -> bool:
    return char.isspace() or char in _QUOTES


def _bare(text: str) -> str:
    start, end = 0, len(text)
    while start < end and _stands_around(text[start]):
        start += 1
    while end > start and _stands_around(text[end - 1]):
        end -= 1
    return text[start:end]


def _no_choice(text: str, at: int) -> Objection:
    return Objection(
        Violation("", f"no choice begins with {json.dumps(shortened(text), ensure_ascii=False)}", "choice"), at
    )


# --- patterns and grammars --------------------------------------------------------------------------------------------


class Derivation:
    """A text that a grammar derives, or a pattern matches. What takes too long is not objected to.

    Where it isn't strict, white space may stand around it, and in a code fence nothing is objected to.
    """

    def __init__(self, matcher: Any, keyword: str, *, strict: bool) -> None:
        self._matcher, self._keyword, self._strict = matcher, keyword, strict
        self._attempts = [_Attempt(matcher.deep_copy(), keyword, strict=strict)]
        self._has_begun = strict
        self._length = 0

    def feed(self, text: str) -> None:
        before, self._length = self._length, self._length + len(text)
        for attempt in self._attempts:
            attempt.feed(text, before)
        if not self._has_begun and (bare := text.lstrip()):
            self._begin(bare, self._length - len(bare))
        failures = [attempt.failure for attempt in self._attempts if attempt.failure]
        if failures and len(failures) == len(self._attempts):
            raise max(failures, key=lambda failure: failure.at)

    def _begin(self, text: str, before: int) -> None:
        """Read the text without the white space before it too, if there was any."""
        self._has_begun = True
        if text[0] in _FENCE:
            self._attempts = []
        elif before:
            attempt = _Attempt(self._matcher.deep_copy(), self._keyword, strict=False)
            attempt.feed(text, before)
            self._attempts.append(attempt)


class _Attempt:
    """One reading of a text. `failure` is why it is none, once that is known."""

    def __init__(self, matcher: Any, keyword: str, *, strict: bool) -> None:
        self._matcher, self._keyword, self._strict = matcher, keyword, strict
        self._bytes = 0
        self._seconds = 0.0
        self._gave_up = False
        self._refused: Violation | None = None
        self.failure: Objection | None = None

    def feed(self, text: str, before: int) -> None:
        """Take what comes next, after so many characters."""
        if self._gave_up or self.failure:
            return
        at = 0
        if self._refused is None:
            started = time.perf_counter()
            at = self._take(text, before)
            self._seconds += time.perf_counter() - started
            if self._seconds > SECONDS:
                self._gave_up = True
        if self._refused is not None and not self._strict:
            at = next((i for i in range(at, len(text)) if not (text[i].isspace() or text[i] in _FENCE)), len(text))
        if self._refused is not None and at < len(text):
            self.failure = Objection(self._refused, before + at + 1)

    def _take(self, text: str, before: int) -> int:
        """Return how many characters were taken."""
        encoded, is_whole = _encoded(text)
        room = MAX_PARSED - self._bytes
        self._bytes += len(encoded)
        until = time.perf_counter() + SECONDS
        for start in range(0, min(len(encoded), room), STEP):
            step = list(encoded[start : min(start + STEP, room)])
            taken = self._matcher.try_consume_tokens(step)
            if self._matcher.is_error() or time.perf_counter() > until:
                self._gave_up = True
                return len(text)
            if taken < len(step):
                return self._refuse(text, before, len(encoded[: start + taken].decode(errors="ignore")))
        if len(encoded) > room and not (self._strict and self._keyword == "grammar"):
            self._gave_up = True  # only the check of a grammar has this limit too
        elif len(encoded) > room or not is_whole:
            return self._refuse(text, before, len(encoded[:room].decode(errors="ignore")))
        return len(text)

    def _refuse(self, text: str, before: int, at: int) -> int:
        found = json.dumps(text[at])
        allowed = f"the {self._keyword} allows no {found} after {before + at:,} characters"
        self._refused = Violation("", allowed, self._keyword)
        return at


def _encoded(text: str) -> tuple[bytes, bool]:
    """Return the bytes of a text up to half of a surrogate pair, and whether that is all."""
    try:
        return text.encode(), True
    except UnicodeEncodeError as error:
        return text[: error.start].encode(), False


@remembering(256)
def _matcher(pattern: str) -> Any:
    """Return a matcher of all that a pattern matches, and more perhaps; None where there is none."""
    try:
        return None if (wider := _wider(pattern)) is None else matcher_of_pattern(wider)
    except ConfigError:  # llguidance is missing
        return None


_SETS: Final = {
    "d": "0-9",
    "w": "A-Za-z0-9_",
    "s": r"\t-\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}",
}
_TOKEN: Final = re.compile(
    r"\\u[0-9a-fA-F]{4}|\\[^a-zA-Z0-9]|\\[dDwWsSnrtfv]|\[\^?(?:\\u[0-9a-fA-F]{4}|\\[^a-zA-Z0-9]|\\[dwsnrtfv]|[^\]\\\[])++\]"
    r"|\{\d++(?:,\d*+)?\}|\(\?:|[^\\\[\]{}^$]",
    re.DOTALL,
)
_OF_CLASS: Final = re.compile(r"\\u([0-9a-fA-F]{4})|\\([dws])|(&&|--|~~)|\\.")


def _wider(pattern: str) -> str | None:
    """Return a pattern in another dialect of regular expressions, None for one that may mean something else there."""
    body = pattern.removeprefix("^")
    if body.endswith("$") and (len(body) - len(body[:-1].rstrip("\\"))) % 2:
        body = body[:-1]
    pieces, at = [], 0
    while at < len(body):
        token = _TOKEN.match(body, at)
        if token is None or (body.startswith("(?", at) and token[0] != "(?:"):
            return None
        piece = _in_other_dialect(token[0])
        if piece is None:
            return None
        pieces.append(piece)
        at = token.end()
    return "".join(pieces)


def _of_class(match: re.Match[str]) -> str:
    if match[1]:
        return f"\\u{{{match[1]}}}"
    return _SETS[match[2]] if match[2] else match[0]


def _in_other_dialect(token: str) -> str | None:
    if token[0] == "[":
        if any(match[3] for match in _OF_CLASS.finditer(token)):
            return None
        return _OF_CLASS.sub(_of_class, token)
    if token[0] == "\\" and token[1] in "dws":
        return f"[{_SETS[token[1]]}]"
    if token[0] == "\\" and token[1] in "DWS":
        return f"[^{_SETS[token[1].lower()]}]"
    if token.startswith("\\u"):
        return f"\\u{{{token[2:]}}}"
    return r"(?s:.)" if token[0] == "." else token
