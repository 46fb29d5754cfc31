"""What may be spent: so many requests, tokens or billionths of a US dollar in a window of the calendar."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple, Self

import msgspec
from msgspec import Meta

from holdfast.settings import Settings

Scope = Literal["key", "tenant", "feature"]
Unit = Literal["requests", "tokens", "nanousd"]

LARGEST: Final = 2**60
"""The largest cap: sums of several stay below 2^63, which is what the database and shared memory hold."""

_NANO = 10**9
_MULTIPLES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_TEXT = re.compile(r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]*)\s*(?:/\s*(?P<window>[A-Za-z]+)\s*)?")
_EXAMPLES = {
    "requests": '"600/min" or "1M/month"',
    "tokens": '"200k/min" or "1M/day"',
    "nanousd": '"50usd/day", or "0.5usd" for once and all',
}
_SECONDS = {"min": 60, "h": 3_600, "day": 86_400}


class Window(StrEnum):
    """How long a limit holds before it begins anew. Windows are fixed by the calendar, in UTC."""

    MIN = "min"
    H = "h"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"
    """It never begins anew."""

    def start(self, now_s: float) -> int:
        """Return when the window began that `now_s` is in, both in seconds since 1970."""
        if self is Window.TOTAL:
            return 0
        if self is Window.MONTH:
            first = datetime.fromtimestamp(now_s, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return int(first.timestamp())
        return int(now_s // _SECONDS[self]) * _SECONDS[self]

    def ends(self, now_s: float) -> float | None:
        """Return when the window ends that `now_s` is in, None if it never does."""
        if self is Window.TOTAL:
            return None
        if self is Window.MONTH:
            first = datetime.fromtimestamp(self.start(now_s), UTC)
            return (first + timedelta(days=32)).replace(day=1).timestamp()
        return float(self.start(now_s) + _SECONDS[self])


class Meter(NamedTuple):
    """What is counted together, whatever the cap is at the moment."""

    scope: Scope
    of: str
    unit: Unit
    window: Window


class Limit(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """No more than `cap` of a unit in a window, for a key, a tenant or a feature."""

    scope: Scope
    of: str
    """Which: the id of the key, the name of the tenant or of the feature."""
    unit: Unit
    """Requests are attempts: what reaches a provider. Money is counted in billionths of a US dollar."""
    cap: Annotated[int, Meta(ge=0, le=LARGEST)]
    window: Window

    @property
    def meter(self) -> Meter:
        """What is counted together. A limit whose cap is changed goes on where it was."""
        return Meter(self.scope, self.of, self.unit, Window(self.window))

    @property
    def text(self) -> str:
        """The limit without whose it is: "600 requests/min", "50 usd/day", "0.5 usd in total"."""
        return amount(self.cap, self.unit) + (" in total" if self.window == Window.TOTAL else f"/{self.window}")

    @property
    def name(self) -> str:
        """What people call it: "key hf_ab12cd34: 600 requests/min"."""
        return f"{self.scope} {self.of}: {self.text}"

    @classmethod
    def parse(cls, scope: Scope, of: str, unit: Unit, text: str) -> Self:
        """Read "600/min", "200k/min", "1M/day", "50usd/day", "0.5usd". Without a window it is for once and all.

        Raises:
            ValueError: saying what is wrong, and what is valid.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"expected {_EXAMPLES[unit]}, got {text!r}")
        window = match["window"] or Window.TOTAL
        if window not in list(Window):
            raise ValueError(f'unknown window "{window}" in {text!r}, expected one of {", ".join(Window)}')
        cap = Decimal(match["number"]) * _multiple(match["unit"], unit, text)
        if cap != int(cap):
            least = "a billionth of a dollar" if unit == "nanousd" else f"whole {unit}"
            raise ValueError(f"{text!r} is finer than {least}")
        if cap > LARGEST:
            raise ValueError(f"{text!r} is more than can be counted, the most is {amount(LARGEST, unit)}")
        return cls(scope, of, unit, int(cap), Window(window))


def _multiple(suffix: str, unit: Unit, text: str) -> int:
    if unit == "nanousd":
        if suffix.lower() != "usd":
            raise ValueError(f"expected US dollars, such as {_EXAMPLES[unit]}, got {text!r}")
        return _NANO
    if suffix not in _MULTIPLES:
        raise ValueError(f'expected a number of {unit}, such as {_EXAMPLES[unit]}, with "k", "M" or "G", got {text!r}')
    return _MULTIPLES[suffix]


def amount(count: int, unit: Unit) -> str:
    """Return so much of a unit as people read it: "600 requests", "1 request", "0.5 usd"."""
    if unit == "nanousd":
        return f"{Decimal(count).scaleb(-9).normalize():f} usd"
    return f"{count} {unit.removesuffix('s') if count == 1 else unit}"


class BudgetSettings(Settings, frozen=True, kw_only=True):
    """What a tenant or a feature may spend; default: no limit."""

    budget: str | None = None
    """Money, such as "50usd/day"."""
    requests: str | None = None
    """Attempts that reach a provider, such as "600/min"."""
    tokens: str | None = None
    """Input and output tokens, such as "200k/min"."""

    def __post_init__(self) -> None:
        self.limits("tenant", "")

    def limits(self, scope: Scope, of: str) -> tuple[Limit, ...]:
        """Return them as limits of a key, a tenant or a feature.

        Raises:
            ValueError: naming the setting, what is wrong with it, and what is valid.
        """
        given: list[tuple[str, Unit, str | None]] = [
            ("budget", "nanousd", self.budget),
            ("requests", "requests", self.requests),
            ("tokens", "tokens", self.tokens),
        ]
        return tuple(_named(name, scope, of, unit, text) for name, unit, text in given if text is not None)


def _named(name: str, scope: Scope, of: str, unit: Unit, text: str) -> Limit:
    try:
        return Limit.parse(scope, of, unit, text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
