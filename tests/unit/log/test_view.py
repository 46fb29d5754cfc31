import json
from typing import Any

import msgspec
import pytest

from holdfast.errors import InvalidRequest
from holdfast.log.base import Filter
from holdfast.log.memory import MemoryLog
from holdfast.log.view import call_json, iso, page, search_page, spend_json, usd
from log_samples import ATTEMPT, FENCE, START_US, make_call


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


# --- search -----------------------------------------------------------------------------------------------------------


def test_a_page_of_a_search_shows_calls_with_the_places_and_leads_on(log: MemoryLog) -> None:
    shown = search_page(log, "KELP", Filter(limit=2))
    assert ids(shown) == [make_call(n).id for n in (6, 5)]
    place = {"pointer": "/request/messages/0/parts/0/text", "excerpt": "Where is the kelp?"}
    assert [call["places"] for call in shown["calls"]] == [[place], [place]]
    assert (shown["next"], shown["looked"], shown["withheld"]) == (make_call(5).id, 2, 0)
    assert "request" not in shown["calls"][0]
    assert msgspec.json.encode(shown)
    last = search_page(log, "kelp", Filter(before=shown["next"]))
    assert (len(ids(last)), last["next"]) == (5, None)


def test_a_search_that_can_not_be_made_is_the_callers_mistake(log: MemoryLog) -> None:
    with pytest.raises(InvalidRequest, match="empty") as caught:
        search_page(log, "", Filter())
    assert caught.value.param == "text"
    with pytest.raises(InvalidRequest, match="01NOWHERE") as caught:
        search_page(log, "kelp", Filter(before="01NOWHERE"))
    assert caught.value.param == "before"


# --- values -----------------------------------------------------------------------------------------------------------


def test_what_was_spent_is_shown_with_its_day() -> None:
    log = MemoryLog()
    log.append([make_call(1, tenant="acme", key="hf_a", attempts=(ATTEMPT,)), make_call(2, attempts=(ATTEMPT,))])
    nobody, acme = [spend_json(spend) for spend in log.spend()]
    assert acme == {
        "day": "2025-10-09",
        "tenant": "acme",
        "key": "hf_a",
        "name": "answer",
        "model": "gpt",
        "attempts": 1,
        "input_tokens": 500,
        "output_tokens": 300,
        "cost_nanousd": 123_456,
        "cost_usd": "0.000123456",
        "unpriced": 0,
    }
    assert (nobody["tenant"], nobody["key"]) == (None, None)


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
