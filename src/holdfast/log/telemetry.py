"""Calls as OpenTelemetry spans and metrics, exported to an OTLP endpoint in the background.

The names are those of the semantic conventions for generative AI
(github.com/open-telemetry/semantic-conventions-genai), and `holdfast.*` for what they don't know. Neither bodies nor
messages of errors, which may quote them, are exported.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from holdfast.chat import Usage
from holdfast.errors import ConfigError, Problem
from holdfast.events import AnyEvent, Attempt, Call
from holdfast.settings import Duration, Secret, Settings

SCOPE = "holdfast"
PROVIDERS = {
    "azure": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}
"""The conventions' names of providers, where they differ from ours."""

_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_TOKENS = [4**n for n in range(14)]
_QUEUE, _BATCH = 16_384, 512

Attributes = dict[str, Any]


class TelemetrySettings(Settings, frozen=True, kw_only=True):
    """[telemetry]: where spans and metrics are sent. Needs the extra `otel`."""

    endpoint: str
    """The base address of an OTLP/HTTP receiver, such as "http://localhost:4318"."""
    headers: dict[str, str | Secret] = {}
    """Headers to send along, such as an API key of the receiver."""
    service_name: str = "holdfast"
    """The name under which the receiver shows this gateway."""
    interval: Duration = Duration(10)
    """How often metrics are exported; spans leave after half of it at the latest."""
    timeout: Duration = Duration(10)
    """How long one export may take, retries included."""

    def __post_init__(self) -> None:
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise ValueError(f'expected an address such as "http://localhost:4318", got {self.endpoint!r}')


