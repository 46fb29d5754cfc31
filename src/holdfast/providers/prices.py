"""What a call costs: tokens as the provider counted them, times the price of each kind.

List prices come from the `genai-prices` package. Importing it takes more time and memory than the gateway itself, so a
child process (`python -m holdfast.providers.prices`) looks them up once, and the answer is kept in a file.

Not covered, because no usage report tells: fees for web and file searches, cache writes that live for an hour instead
of minutes, and the other rates of batch and priority tiers. A model that is charged by anything else than tokens
(requests, hours, pages, images) has an unknown price.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from math import gcd, lcm
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import msgspec
from msgspec import Meta

from holdfast.chat import Usage
from holdfast.settings import Settings

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelPrice, TieredPrices

Rate = Annotated[float, Meta(ge=0)]
NamedModel = tuple[str | None, str]
"""A model by the price list's id of its provider (None: not in the list) and the provider's name for it."""

_DAY = 86_400
_CACHE_FORMAT = 2
_log = logging.getLogger(__name__)


class PriceSettings(Settings, frozen=True, kw_only=True):
    """US dollars for a million tokens of each kind. A kind left out costs what its parent does (cached: input,
    reasoning: output)."""

    input: Rate
    """Input tokens that are not cached."""
    output: Rate
    """Output tokens."""
    cache_read: Rate | None = None
    """Input tokens read from the provider's cache."""
    cache_write: Rate | None = None
    """Input tokens written to the provider's cache."""
    reasoning: Rate | None = None
    """Output tokens spent on reasoning."""


