"""Answers that a Lark grammar describes, in the variant of llguidance, with limits on time and memory.

Ambiguous grammars can take cubic time, so a text is parsed in small steps, and given up when they took too long.
"""

import json
import re
import time
from functools import cache
from typing import Any, Final

from holdfast.contracts.base import Constraint, Violation, needs_extra, refuse, shortened

MAX_GRAMMAR: Final = 128 * 2**10
MAX_RULES: Final = 1_000
"""A chain of some thousands of them overflows the library's stack, which nothing catches."""
MAX_PARSED: Final = 32 * 2**10
"""The longest text, in bytes: a right-recursive rule takes quadratic time at its end."""
SECONDS: Final = 0.25
"""The longest that one text is parsed, but for the step under way, which takes as long at most."""
_RULE: Final = re.compile(r"^[ \t]*[?!]?\w+(?:\.\d+)?[ \t]*:", re.MULTILINE)
STEP: Final = 16
_TOO_MUCH: Final = "too much work to parse: left recursion, no ambiguity and fewer alternatives help"
_END: Final = 256


class GrammarForm:
    """A text that a Lark grammar derives."""

    __slots__ = ("_matcher", "constraint")

    def __init__(self, grammar: str, *, name: str = "contract") -> None:
        """Raise ConfigError if it is no grammar, or too large a one."""
        if len(grammar) > MAX_GRAMMAR:
            refuse(f"the grammar is larger than {MAX_GRAMMAR:,} characters", "grammar", name)
        if len(_RULE.findall(grammar)) > MAX_RULES:
            refuse(f"the grammar has more than {MAX_RULES:,} rules", "grammar", name)
        matcher = _matcher(_library().LLMatcher.grammar_from_lark(grammar))
        if matcher.is_error():
            refuse(" ".join(shortened(matcher.get_error().partition("\n\n")[0], 400).split()), "grammar", name)
        self._matcher = matcher
        self.constraint: Constraint | None = Constraint("grammar", grammar)

    def matcher(self) -> Any:
        """Return what takes the bytes of one text as tokens."""
        return self._matcher.deep_copy()

    def read(self, text: str) -> tuple[Any, Any, tuple[Violation, ...]]:
        violation = self._violation(text)
        return (None, None, (violation,)) if violation else (text, text, ())

    def _violation(self, text: str) -> Violation | None:
        try:
            left = text.encode()
        except UnicodeEncodeError:
            return Violation("", "it holds half of a surrogate pair", "grammar")
        if len(left) > MAX_PARSED:
            return Violation("", f"the answer has {len(left):,} bytes; no more than {MAX_PARSED:,} are parsed", "limit")
        matcher = self.matcher()
        until = time.perf_counter() + SECONDS
        for start in range(0, len(left), STEP):
            step = list(left[start : start + STEP])
            taken = matcher.try_consume_tokens(step)
            if matcher.is_error():
                return Violation(
                    "", "too much work to parse: left recursion, no ambiguity and fewer alternatives help", "limit"
                )
            if taken < len(step):
                return _unexpected(left, start + taken)
            if time.perf_counter() > until:
                return Violation("", f"not parsed within {SECONDS} s: the answer is too long for this grammar", "limit")
        return None if matcher.is_accepting() else Violation("", "it ends before it is complete", "grammar")


def matcher_of_pattern(pattern: str) -> Any:
    """Return what takes the bytes of one text as tokens, None where the pattern is none for it or too large."""
    matcher = _matcher(_library().LLMatcher.grammar_from_regex(pattern))
    return None if matcher.is_error() else matcher


def _matcher(grammar: Any) -> Any:
    llguidance = _library()
    limits = llguidance.LLParserLimits(
        max_items_in_row=1_000,
        initial_lexer_fuel=500_000,
        step_lexer_fuel=50_000,
        step_max_items=5_000,
        max_lexer_states=10_000,
        max_grammar_size=50_000,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )
    return llguidance.LLMatcher(_bytes(), grammar, log_level=0, limits=limits)


def _unexpected(text: bytes, at: int) -> Violation:
    before = text[:at].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    found = json.dumps(text[at : at + 40].decode(errors="replace")[:20], ensure_ascii=False)
    return Violation("", f"line {line}, column {column}: the grammar does not allow {found} here", "grammar")


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        needs_extra("llguidance")
    return llguidance


class _Bytes:
    """A tokenizer whose tokens are the bytes."""

    eos_token_id = _END
    bos_token_id = None
    unk_token_id = None
    special_token_ids = (_END,)
    tokens = (*(bytes([byte]) for byte in range(_END)), b"<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


@cache
def _bytes() -> Any:
    llguidance = _library()
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()), slices=[])
