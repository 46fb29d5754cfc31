"""`/metrics`: the totals of the log in the Prometheus text format, so that every worker tells the same."""

from collections.abc import Iterable, Sequence

from holdfast.log.base import DURATION_BOUNDS_S, Total

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(totals: Sequence[Total], queue: int) -> bytes:
    """Return the page. `queue` is how many calls of the worker that answers still wait for the disk."""
    lines: list[str] = []
    for name, kind, help, samples in (
        ("holdfast_calls_total", "counter", "Calls by outcome.", _counts(totals, "calls")),
        (
            "holdfast_attempts_total",
            "counter",
            "Requests to models, by the call they were for.",
            _counts(totals, "attempts"),
        ),
        ("holdfast_tokens_total", "counter", "Tokens as the providers counted them.", _tokens(totals)),
        ("holdfast_cost_usd_total", "counter", "Cost in US dollars of the calls whose cost is known.", _cost(totals)),
        ("holdfast_unpriced_calls_total", "counter", "Calls whose cost is unknown.", _counts(totals, "unpriced")),
        ("holdfast_call_duration_seconds", "histogram", "From arrival to the last byte.", _durations(totals)),
        ("holdfast_log_queue_calls", "gauge", "Calls that wait for the disk.", [("", queue)]),
    ):
        lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value}" for labels, value in samples]
    return ("\n".join(lines) + "\n").encode()


def _labels(total: Total, **more: str) -> str:
    pairs = {"name": total.name, "model": total.model, "outcome": total.outcome, "error": total.error} | more
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in pairs.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _counts(totals: Iterable[Total], field: str) -> list[tuple[str, object]]:
    return [(_labels(total), getattr(total, field)) for total in totals]


def _tokens(totals: Iterable[Total]) -> list[tuple[str, object]]:
    kinds = ("input", "output", "cache_read")
    return [(_labels(total, type=kind), getattr(total, f"{kind}_tokens")) for total in totals for kind in kinds]


def _cost(totals: Iterable[Total]) -> list[tuple[str, object]]:
    return [(_labels(total), f"{total.cost_nanousd / 1e9:.9f}") for total in totals]


def _durations(totals: Iterable[Total]) -> list[tuple[str, object]]:
    samples: list[tuple[str, object]] = []
    for total in totals:
        running = 0
        for bound, count in zip((*DURATION_BOUNDS_S, "+Inf"), total.buckets, strict=True):
            running += count
            samples.append(("_bucket" + _labels(total, le=str(bound)), running))
        samples.append(("_sum" + _labels(total), total.duration_us / 1e6))
        samples.append(("_count" + _labels(total), total.calls))
    return samples
