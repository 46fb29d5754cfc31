"""Providers that throttle, fail or hang up: what is tried again where, when, and how often."""

import itertools

import pytest

from acceptance.resilience.promises import answered, failed, kept, reasons
from acceptance.resilience.table import SOME, Row, each

pytestmark = pytest.mark.asyncio(loop_scope="session")

EARLY = 0.002
"""Seconds by which two clocks may differ."""
SOON = 0.25
"""Seconds within which the fallback is asked where there is nothing to wait for; the machine is busy."""

ONCE = [
    Row("500 once", {"steps": ["status=500"]}),
    Row("502 once", {"steps": ["status=502"]}),
    Row("reset before the headers once", {"steps": ["reset=start"]}),
    Row("closed before the headers once", {"steps": ["cut=start"]}),
]


@each(*ONCE)
async def test_what_fails_once_is_tried_once_more_on_the_same_model(seen, case):
    answered(seen, "primary")
    assert len(seen.primary) == 2
    assert seen.fallback == []
    assert reasons(seen) == ["first", "retry"]


FITS = Row("429 with Retry-After that fits", {"steps": ["status=429,retry_after=0.2"]})
ALONE = Row("429 with Retry-After that fits and no fallback", FITS.primary, alone=True)


@each(FITS, ALONE)
async def test_a_model_that_asks_to_wait_is_never_asked_earlier(seen, case):
    kept(seen)
    told = seen.told[0]
    assert (told.error, told.whole) == (None, True)
    first, *again = seen.primary
    assert len(again) + len(seen.fallback) == 1
    for record in again:
        assert record.at - first.at >= 0.2 - EARLY
        assert record.at - first.at < 0.2 + SOON
    for record in seen.fallback:
        assert record.at - first.at < SOON
    answered(seen, "primary" if again else "fallback")
    assert reasons(seen) == ["first", "retry" if again else "fallback"]


LATER = [
    Row("429 with Retry-After beyond the deadline", "status=429,retry_after=30"),
    Row("503 with Retry-After beyond the deadline", "status=503,retry_after=30"),
]


@each(*LATER)
async def test_a_wait_that_does_not_fit_the_deadline_is_not_waited_for(seen, case):
    answered(seen, "fallback")
    (first,), (second,) = seen.primary, seen.fallback
    assert second.at - first.at < SOON
    assert reasons(seen) == ["first", "fallback"]


@each(Row("429 with Retry-After beyond the deadline and no fallback", "status=429,retry_after=30", alone=True))
async def test_without_another_model_a_caller_is_told_how_long_to_wait(seen, case):
    failed(seen, 429, "rate_limited")
    assert seen.told[0].headers["retry-after"] == "30"
    assert seen.told[0].took < SOON + 0.2
    assert len(seen.primary) == 1


GOOD = [Row(f"{status} for good", f"status={status}", wires=SOME) for status in (429, 503, 500)]


@each(*GOOD, Row("reset before the headers for good", "reset=start", wires=SOME))
async def test_what_fails_for_good_is_tried_thrice_at_most_ever_later_and_then_the_fallback_answers(seen, case):
    answered(seen, "fallback")
    assert 1 <= len(seen.primary) <= 3
    assert len(seen.fallback) == 1
    assert reasons(seen) == ["first", *["retry"] * (len(seen.primary) - 1), "fallback"]
    assert seen.requests[-1] is seen.fallback[0]


@each(Row("503 for good and retries = 0", "status=503", feature={"retries": "0"}))
async def test_a_feature_may_forbid_retries(seen, case):
    answered(seen, "fallback")
    assert len(seen.primary) == len(seen.fallback) == 1


@each(Row("503 for good and no fallback", "status=503", alone=True))
async def test_without_another_model_retries_wait_between_one_another(seen, case):
    failed(seen, 503, "overloaded", "model_down")
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(seen.primary)]
    assert len(gaps) == 2
    assert min(gaps) > 0.01
    assert max(gaps) < 2.0


ANOTHERS = [Row(f"{status} for good", f"status={status}", wires=SOME) for status in (400, 401, 403, 404)]


@each(*ANOTHERS)
async def test_what_the_same_model_would_say_again_is_not_tried_again_there(seen, case):
    answered(seen, "fallback")
    assert len(seen.primary) == len(seen.fallback) == 1
    assert reasons(seen) == ["first", "fallback"]


@each(Row("connection refused", model={"base_url": '"http://127.0.0.1:9"'}, wires=SOME))
async def test_an_address_where_nobody_listens_is_not_tried_again(seen, case):
    answered(seen, "fallback")
    assert reasons(seen) == ["first", "fallback"]
    assert seen.log[0]["attempts"][0]["error"] == "connection_failed"
    assert seen.told[0].took < SOON + 0.2
