"""A drill as plain values, and in sentences: what the terminal, the page and `--json` have in common."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.drill.run import Drill, Row, Run
from holdfast.drill.targets import Target
from holdfast.drill.verdict import End
from holdfast.events import Attempt

ENDS: tuple[End, ...] = ("answered", "last_resort", "error", "cancelled", "broken")
FAILING: dict[str, frozenset[End]] = {
    "broken": frozenset({"broken"}),
    "error": frozenset({"broken", "error"}),
    "last_resort": frozenset({"broken", "error", "last_resort"}),
}
"""What fails a drill, by how strict it is. Errors that a fault asks for by its nature are never held against it."""
OWN_ERRORS: dict[str, frozenset[str]] = {
    "refused": frozenset({"content_refused"}),
    "impatient": frozenset({"deadline_exceeded", "timeout"}),
}
"""Errors that are what should happen: nobody routes around a refusal, nor past a caller's deadline."""
OUT_OF_REACH = frozenset({"all_down", "all_silent", "all_wrong", "impatient"})
"""Faults that leave nobody to answer, so that a last resort is the best there is."""


def failures(drill: Drill, strictness: str = "broken") -> list[Row]:
    """Return the rows that a drill of this strictness does not let pass."""
    return [row for row in drill.rows if _fails(row, FAILING[strictness])]


def _fails(row: Row, failing: frozenset[End]) -> bool:
    verdict = row.verdict
    if verdict.end == "error" and verdict.note in OWN_ERRORS.get(row.fault.name, ()):
        return False
    if verdict.end == "last_resort" and row.fault.name in OUT_OF_REACH:
        return False
    return verdict.end in failing


def counts(rows: Sequence[Row]) -> Counter[End]:
    """Return how many rows ended how."""
    return Counter(row.verdict.end for row in rows)


def summary(drill: Drill) -> str:
    """Return the whole drill in one line."""
    found = counts(drill.rows)
    words = {
        "answered": "answered",
        "last_resort": "got the last resort",
        "error": "got a typed error",
        "cancelled": "cancelled with their caller",
        "broken": "BROKEN",
    }
    told = ", ".join(f"{found[end]} {words[end]}" for end in ENDS if found[end])
    promise = "The promise was broken" if found["broken"] else "Every promise was kept"
    return f"{promise}: of {len(drill.rows)} rows, {told}."


def without_contract(drill: Drill) -> list[Target]:
    """Return the features whose contract was off, so that nothing was seen of it."""
    return [target for target in drill.targets if target.off is not None]


def outcome(row: Row) -> str:
    """Return how a row ended, in a word or two: who answered, or what else was told."""
    verdict, answered = (
        row.verdict,
        sorted({run.seen.model or "?" for run in row.runs if run.verdict.end == "answered"}),
    )
    match verdict.end:
        case "answered":
            return " & ".join(answered)
        case "last_resort":
            return "last resort"
        case "cancelled":
            return "cancelled"
        case "error":
            return verdict.note
        case _:
            return "BROKEN"


def took(row: Row) -> str:
    """Return how long the call that stands for a row took."""
    return duration(row.shown.seen.took)


def duration(seconds: float) -> str:
    """Return a duration as a person would write it."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return (
        f"{seconds:.{2 if seconds < 9.995 else 1 if seconds < 99.95 else 0}f}".removesuffix(".00").removesuffix(".0")
        + " s"
    )


def sentences(row: Row) -> list[str]:
    """Return what the caller saw, and what it took."""
    run = row.shown
    seen = run.seen
    told = [_time(row)]
    if seen.first_token is not None and row.mode == "stream":
        gap = "" if seen.longest_gap is None else f", longest gap {duration(seen.longest_gap)}"
        told.append(f"first {'object' if seen.objects else 'text'} after {duration(seen.first_token)}{gap}")
    if seen.resets:
        told.append(f"{seen.resets} reset")
    if run.verdict.end == "answered" and seen.text:
        told.append("text complete")
        if run.repairs:
            told.append(f"{_count(run.repairs, 'repair')} to meet the contract")
    elif seen.pieces and seen.error is not None:
        told.append(f"{sum(size for _, size in seen.pieces)} characters, then the error")
    if len(row.runs) > 1:
        told.append(_many(row))
    return told


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _time(row: Row) -> str:
    took, left = row.shown.seen.took, row.deadline - row.shown.seen.took
    if row.shown.seen.left is not None:
        return f"left after {duration(took)}"
    return f"{duration(took)} of {duration(row.deadline)}" if left >= 0 else f"{duration(-left)} past the deadline"


def _many(row: Row) -> str:
    """Say what became of many calls, and what they cost the model that was struck."""
    found = Counter(run.verdict.end for run in row.runs)
    ends = ", ".join(f"{found[end]} {end.replace('_', ' ')}" for end in ENDS if found[end])
    attempts = [attempt for run in row.runs for attempt in run.attempts]
    failed = sum(attempt.model == row.target.first and attempt.error is not None for attempt in attempts)
    return f"{len(row.runs)} calls: {ends}; {failed} attempts on {row.target.first} failed"


def tokens(attempts: Sequence[Attempt]) -> int | None:
    """Return the tokens that attempts used, in and out; None where no provider told."""
    told = [attempt.usage for attempt in attempts if attempt.usage is not None]
    return sum(usage.input_tokens + usage.output_tokens for usage in told) if told else None


def to_json(drill: Drill, strictness: str = "broken") -> dict[str, Any]:
    """Return a drill as plain JSON values. Times are seconds."""
    configuration = drill.configuration
    return {
        "config": configuration.hash,
        "passed": not failures(drill, strictness),
        "summary": {end: counts(drill.rows)[end] for end in ENDS},
        "seconds": round(drill.seconds, 3),
        "took": round(drill.took, 3),
        "models": {name: msgspec.to_builtins(speed) for name, speed in drill.speeds.items()},
        "without_contract": [target.name for target in without_contract(drill)],
        "notes": {target.name: target.notes for target in drill.targets if target.notes},
        "rows": [_row(row) for row in drill.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    found = Counter(run.verdict.end for run in row.runs)
    return {
        "feature": row.target.name,
        "model": row.target.first,
        "fault": row.fault.name,
        "mode": row.mode,
        "met": row.met,
        "deadline": row.deadline,
        "kept": row.verdict.kept,
        "verdict": row.verdict.text,
        "calls": len(row.runs),
        "ends": {end: found[end] for end in ENDS if found[end]},
        **_run(row.shown),
    }


def _run(run: Run) -> dict[str, Any]:
    seen = run.seen
    return {
        "end": run.verdict.end,
        "note": run.verdict.note,
        "took": round(seen.took, 3),
        "status": seen.status,
        "answered_by": seen.model if run.verdict.end == "answered" else None,
        "error": seen.error,
        "message": seen.message,
        "finish": seen.finish,
        "text": seen.text,
        "first_token": _rounded(seen.first_token),
        "longest_gap": _rounded(seen.longest_gap),
        "resets": seen.resets,
        "objects": len(seen.objects),
        "repairs": run.repairs,
        "tokens": tokens(run.attempts),
        "attempts": [_attempt(attempt) for attempt in run.attempts],
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "model": attempt.model,
        "reason": attempt.reason,
        "started": attempt.started_us / 1e6,
        "took": attempt.duration_us / 1e6,
        "first_token": None if attempt.first_token_us is None else attempt.first_token_us / 1e6,
        "error": attempt.error,
        "message": attempt.message,
        "tokens": tokens([attempt]),
        "estimated": attempt.estimated,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
