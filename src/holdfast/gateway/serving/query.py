"""The query of `/api/calls`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

import msgspec

from holdfast.errors import InvalidRequest
from holdfast.log.base import Conditions, Filter
from holdfast.log.query import moment, tag
from holdfast.log.view import PAGE
from holdfast.privacy.subjects import SubjectHasher

T = TypeVar("T")


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
            subject=None if self.subject is None else subjects.hash(self.subject),
            tag=_read("tag", self.tag, tag),
            since_us=_read("since", self.since, at),
            until_us=_read("until", self.until, at),
            limit=self.limit,
        )


_FLAGS: Mapping[object, bool] = {"true": True, "false": False}


def read_query(text: str) -> CallsQuery:
    said: dict[str, str | int | bool] = dict(parse_qsl(text, keep_blank_values=True))
    if str(limit := said.get("limit", "")).isdecimal():
        said["limit"] = int(limit)
    for flag in ("repaired", "replayed"):
        if (value := said.get(flag)) in _FLAGS:
            said[flag] = _FLAGS[value]
    try:
        return msgspec.convert(said, CallsQuery)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(message, param=path.rstrip("`") or None) from error


def _read(param: str, text: str | None, read: Callable[[str], T]) -> T | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise InvalidRequest(f"{param}: {error}.", param=param) from error
