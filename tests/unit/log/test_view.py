import json

import msgspec
import pytest

from holdfast.log.view import call_json, iso, usd
from log_samples import FENCE, START_US, make_call


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
