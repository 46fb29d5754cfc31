"""The query of `/api/calls`."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec

from holdfast.errors import InvalidRequest
from holdfast.events import Outcome
from holdfast.log.base import Filter
from holdfast.log.view import PAGE
from holdfast.privacy.subjects import SubjectHasher
from holdfast.settings import Duration


class CallsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which calls to show. Times are ISO 8601, or a duration ("1h") before now."""

    name: str | None = None
    model: str | None = None
    outcome: Outcome | None = None
    error: str | None = None
    session: str | None = None
    subject: str | None = None
    tag: str | None = None
    since: str | None = None
    until: str | None = None
    before: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = PAGE

    def filter(self, now: float, subjects: SubjectHasher) -> Filter:
        return Filter(
            name=self.name,
            model=self.model,
            outcome=self.outcome,
            error=self.error,
            session=self.session,
            subject=None if self.subject is None else subjects.hash(self.subject),
            tag=_tag(self.tag),
            since_us=_moment("since", self.since, now),
            until_us=_moment("until", self.until, now),
            before=self.before,
            limit=self.limit,
        )


def read_query(text: str) -> CallsQuery:
    said: dict[str, str | int] = dict(parse_qsl(text, keep_blank_values=True))
    if str(limit := said.get("limit", "")).isdecimal():
        said["limit"] = int(limit)
    try:
        return msgspec.convert(said, CallsQuery)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidRequest(message, param=path.rstrip("`") or None) from error


def _tag(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, separator, value = text.partition("=")
    if not separator:
        raise InvalidRequest("A tag is written name=value.", param="tag")
    return name, value


def _moment(param: str, text: str | None, now: float) -> int | None:
    if text is None:
        return None
    try:
        return int(max(0.0, now - Duration.parse(text)) * 1e6)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{param}: expected a time such as 2026-01-31T12:00:00Z or a duration such as 1h, got {text!r}.",
            param=param,
        ) from error
