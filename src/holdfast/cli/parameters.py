"""What people write after the options of the commands: times, tags, limits, lists of names."""

import time
from collections.abc import Callable
from typing import Any

import click

from holdfast.log.query import moment, tag
from holdfast.settings import Duration
from holdfast.state.limits import Limit, Unit


class Text(click.ParamType[Any]):
    """What `read` makes of a text; it says in a ValueError what is wrong with it."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _moment(text: str) -> int:
    return moment(text, time.time())


def _expiry(text: str) -> int:
    now = time.time()
    try:
        return round((now + Duration.parse(text)) * 1e6)
    except OverflowError:
        raise ValueError(f"{text} is later than any date") from None
    except ValueError:
        pass
    try:
        at_us = moment(text, now)
    except ValueError:
        raise ValueError(f"expected a duration such as 90d or a date such as 2027-01-01, got {text!r}") from None
    if at_us <= now * 1e6:
        raise ValueError(f"{text} is past")
    return at_us


def _names(text: str) -> tuple[str, ...]:
    names = tuple([name.strip() for name in text.split(",")])
    if not all(names):
        raise ValueError(f"expected names with commas between them, got {text!r}")
    return names


MOMENT = Text("TIME", _moment)
"""A time as `log.query.moment` reads it: microseconds since 1970."""
EXPIRY = Text("TIME", _expiry)
"""A time to come, in microseconds since 1970: "90d" from now, or a date."""
DURATION = Text("DURATION", Duration.parse)
"""Seconds."""
TAG = Text("KEY=VALUE", tag)
NAMES = Text("NAME,...", _names)


def limit(unit: Unit) -> Text:
    """Return the type of a limit of a key: "600/min"."""
    return Text("LIMIT", lambda text: Limit.parse("key", "", unit, text))
