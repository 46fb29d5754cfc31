"""The query of `/api/calls`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, TypeVar
from urllib.parse import parse_qsl

import msgspec

from holdfast.errors import InvalidRequest
from holdfast.events import Outcome
from holdfast.log.base import Filter
from holdfast.log.query import moment, tag
from holdfast.log.view import PAGE
from holdfast.privacy.subjects import SubjectHasher

T = TypeVar("T")


class CallsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls to show. Times are ISO 8601, or a duration ("1h") before now."""

    name: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    session: str | None = None
    subject: str | None = None
    tag: str | None = None
    contract: str | None = None
    repaired: bool | None = None
    replayed: bool | None = None
    since: str | None = None
    until: str | None = None
    before: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PAGE

    def filter(self, now: float, subjects: SubjectHasher) -> Filter:
        """Return what the query looks for. Raises InvalidRequest."""
        at = partial(moment, now=now)
        return Filter(
            name=self.name,
            model=self.model,
            outcome=self.outcome,
            error=self.error,
            session=self.session,
            contract=self.contract,
            repaired=self.repaired,
            replayed=self.replayed,
            subject=None if self.subject is None else subjects.hash(self.subject),
            tag=_read("tag", self.tag, tag),
            since_us=_read("since", self.since, at),
            until_us=_read("until", self.until, at),
            before=self.before,
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
