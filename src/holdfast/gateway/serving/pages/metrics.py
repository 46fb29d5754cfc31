"""`/metrics`: the totals of the log and the health of models, in the Prometheus text format.

Nearly all is the same in every worker.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from holdfast.errors import ContractViolated
from holdfast.gateway.traffic.health import Health
from holdfast.log.base import DURATION_BOUNDS_S, AttemptTotal, Spend, Total

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


def render(
    totals: Sequence[Total],
    attempts: Sequence[AttemptTotal],
    queue: int,
    healths: Mapping[str, Health],
    *,
    spends: Sequence[Spend] = (),
    lost: int = 0,
    reload_failed: bool = False,
    refused: Mapping[str, int] = {},
) -> bytes:
    """Return the page. Of the worker that answers, `queue` calls wait for the disk, and `lost` never got there.

    `refused` counts the calls that all workers turned away, by reason; `spends` tell what tenants spent.
    """
    series = (
        *_traffic(totals, attempts),
        *_contracts(totals, attempts),
        *_spending(spends),
        *_gateway(queue, lost, refused, reload_failed),
        *_healths(healths),
    )
    lines: list[str] = []
    for name, kind, help, samples in series:
        lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value}" for labels, value in samples]
    return ("\n".join(lines) + "\n").encode()


_Series = tuple[str, str, str, list[tuple[str, object]]]


def _traffic(totals: Sequence[Total], attempts: Sequence[AttemptTotal]) -> list[_Series]:
    return [
        ("holdfast_calls_total", "counter", "Calls by outcome.", _counts(totals, "calls")),
        ("holdfast_attempts_total", "counter", "Requests to models, by their error.", _attempts(attempts)),
        (
            "holdfast_attempt_duration_seconds",
            "summary",
            "From the start of an attempt to its end.",
            _attempt_durations(attempts),
        ),
        ("holdfast_tokens_total", "counter", "Tokens as the providers counted them.", _tokens(totals)),
        ("holdfast_cost_usd_total", "counter", "Cost in US dollars of the calls whose cost is known.", _cost(totals)),
        ("holdfast_unpriced_calls_total", "counter", "Calls whose cost is unknown.", _counts(totals, "unpriced")),
        ("holdfast_call_duration_seconds", "histogram", "From arrival to the last byte.", _durations(totals)),
    ]


def _spending(spends: Sequence[Spend]) -> list[_Series]:
    sums: dict[tuple[str, str, str], list[int]] = {}
    for spend in spends:
        taken = sums.setdefault((spend.tenant, spend.name, spend.model), [0, 0, 0])
        for place, amount in enumerate((spend.cost_nanousd, spend.input_tokens, spend.output_tokens)):
            taken[place] += amount
    dollars: list[tuple[str, object]] = []
    tokens: list[tuple[str, object]] = []
    for (tenant, feature, model), (cost, *counts) in sums.items():
        labels = {"tenant": tenant, "feature": feature, "model": model}
        dollars.append((_set(labels), f"{cost / 1e9:.9f}"))
        tokens += [
            (_set(labels | {"type": kind}), count) for kind, count in zip(("input", "output"), counts, strict=True)
        ]
    return [
        ("holdfast_spend_usd_total", "counter", "What attempts cost in US dollars, where it is known.", dollars),
        ("holdfast_spend_tokens_total", "counter", "Tokens of attempts as the providers counted them.", tokens),
    ]


def _gateway(queue: int, lost: int, refused: Mapping[str, int], reload_failed: bool) -> list[_Series]:
    return [
        (
            "holdfast_refused_total",
            "counter",
            "Calls that were turned away, as there was no place for them, or they brought no valid key.",
            [(_set({"reason": reason}), count) for reason, count in refused.items()],
        ),
        ("holdfast_log_queue_calls", "gauge", "Calls that wait for the disk.", [("", queue)]),
        ("holdfast_log_events_lost_total", "counter", "Events that the log could not take.", [("", lost)]),
        (
            "holdfast_config_reload_failed",
            "gauge",
            "1 while the configuration in force is older than its files, because those are wrong.",
            [("", int(reload_failed))],
        ),
    ]


def _contracts(totals: Sequence[Total], attempts: Sequence[AttemptTotal]) -> list[_Series]:
    violated = [total for total in attempts if total.error == ContractViolated.code]

    def of_calls(name: str, help: str, field: str) -> _Series:
        return name, "counter", help, _sums(totals, ("name", "model"), field)

    def of_attempts(name: str, help: str, field: str, among: Sequence[AttemptTotal] = attempts) -> _Series:
        return name, "counter", help, _sums(among, ("model",), field)

    return [
        of_attempts("holdfast_contract_violations_total", "Answers that broke their contract.", "attempts", violated),
        of_calls("holdfast_repaired_calls_total", "Calls whose answer needed repairs.", "repaired"),
        of_calls("holdfast_repairs_total", "Changes that answers needed to meet their contract.", "repairs"),
        of_attempts("holdfast_reasks_total", "Requests to models to mend their answer.", "reasks"),
        of_calls("holdfast_replayed_total", "Calls whose answer was that of another call, given again.", "replayed"),
        of_attempts(
            "holdfast_saved_tokens_total",
            "About how many tokens were not generated, as their answer could not be right any more.",
            "saved_tokens",
        ),
        of_attempts(
            "holdfast_constraints_ignored_total",
            "Answers that broke a constraint which their server had accepted.",
            "ignored",
        ),
    ]


def _healths(healths: Mapping[str, Health]) -> list[_Series]:
    def series(name: str, kind: str, help: str, value: Callable[[Health], int]) -> _Series:
        return name, kind, help, [(_set({"model": model}), value(health)) for model, health in healths.items()]

    return [
        series("holdfast_model_down", "gauge", "1 while the breaker is open.", lambda one: int(one.breaker.open)),
        series("holdfast_model_attempts", "gauge", "Attempts under way.", Health.outstanding),
        series(
            "holdfast_probes_total", "counter", "Attempts on models known to be down.", lambda one: one.breaker.probes
        ),
        series("holdfast_retries_total", "counter", "Attempts that tried a model again.", lambda one: one.retried),
        series(
            "holdfast_hedges_total",
            "counter",
            "Attempts on others, as it was late.",
            lambda one: one.hedged,
        ),
    ]


def _labels(total: Total, **more: str) -> str:
    pairs = {"name": total.name, "model": total.model, "outcome": total.outcome, "error": total.error}
    return _set(pairs | more)


def _attempt_labels(total: AttemptTotal) -> str:
    return _set({"model": total.model, "error": total.error})


def _set(pairs: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escape(value)}"' for key, value in pairs.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _sums(totals: Iterable[Total | AttemptTotal], keys: Sequence[str], field: str) -> list[tuple[str, object]]:
    """Sum over all that has the same `keys`."""
    sums: dict[str, int] = {}
    for total in totals:
        labels = _set({key: getattr(total, key) for key in keys})
        sums[labels] = sums.get(labels, 0) + getattr(total, field)
    return list(sums.items())


def _counts(totals: Iterable[Total], field: str) -> list[tuple[str, object]]:
    return [(_labels(total), getattr(total, field)) for total in totals]


def _attempts(totals: Iterable[AttemptTotal]) -> list[tuple[str, object]]:
    return [(_attempt_labels(total), total.attempts) for total in totals]


def _attempt_durations(totals: Iterable[AttemptTotal]) -> list[tuple[str, object]]:
    samples: list[tuple[str, object]] = []
    for total in totals:
        samples.append(("_sum" + _attempt_labels(total), total.duration_us / 1e6))
        samples.append(("_count" + _attempt_labels(total), total.attempts))
    return samples


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
