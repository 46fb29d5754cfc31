"""The queries of the pages."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec

from holdfast.errors import InvalidRequest
from holdfast.log.base import Conditions, Filter
from holdfast.log.query import moment, tag
from holdfast.log.view import PAGE
from holdfast.privacy.subjects import SubjectHasher

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)
Bodies = Literal["plain", "masked"]
"""Whether what was asked and answered is shown as it is, which is recorded, or without its words."""
_MOST_DIGITS = 20


class CallsQuery(Conditions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls to show. Times are ISO 8601, or a duration ("1h") before now."""

    subject: str | None = None
    """As the caller named it."""
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PAGE

    def filter(self, now: float, subjects: SubjectHasher) -> Filter:
        """Return what the query looks for. Raises InvalidRequest."""
        at = partial(moment, now=now)
        return Filter(
            **{field: getattr(self, field) for field in Conditions.__struct_fields__},
            subject=None if self.subject is None else subjects.hash(self.subject, self.tenant),
            tag=_read("tag", self.tag, tag),
            since_us=_read("since", self.since, at),
            until_us=_read("until", self.until, at),
            limit=self.limit,
        )


class OneQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to show one call."""

    bodies: Bodies | None = None


class SearchQuery(CallsQuery, frozen=True, kw_only=True):
    """Which calls to look through, and what for."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    bodies: Bodies | None = None


class KeysQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which keys to show."""

    tenant: str | None = None


class SpendQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count. Days are those of the times, in UTC, both included."""

    tenant: str | None = None
    key: str | None = None
    since: str = "31d"
    until: str | None = None

    def days(self, now: float) -> tuple[int, int | None]:
        """Return the bounds in microseconds since 1970. Raises InvalidRequest."""
        at = partial(moment, now=now)
        since = _read("since", self.since, at)
        assert since is not None
        return since, _read("until", self.until, at)


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries of the audit trail to show. `before` is the number of an entry, from which on none is."""

    action: str | None = None
    actor: str | None = None
    since: str | None = None
    before: Annotated[int, msgspec.Meta(ge=1)] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PAGE

    def since_us(self, now: float) -> int:
        """Return the time in microseconds since 1970. Raises InvalidRequest."""
        return _read("since", self.since, partial(moment, now=now)) or 0


_FLAGS: Mapping[object, bool] = {"true": True, "false": False}


def read_query(text: str, type: type[Q]) -> Q:
    """Decode a query string. Raises InvalidRequest."""
    said: dict[str, str | int | bool] = dict(parse_qsl(text, keep_blank_values=True))
    for number in ("limit", "before") if type is AuditQuery else ("limit",):
        if (digits := str(said.get(number, ""))).isdecimal() and len(digits) < _MOST_DIGITS:
            said[number] = int(digits)
    for flag in ("repaired", "replayed"):
        if (value := said.get(flag)) in _FLAGS:
            said[flag] = _FLAGS[value]
    try:
        return msgspec.convert(said, type)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(message, param=path.rstrip("`") or None) from error


def _read(param: str, text: str | None, read: Callable[[str], T]) -> T | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise InvalidRequest(f"{param}: {error}.", param=param) from error
