"""What may be spent, and when it begins anew."""

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.state.limits import LARGEST, BudgetSettings, Limit, Window

NANO = 10**9


def at(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("unit", "text", "cap", "window"),
    [
        ("requests", "600/min", 600, Window.MIN),
        ("requests", "0/day", 0, Window.DAY),
        ("tokens", "200k/min", 200_000, Window.MIN),
        ("tokens", "1.5M/h", 1_500_000, Window.H),
        ("tokens", "2G/month", 2_000_000_000, Window.MONTH),
        ("tokens", "1M", 1_000_000, Window.TOTAL),
        ("nanousd", "50usd/day", 50 * NANO, Window.DAY),
        ("nanousd", "0.5usd", NANO // 2, Window.TOTAL),
        ("nanousd", " 50 USD / total ", 50 * NANO, Window.TOTAL),
        ("nanousd", "0.000000001usd/month", 1, Window.MONTH),
    ],
)
def test_a_limit_is_read_from_text(unit, text, cap, window):
    assert Limit.parse("tenant", "acme", unit, text) == Limit("tenant", "acme", unit, cap, window)


@pytest.mark.parametrize(
    ("unit", "text", "says"),
    [
        ("requests", "", '"600/min"'),
        ("requests", "-5/min", '"600/min"'),
        ("requests", "many/min", '"600/min"'),
        ("requests", "5/minute", "min, h, day, month, total"),
        ("requests", "5/", '"600/min"'),
        ("requests", "5usd/min", "a number of requests"),
        ("requests", "1.5/min", "whole requests"),
        ("tokens", "5K/min", '"k", "M" or "G"'),
        ("tokens", "٣/min٣", "expected"),
        ("tokens", "9999999999999G", "the most is"),
        ("nanousd", "50/day", "US dollars"),
        ("nanousd", "50eur/day", "US dollars"),
        ("nanousd", "0.0000000001usd", "a billionth"),
        ("nanousd", "1" * 5000 + "usd", "the most is"),
    ],
)
def test_a_text_that_is_no_limit_is_refused_saying_what_is_valid(unit, text, says):
    with pytest.raises(ValueError, match=r".") as raised:
        Limit.parse("tenant", "acme", unit, text)
    assert says in str(raised.value)


@given(
    text=st.text() | st.from_regex(r"[0-9.]{1,6}[a-zA-Z]{0,4}(/[a-z]{0,6})?"),
    unit=st.sampled_from(["requests", "tokens", "nanousd"]),
)
def test_any_text_is_a_limit_or_a_value_error(text, unit):
    try:
        limit = Limit.parse("key", "hf_1", unit, text)
    except ValueError:
        return
    assert 0 <= limit.cap <= LARGEST


@given(
    cap=st.integers(0, LARGEST), unit=st.sampled_from(["requests", "tokens", "nanousd"]), window=st.sampled_from(Window)
)
def test_what_a_limit_is_called_can_be_read_again(cap, unit, window):
    limit = Limit("key", "hf_1", unit, cap, window)
    text = re.sub(" (in total|requests?|tokens?)", "", limit.text)
    assert Limit.parse("key", "hf_1", unit, text) == limit


def test_a_limit_is_called_by_whose_it_is_and_what_it_allows():
    assert Limit("key", "hf_ab12cd34", "requests", 600, Window.MIN).name == "key hf_ab12cd34: 600 requests/min"
    assert Limit("tenant", "acme", "nanousd", 50 * NANO, Window.DAY).name == "tenant acme: 50 usd/day"
    assert Limit("feature", "answer", "nanousd", NANO // 2, Window.TOTAL).name == "feature answer: 0.5 usd in total"


def test_a_limit_survives_being_stored():
    limit = Limit("key", "hf_1", "tokens", 5, Window.MONTH)
    assert msgspec.json.decode(msgspec.json.encode(limit), type=Limit) == limit


def test_the_cap_is_no_part_of_what_is_counted_together():
    assert Limit("key", "a", "tokens", 5, Window.DAY).meter == Limit("key", "a", "tokens", 6, Window.DAY).meter
    assert Limit("key", "a", "tokens", 5, Window.DAY).meter != Limit("key", "a", "tokens", 5, Window.H).meter


@pytest.mark.parametrize(
    ("window", "start", "ends"),
    [
        (Window.MIN, at(2024, 2, 29, 23, 59), at(2024, 3, 1)),
        (Window.H, at(2024, 2, 29, 23), at(2024, 3, 1)),
        (Window.DAY, at(2024, 2, 29), at(2024, 3, 1)),
        (Window.MONTH, at(2024, 2, 1), at(2024, 3, 1)),
        (Window.TOTAL, 0, None),
    ],
)
def test_windows_follow_the_calendar_in_utc(window, start, ends):
    now = at(2024, 2, 29, 23, 59, 59) + 0.9
    assert (window.start(now), window.ends(now)) == (start, ends)


@given(now=st.floats(0, 4e9), window=st.sampled_from(Window))
def test_windows_follow_each_other_without_a_gap(now, window):
    start, ends = window.start(now), window.ends(now)
    assert start <= now
    if ends is not None:
        assert now < ends
        assert window.start(ends) == ends
        assert window.ends(start) == ends


def test_december_ends_with_the_year():
    assert Window.MONTH.ends(at(2025, 12, 31, 23)) == at(2026, 1, 1)


def test_settings_give_limits_of_each_unit():
    settings = BudgetSettings(budget="50usd/day", requests="600/min", tokens="1M/month")
    assert settings.limits("feature", "answer") == (
        Limit("feature", "answer", "nanousd", 50 * NANO, Window.DAY),
        Limit("feature", "answer", "requests", 600, Window.MIN),
        Limit("feature", "answer", "tokens", 1_000_000, Window.MONTH),
    )
    assert BudgetSettings().limits("feature", "answer") == ()


def test_wrong_settings_are_refused_when_they_are_read_naming_the_setting():
    with pytest.raises(msgspec.ValidationError, match="requests: unknown window"):
        msgspec.json.decode('{"requests": "5/year"}', type=BudgetSettings)