class Rates(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """US dollars for a million tokens of each kind. None: charged as its parent, where it has one."""

    input: Decimal
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None

    def cost_nanousd(self, usage: Usage) -> int | None:
        """Return billionths of a US dollar, None where the usage contradicts itself or leaves the cost open."""
        if usage.input_audio_tokens and usage.cache_read_tokens and self.input_audio is not None:
            return None  # nobody says how much of the audio was cached
        input_side, output_side, scale = self._integers
        input, output = input_side.cost(usage), output_side.cost(usage)
        if input is None or output is None:
            return None
        return input + output if scale == 1 else _half_to_even(input + output, scale)

    @cached_property
    def _integers(self) -> "tuple[_Side, _Side, int]":
        """The rates of input and output as integers, and by what to divide: so a call costs no decimal arithmetic."""
        ratios = [rate.as_integer_ratio() for rate in msgspec.structs.astuple(self) if rate is not None]
        scale = lcm(*[divisor // gcd(1000, divisor) for _, divisor in ratios])
        rates = {kind: _scaled(rate, scale) for kind, rate in msgspec.structs.asdict(self).items()}
        input = _Side("input_tokens", rates, "input", ("cache_read", "cache_write", "input_audio"))
        return input, _Side("output_tokens", rates, "output", ("reasoning", "output_audio")), scale


class _Side:
    """What input or output costs, in billionths of a US dollar times the scale of its rates."""

    def __init__(self, total: str, rates: dict[str, int | None], rate: str, kinds: Iterable[str]) -> None:
        self._total = attrgetter(total)
        self._rate = rates[rate]
        self._kinds = [(attrgetter(f"{kind}_tokens"), own) for kind in kinds if (own := rates[kind]) is not None]

    def cost(self, usage: Usage) -> int | None:
        tokens, rate, cost = self._total(usage), self._rate, 0
        for count_of, own_rate in self._kinds:
            if count := count_of(usage):
                cost += count * own_rate
                tokens -= count
        if tokens < 0 or (tokens and rate is None):
            return None
        return cost + tokens * rate if tokens else cost


def _scaled(rate: Decimal | None, scale: int) -> int | None:
    """Return dollars for a million tokens as billionths for one, times `scale`."""
    if rate is None:
        return None
    dividend, divisor = rate.as_integer_ratio()
    return dividend * 1000 * scale // divisor


def _half_to_even(dividend: int, divisor: int) -> int:
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient % 2))


class Tier(msgspec.Struct, frozen=True):
    """The rates of a whole request with more than `above` input tokens."""

    above: int
    rates: Rates


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another price from `since` on (seconds since 1970), or every day between two seconds of the day, both UTC."""

    price: "Price"
    since: float = 0.0
    daily: tuple[int, int] | None = None

    def holds(self, at: float) -> bool:
        """Whether it is in force at `at`, in seconds since 1970."""
        if self.daily is None:
            return at >= self.since
        start, end = self.daily
        return (at - start) % _DAY < (end - start) % _DAY


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """What a model costs. Of the `changes`, the last that holds replaces all else of it."""

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    """In rising order."""
    changes: tuple[Change, ...] = ()
    context: int | None = None
    """What the list tells of the model beside: the tokens that it takes, prompt and answer together."""

    @classmethod
    def of(cls, settings: PriceSettings) -> Self:
        """Return the price that somebody configured."""
        given = {kind: rate for kind, rate in msgspec.structs.asdict(settings).items() if rate is not None}
        return cls(rates=Rates(**{kind: Decimal(repr(rate)) for kind, rate in given.items()}))

    def now(self, at: float | None = None) -> "Price":
        """Return the price in force at `at`, in seconds since 1970; default: now."""
        if not self.changes:
            return self
        at = datetime.now(UTC).timestamp() if at is None else at
        return next((change.price for change in reversed(self.changes) if change.holds(at)), self)

    def cost_nanousd(self, usage: Usage, at: float | None = None) -> int | None:
        """Return billionths of a US dollar, rounded half to even. `at` is as in `now`.

        None where the usage contradicts itself or leaves the cost open: cached tokens together with audio tokens.
        """
        price = self.now(at) if self.changes else self
        rates = price.rates
        for tier in price.tiers:
            if usage.input_tokens > tier.above:
                rates = tier.rates
        return rates.cost_nanousd(usage)

    def worst_nanousd(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the most billionths of a US dollar that so many tokens may cost, of whatever kind, in any tier, at any
        time. None where output has no price, and there may be some.
        """
        input, output, scale = self._highest
        if output is None:
            if output_tokens:
                return None
            output = 0
        return -(-(input_tokens * input + output_tokens * output) // scale)

    @cached_property
    def _highest(self) -> tuple[int, int | None, int]:
        """The highest rates of input and output as integers, and by what to divide them."""
        rates = list(_all_rates(self))
        inputs = [rate for each in rates for rate in (each.input, each.cache_read, each.cache_write, each.input_audio)]
        outputs = [rate for each in rates for rate in (each.output, each.reasoning, each.output_audio)]
        input = max(rate for rate in inputs if rate is not None)
        output = None if None in [each.output for each in rates] else max(rate for rate in outputs if rate is not None)
        scale = lcm(*[rate.as_integer_ratio()[1] for rate in (input, output) if rate is not None])
        return _scaled(input, scale) or 0, _scaled(output, scale), scale


def _all_rates(price: Price) -> Iterator[Rates]:
    yield price.rates
    for tier in price.tiers:
        yield tier.rates
    for change in price.changes:
        yield from _all_rates(change.price)


# --- the price list ---------------------------------------------------------------------------------------------------


class _Cache(msgspec.Struct):
    version: str
    prices: list[tuple[str, str, Price | None]]


def find(models: Iterable[NamedModel], cache: Path | None = None) -> dict[NamedModel, Price | None]:
    """Return the list price of each model, None where it is unknown. Blocks for half a second, or not when `cache`, a
    file that this function keeps, has them all.

    A list that can't be read makes prices unknown; that is logged and stops nothing.
    """
    wanted = dict.fromkeys(models)
    known = _read(cache)
    missing = [model for model in wanted if model[0] is not None and model not in known]
    if missing:
        found = _look_up(missing)
        known.update(found)
        if found and cache is not None:
            _write(cache, known)
    return {model: known.get(model) for model in wanted}


def _version() -> str:
    from importlib.metadata import version  # slow to import

    return f"{version('genai-prices')}/{_CACHE_FORMAT}"


def _read(cache: Path | None) -> dict[NamedModel, Price | None]:
    if cache is None:
        return {}
    with suppress(OSError, msgspec.DecodeError):  # also ValidationError: a stale or damaged cache is only a slow start
        stored = msgspec.json.decode(cache.read_bytes(), type=_Cache)
        if stored.version == _version():
            return {(provider, name): price for provider, name, price in stored.prices}
    return {}


def _write(cache: Path, known: dict[NamedModel, Price | None]) -> None:
    prices = [(provider, name, price) for (provider, name), price in known.items() if provider is not None]
    scratch = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(msgspec.json.encode(_Cache(_version(), prices)))
        scratch.replace(cache)
    except OSError as error:
        _log.info("The price cache %s can't be written: %s", cache, error)


def _look_up(models: Sequence[NamedModel]) -> dict[NamedModel, Price | None]:
    command = [sys.executable, "-P", "-m", "holdfast.providers.prices"]
    try:
        done = subprocess.run(command, input=msgspec.json.encode(models), capture_output=True, timeout=60, check=True)  # noqa: S603 - our own module
        prices = msgspec.json.decode(done.stdout, type=list[Price | None])
        return dict(zip(models, prices, strict=True))
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, ValueError) as error:
        detail = getattr(error, "stderr", None) or b""
        _log.warning("List prices are unknown, genai-prices failed: %s %s", error, detail.decode(errors="replace"))
        return {}


# --- in the child process ---------------------------------------------------------------------------------------------

_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
}
_NOT_REPORTED = {"web_searches_kcount", "storage_searches_kcount", "cache_write_1h_mtok", "cache_audio_read_mtok"}


