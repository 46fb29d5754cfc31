"""What holds for every call whatever its providers do, and what holds for every one that was answered."""

from decimal import Decimal
from typing import Any

from acceptance.resilience.caller import Told
from acceptance.resilience.table import DEADLINE, LATE, PRICE, SLACK, TEXT, Stage
from holdfast.providers.simulated import Record

HANG_UP = 0.1
"""Seconds within which a provider hears that its answer is no longer wanted."""
OUTCOMES = ("answered", "last_resort", "error", "cancelled")


def kept(stage: Stage, deadline: float = DEADLINE) -> None:
    """Assert the promise for every call of a case: it ends in time, in one way, and is told as it is logged."""
    assert len(stage.log) == len(stage.told)
    for told, call in zip(stage.told, stage.log, strict=True):
        assert told.headers["x-holdfast-call"] == call["id"]
        assert call["outcome"] in OUTCOMES
        assert call["duration_us"] / 1e6 <= deadline + LATE + SLACK / 2
        assert told.took <= deadline + LATE + SLACK
        _told_as_logged(told, call)
        assert (told.error is None) == told.whole, "a call ends as an answer or as an error, and never as both"
        assert told.error is None or told.finish is None, "what failed was never said to be at its end"
        assert told.resets or said(call).startswith(told.text) if told.error else said(call) == told.text
    assert sum([len(call["attempts"]) for call in stage.log]) >= len(stage.requests)


def _told_as_logged(told: Told, call: dict[str, Any]) -> None:
    summary = told.holdfast
    assert (summary["call"], summary["outcome"]) == (call["id"], call["outcome"])
    assert int(summary["attempts"]) == len(call["attempts"])
    assert summary.get("model") == call["model"]
    assert summary.get("cost") == call["cost_usd"]
    assert (told.error is None) == (call["outcome"] in ("answered", "last_resort"))


def answered(stage: Stage, by: str, text: str = TEXT, finish: str = "stop") -> None:
    """Assert that the one call of a case was answered by the primary or the fallback, to the letter."""
    kept(stage)
    (told,), (call,) = stage.told, stage.log
    assert told.error is None
    assert (told.status, told.text, told.finish) == (200, text, finish)
    assert (call["outcome"], call["model"], call["error"]) == ("answered", f"{stage.case.key}-{by}", None)
    assert call["attempts"][-1]["error"] is None or reasons(stage)[-1] == "hedge"
    assert told.usage == (call["usage"]["input_tokens"], call["usage"]["output_tokens"])
    assert usage_adds_up(call)


def usage_adds_up(call: dict[str, Any]) -> bool:
    """Assert that a call has used, and cost, what its attempts have, and that no price is missing."""
    attempts = call["attempts"]
    used = [attempt["usage"] for attempt in attempts if attempt["usage"] is not None]
    for kind in ("input_tokens", "output_tokens"):
        assert call["usage"][kind] == sum([usage[kind] for usage in used])
    costs = [attempt["cost_usd"] for attempt in attempts]
    if None not in costs:
        assert Decimal(call["cost_usd"]) == sum(map(Decimal, costs))
    for attempt in attempts:
        if attempt["usage"] is not None:
            rates = zip(("input_tokens", "output_tokens"), PRICE, strict=True)
            assert Decimal(attempt["cost_usd"]) == sum(
                [attempt["usage"][kind] * rate for kind, rate in rates]
            ) / Decimal(10**6)
    return True


def failed(stage: Stage, status: int, *codes: str) -> None:
    """Assert that the one call of a case ended with a typed error, on its stream if one had begun."""
    kept(stage)
    (told,), (call,) = stage.told, stage.log
    assert told.error is not None
    assert told.status == (200 if told.text else status)
    assert (call["outcome"], call["status"], call["model"]) == ("error", status, None)
    assert call["error"] in codes
    assert call["message"] in told.error["message"]
    assert told.code


def reasons(stage: Stage) -> list[str]:
    """Return why each attempt of the case's only call was made."""
    (call,) = stage.log
    return [attempt["reason"] for attempt in call["attempts"]]


def said(call: dict[str, Any]) -> str:
    """Return the text that the log holds of an answer."""
    choices = (call.get("reply") or {}).get("choices", ())
    return "".join([part["text"] for choice in choices for part in choice.get("parts", ()) if part["type"] == "text"])


def put_into_its_mouth(record: Record) -> str | None:
    """Return what a request lets the model have said already, None where it begins anew."""
    if record.wire == "google":
        last = record.body["contents"][-1]
        return "".join([part["text"] for part in last["parts"]]) if last["role"] == "model" else None
    last = record.body["messages"][-1]
    if last["role"] != "assistant":
        return None
    content = last["content"]
    return content if isinstance(content, str) else "".join([part["text"] for part in content])
