import json
from typing import Any

import msgspec
import pytest

from holdfast.errors import InvalidRequest
from holdfast.log.base import Filter
from holdfast.log.memory import MemoryLog
from holdfast.log.view import call_json, iso, page, usd
from log_samples import FENCE, START_US, make_call


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.append([make_call(n) for n in range(7)])
    return log


def ids(shown: dict[str, Any]) -> list[str]:
    return [call["id"] for call in shown["calls"]]


def test_pages_lead_from_one_to_the_next_until_there_is_none(log: MemoryLog) -> None:
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        shown = page(log, Filter(limit=3, before=cursor))
        found += ids(shown)
        cursor, pages = shown["next"], pages + 1
    assert found == [make_call(n).id for n in range(6, -1, -1)]
    assert pages == 3


def test_a_page_that_ends_with_the_last_call_leads_nowhere(log: MemoryLog) -> None:
    assert page(log, Filter(limit=7))["next"] is None
    assert page(log, Filter(name="nobody")) == {"calls": [], "next": None}


def test_a_page_has_fifty_calls_where_nobody_says_how_many() -> None:
    log = MemoryLog()
    log.append([make_call(n) for n in range(60)])
    assert len(ids(page(log, Filter()))) == 50


@pytest.mark.parametrize("cursor", ["before", "after"])
def test_an_unknown_cursor_is_the_callers_mistake(log: MemoryLog, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="01NOWHERE") as caught:
        page(log, Filter(**{cursor: "01NOWHERE"}))  # type: ignore[arg-type]
    assert caught.value.param == cursor


def test_every_field_of_a_call_is_shown() -> None:
    shown = call_json(make_call(session="s", subject="feed", tags={"a": "b"}, ledger=(FENCE,)))
    assert {"at", "cost_usd"} <= set(shown)
    assert set(make_call().__struct_fields__) - set(shown) == {"cost_nanousd"}
    assert set(make_call().attempts[0].__struct_fields__) - set(shown["attempts"][0]) == {"cost_nanousd"}
    assert msgspec.json.decode(msgspec.json.encode(shown)) == json.loads(json.dumps(shown))


def test_what_is_unknown_is_none_and_what_is_free_is_zero() -> None:
    assert call_json(make_call(cost_nanousd=None, usage=None))["cost_usd"] is None
    assert call_json(make_call(cost_nanousd=None, usage=None))["usage"] is None
    assert call_json(make_call(cost_nanousd=0))["cost_usd"] == "0.000000000"


@pytest.mark.parametrize(
    ("nanousd", "shown"),
    [(0, "0.000000000"), (1, "0.000000001"), (12_345_678_901, "12.345678901"), (-1, "-0.000000001"), (None, None)],
)
def test_money_is_exact(nanousd: int | None, shown: str | None) -> None:
    assert usd(nanousd) == shown


def test_times_are_exact_and_in_utc() -> None:
    assert iso(START_US + 1) == "2025-10-09T08:53:20.000001Z"
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(2**63 - 1) == "9999-12-31T23:59:59.999999Z"
