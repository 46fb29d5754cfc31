"""How people and programs write what they look for in the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.log.query import moment, tag


def test_a_time_without_a_zone_is_utc_and_with_one_is_not():
    assert moment("2026-01-31T12:00", 0.0) == moment("2026-01-31T13:00+01:00", 0.0) == 1_769_860_800_000_000
    assert moment("2026-01-31T12:00:00.000001Z", 0.0) == 1_769_860_800_000_001


def test_a_duration_is_before_now_and_not_before_the_first_time_there_is():
    assert moment("1.5m", 100.0) == 10_000_000
    assert moment("7d", 100.0) == 0


@pytest.mark.parametrize("text", ["", "yesterday", "1 hour", "2026-13-01", "-1h", "12"])
def test_what_is_neither_is_told(text):
    with pytest.raises(ValueError, match="expected a time such as 2026-01-31T12:00:00Z or a duration such as 1h, got "):
        moment(text, 0.0)


@given(st.text())
def test_any_text_is_a_time_or_told(text):
    try:
        found = moment(text, 1e9)
    except ValueError:
        return
    assert isinstance(found, int)


def test_a_tag_has_a_name_and_a_value_which_may_have_more_of_the_sign():
    assert tag("page=a=b") == ("page", "a=b")
    assert tag("page=") == ("page", "")
    with pytest.raises(ValueError, match="a tag is written name=value, got 'page'"):
        tag("page")