def list_price(provider: str, name: str, today: date) -> Price | None:
    """Return a price of `genai-prices` with its changes from `today` on, None where it has none that tokens decide."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, model = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    if isinstance(model.prices, list):
        base, *later = _in_force(model.prices, today)
        price, changes = _price(base.prices), [_change(conditional) for conditional in later]
    else:
        price, changes = _price(model.prices), []
    if price is None or None in changes:
        return None
    changing = tuple(change for change in changes if change)
    return msgspec.structs.replace(price, changes=changing, context=model.context_window)


def _in_force(prices: "list[ConditionalPrice]", today: date) -> "list[ConditionalPrice]":
    """Leave out what a later price, in force for good, has replaced."""
    for index in range(len(prices) - 1, 0, -1):
        constraint = prices[index].constraint
        start = today if constraint is None else getattr(constraint, "start_date", None)
        if start is not None and start <= today:
            return prices[index:]
    return prices


def _change(conditional: "ConditionalPrice") -> Change | None:
    price, constraint = _price(conditional.prices), conditional.constraint
    if price is None or constraint is None:
        return None
    if hasattr(constraint, "start_date"):
        return Change(price=price, since=datetime.combine(constraint.start_date, time(), UTC).timestamp())
    return Change(price=price, daily=(_second_of_day(constraint.start_time), _second_of_day(constraint.end_time)))


def _second_of_day(at: time) -> int:
    offset = at.utcoffset() or timedelta()
    return int((timedelta(hours=at.hour, minutes=at.minute, seconds=at.second) - offset).total_seconds()) % _DAY


def _price(listed: "ModelPrice") -> Price | None:
    prices = {key: value for key, value in vars(listed).items() if value is not None and key not in _NOT_REPORTED}
    if "input_mtok" not in prices or not prices.keys() <= _KINDS.keys():
        return None
    starts = sorted({tier.start for value in prices.values() for tier in getattr(value, "tiers", ())})
    tiers = [Tier(start, _rates(prices, start)) for start in starts]
    return Price(rates=_rates(prices, -1), tiers=tuple(tiers))


def _rates(prices: "dict[str, Decimal | TieredPrices]", start: int) -> Rates:
    return Rates(**{_KINDS[key]: _rate(value, start) for key, value in prices.items()})


def _rate(value: "Decimal | TieredPrices", start: int) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return next((tier.price for tier in reversed(value.tiers) if tier.start <= start), value.base)


def main() -> None:
    """Read [[provider, name], ...] from standard input, write the prices in the same order."""
    models = msgspec.json.decode(sys.stdin.buffer.read(), type=list[tuple[str, str]])
    today = datetime.now(UTC).date()
    sys.stdout.buffer.write(msgspec.json.encode([list_price(provider, name, today) for provider, name in models]))


if __name__ == "__main__":
    main()