class Telemetry:
    """A subscriber of the log's writer. What the receiver does not take in time is dropped, and the SDK says so.

    `base` is the directory that files of secrets are relative to.

    Raises:
        ConfigError: the extra is not installed, or a secret can't be read.
    """

    def __init__(self, settings: TelemetrySettings, base: Path = Path()) -> None:
        try:  # an extra, loaded only where it is configured
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            reason = f'needs the extra `otel`: pip install -e ".[otel]" in the checkout of Holdfast ({error})'
            raise ConfigError([_problem("", reason)]) from error
        endpoint, headers = settings.endpoint.rstrip("/"), _headers(settings, base)
        options: Any = {"headers": headers, "timeout": settings.timeout}
        spans = OTLPSpanExporter(f"{endpoint}/v1/traces", **options)
        metrics = OTLPMetricExporter(f"{endpoint}/v1/metrics", **options)
        resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": version("holdfast"),
                "service.instance.id": str(uuid4()),
            }
        )
        delay = settings.interval * 1000
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracers.add_span_processor(BatchSpanProcessor(spans, _QUEUE, delay / 2, _BATCH))
        reader = PeriodicExportingMetricReader(metrics, delay, settings.timeout * 1000)
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._tracer = self._tracers.get_tracer(SCOPE, version("holdfast"))
        self._instruments()

    def _instruments(self) -> None:
        meter = self._meters.get_meter(SCOPE, version("holdfast"))
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time to receive the first chunk.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._calls = meter.create_histogram(
            "holdfast.call.duration",
            unit="s",
            description="Duration of a call with all its attempts.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def __call__(self, batch: Sequence[AnyEvent]) -> None:
        for event in batch:
            if not isinstance(event, Call):
                continue
            if event.store != "none":
                self._trace(event)
            self._measure(event)

    def close(self) -> None:
        """Export what is left, within the settings' timeout."""
        self._tracers.shutdown()
        self._meters.shutdown()

    def _trace(self, call: Call) -> None:
        from opentelemetry import trace

        span = self._tracer.start_span(
            f"{call.kind} {call.name}",
            kind=trace.SpanKind.SERVER,
            attributes=call_attributes(call),
            start_time=call.at_us * 1000,
        )
        parent = trace.set_span_in_context(span)
        for attempt in call.attempts:
            start_us = call.at_us + attempt.started_us
            child = self._tracer.start_span(
                f"{_kind(call, attempt)} {attempt.model}",
                parent,
                kind=trace.SpanKind.CLIENT,
                attributes=attempt_attributes(call, attempt),
                start_time=start_us * 1000,
            )
            if attempt.error is not None and attempt.error != "cancelled":
                child.set_status(trace.StatusCode.ERROR, attempt.error)
            child.end((start_us + attempt.duration_us) * 1000)
        if call.outcome == "error":
            span.set_status(trace.StatusCode.ERROR, call.error)
        span.end((call.at_us + call.duration_us) * 1000)

    def _measure(self, call: Call) -> None:
        self._calls.record(call.duration_us / 1e6, {"holdfast.name": call.name, "holdfast.outcome": call.outcome})
        for attempt in call.attempts:
            attributes = _operation(call, attempt)
            if attempt.usage is not None:
                self._tokens.record(attempt.usage.input_tokens, attributes | {"gen_ai.token.type": "input"})
                self._tokens.record(attempt.usage.output_tokens, attributes | {"gen_ai.token.type": "output"})
            if call.stream and attempt.first_token_us is not None:
                self._first_chunk.record(attempt.first_token_us / 1e6, attributes)
            if attempt.error is not None:
                attributes["error.type"] = attempt.error
            self._duration.record(attempt.duration_us / 1e6, attributes)


def call_attributes(call: Call) -> Attributes:
    """Return the attributes of a call's span. Usage stands on its attempts alone, so that no sum counts it twice."""
    return _known(
        {
            "gen_ai.operation.name": call.kind,
            "gen_ai.request.model": call.name,
            "gen_ai.request.stream": call.stream,
            "gen_ai.response.model": call.served_model,
            "gen_ai.response.finish_reasons": None if call.finish is None else [call.finish],
            "gen_ai.conversation.id": call.session,
            "error.type": call.error,
            "http.response.status_code": call.status,
            "holdfast.call": call.id,
            "holdfast.config": call.config,
            "holdfast.wire": call.wire,
            "holdfast.feature": call.feature,
            "holdfast.model": call.model,
            "holdfast.outcome": call.outcome,
            "holdfast.attempts": len(call.attempts),
            "holdfast.subject": call.subject,
            "holdfast.cost_usd": _dollars(call.cost_nanousd),
            "holdfast.contract": call.contract,
            "holdfast.repairs": None if call.contract is None else call.repairs,
            "holdfast.replayed": call.replayed,
            "holdfast.samples": call.samples,
            "holdfast.agreement": call.agreement,
            **{f"holdfast.tag.{key}": value for key, value in call.tags.items()},
        }
    )


def attempt_attributes(call: Call, attempt: Attempt) -> Attributes:
    """Return the attributes of an attempt's span."""
    first_token = attempt.first_token_us if call.stream else None
    return _operation(call, attempt) | _known(
        {
            "gen_ai.request.stream": call.stream,
            "gen_ai.response.time_to_first_chunk": None if first_token is None else first_token / 1e6,
            "gen_ai.conversation.id": call.session,
            "error.type": attempt.error,
            "http.response.status_code": attempt.provider_status,
            "holdfast.model": attempt.model,
            "holdfast.reason": attempt.reason,
            "holdfast.saved_tokens": attempt.saved_tokens or None,
            "holdfast.constraint_ignored": attempt.ignored or None,
            "holdfast.cost_usd": _dollars(attempt.cost_nanousd),
            **_usage_attributes(attempt.usage),
        }
    )


def _operation(call: Call, attempt: Attempt) -> Attributes:
    return _known(
        {
            "gen_ai.operation.name": _kind(call, attempt),
            "gen_ai.provider.name": PROVIDERS.get(attempt.provider, attempt.provider),
            "gen_ai.request.model": attempt.model,
            "gen_ai.response.model": attempt.served_model,
        }
    )


def _kind(call: Call, attempt: Attempt) -> str:
    return "embeddings" if attempt.reason == "examples" else call.kind


def _usage_attributes(usage: Usage | None) -> Attributes:
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _dollars(nanousd: int | None) -> float | None:
    return None if nanousd is None else nanousd / 1e9


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _headers(settings: TelemetrySettings, base: Path) -> Mapping[str, str]:
    headers, problems = {}, []
    for name, value in settings.headers.items():
        try:
            headers[name] = value.reveal(base) if isinstance(value, Secret) else value
        except ValueError as error:
            problems.append(_problem(f".headers.{name}", str(error)))
    if problems:
        raise ConfigError(problems)
    return headers


def _problem(key: str, message: str) -> Problem:
    return Problem(file="holdfast.toml", line=0, key=f"telemetry{key}", message=message)
