"""Spans and metrics, as an OTLP/HTTP receiver gets them."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from holdfast.errors import ConfigError
from holdfast.events import Snapshot
from holdfast.log.base import LogSettings
from holdfast.log.memory import MemoryLog
from holdfast.log.telemetry import Telemetry, TelemetrySettings
from holdfast.log.writer import LogWriter
from holdfast.settings import Duration, Secret
from log_samples import ATTEMPT, LEDGER, START_US, USAGE, make_call


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, Any]] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(plain(resource.resource.attributes))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics.update(
                    {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
                )


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        self.server.bodies.append(body)
        self.server.take(self.path, body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def plain(attributes: Any) -> dict[str, Any]:
    values = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        values[attribute.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return values


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(receiver: Receiver, **changes: Any) -> TelemetrySettings:
    return TelemetrySettings(endpoint=f"http://127.0.0.1:{receiver.server_port}/", **changes)


def export(receiver: Receiver, *calls: Any, **changes: Any) -> Receiver:
    telemetry = Telemetry(settings(receiver, **changes))
    telemetry(calls)
    telemetry.close()
    return receiver


def test_a_call_is_a_span_with_a_child_for_each_attempt(receiver: Receiver) -> None:
    export(receiver, make_call(session="s1", subject="feed", tags={"team": "kelp"}, stream=True))
    spans = {span.name: span for span in receiver.spans}
    call, failed, answered = spans["chat answer"], spans["chat house"], spans["chat gpt"]
    assert not call.parent_span_id
    assert failed.parent_span_id == answered.parent_span_id == call.span_id
    assert (call.kind, failed.kind) == (2, 3)
    assert (call.start_time_unix_nano, call.end_time_unix_nano) == (START_US * 1000, (START_US + 812_345) * 1000)
    assert answered.start_time_unix_nano == (START_US + 120) * 1000
    assert answered.end_time_unix_nano == (START_US + 120 + 811_000) * 1000
    assert plain(call.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "answer",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gpt-5-mini-2025-08-07",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.conversation.id": "s1",
        "http.response.status_code": 200,
        "holdfast.call": make_call().id,
        "holdfast.config": "0123456789abcdef",
        "holdfast.wire": "openai",
        "holdfast.feature": "answer",
        "holdfast.model": "gpt",
        "holdfast.outcome": "answered",
        "holdfast.attempts": 2,
        "holdfast.subject": "feed",
        "holdfast.cost_usd": 0.000123456,
        "holdfast.tag.team": "kelp",
    }
    assert plain(answered.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.response.model": "gpt-5-mini-2025-08-07",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.299,
        "gen_ai.conversation.id": "s1",
        "gen_ai.usage.input_tokens": 500,
        "gen_ai.usage.output_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "http.response.status_code": 200,
        "holdfast.model": "gpt",
        "holdfast.reason": "first",
        "holdfast.cost_usd": 0.000123456,
    }


def test_a_span_tells_how_its_answer_came_to_meet_its_contract(receiver: Receiver) -> None:
    broken = msgspec.structs.replace(ATTEMPT, error="contract_violated", saved_tokens=40, ignored=True)
    mended = msgspec.structs.replace(ATTEMPT, model="mended", reason="reask")
    call = make_call(
        contract="Answer", repairs=3, ledger=LEDGER, replayed="01CALL", samples=5, agreement=0.8,
        attempts=(broken, mended),
    )  # fmt: skip
    export(receiver, call)
    attributes = {span.name: plain(span.attributes) for span in receiver.spans}
    whole, first, second = [attributes[name] for name in ("chat answer", "chat gpt", "chat mended")]
    assert whole["holdfast.contract"] == "Answer"
    assert (whole["holdfast.repairs"], whole["holdfast.replayed"]) == (3, "01CALL")
    assert (whole["holdfast.samples"], whole["holdfast.agreement"]) == (5, 0.8)
    assert (first["holdfast.saved_tokens"], first["holdfast.constraint_ignored"]) == (40, True)
    assert (first["holdfast.reason"], second["holdfast.reason"]) == ("first", "reask")
    assert not {"holdfast.saved_tokens", "holdfast.constraint_ignored"} & set(second)
    assert not [body for body in receiver.bodies if b"kelp" in body]


def test_errors_are_marked_where_they_happened(receiver: Receiver) -> None:
    export(receiver, make_call(outcome="error", error="overloaded", message="busy"))
    spans = {span.name: span for span in receiver.spans}
    codes = {name: (span.status.code, plain(span.attributes).get("error.type")) for name, span in spans.items()}
    assert codes == {"chat answer": (2, "overloaded"), "chat house": (2, "overloaded"), "chat gpt": (0, None)}


def test_metrics_have_the_names_units_and_bounds_of_the_conventions(receiver: Receiver) -> None:
    export(receiver, make_call(1, stream=True), make_call(2, stream=True), make_call(3, usage=None, attempts=()))
    assert {name: metric.unit for name, metric in receiver.metrics.items()} == {
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "holdfast.call.duration": "s",
    }
    points = {
        plain(point.attributes)["gen_ai.token.type"]: point
        for point in receiver.metrics["gen_ai.client.token.usage"].histogram.data_points
    }
    assert {kind: point.sum for kind, point in points.items()} == {"input": 1000, "output": 600}
    assert list(points["input"].explicit_bounds) == [4**n for n in range(14)]
    durations = receiver.metrics["gen_ai.client.operation.duration"].histogram.data_points
    by_error = {plain(point.attributes).get("error.type"): point.count for point in durations}
    assert by_error == {None: 2, "overloaded": 2}
    (first_chunk,) = receiver.metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
    assert first_chunk.sum == pytest.approx(0.598)
    (calls,) = receiver.metrics["holdfast.call.duration"].histogram.data_points
    assert calls.count == 3


def test_no_body_is_exported(receiver: Receiver) -> None:
    export(receiver, make_call(), Snapshot(hash="h", at_us=1, files={"prompt.md": "kelp secret"}))
    assert receiver.bodies
    assert not [body for body in receiver.bodies if b"kelp" in body or b"rock" in body]


def test_settings_reach_the_receiver(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECEIVER_KEY", "k-1")
    export(receiver, make_call(), headers={"x-key": Secret(env="RECEIVER_KEY"), "x-b": "2"}, service_name="desk")
    assert {(headers["x-key"], headers["x-b"]) for headers in receiver.headers} == {("k-1", "2")}
    assert receiver.resources[0]["service.name"] == "desk"


def test_the_writer_feeds_it(receiver: Receiver) -> None:
    telemetry = Telemetry(settings(receiver))
    writer = LogWriter(MemoryLog(), LogSettings(), [telemetry])
    writer.append(make_call())
    writer.close()
    telemetry.close()
    assert len(receiver.spans) == 3


def test_a_receiver_that_is_away_harms_nothing_and_closing_ends_in_time() -> None:
    gone = TelemetrySettings(endpoint="http://127.0.0.1:9", timeout=Duration(0.2), interval=Duration(60))
    telemetry = Telemetry(gone)
    telemetry([make_call(n, usage=USAGE) for n in range(10)])
    closing = threading.Thread(target=telemetry.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r'telemetry: needs the extra `otel`: pip install -e "\.\[otel\]"'):
        Telemetry(TelemetrySettings(endpoint="http://127.0.0.1:9"))


def test_every_secret_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    headers: dict[str, str | Secret] = {"a": Secret(env="HOLDFAST_NO_SUCH"), "b": Secret(file="missing")}
    with pytest.raises(ConfigError) as caught:
        Telemetry(TelemetrySettings(endpoint="http://127.0.0.1:9", headers=headers), tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["telemetry.headers.a", "telemetry.headers.b"]


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://host", "http://"])
def test_an_endpoint_must_be_an_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        TelemetrySettings(endpoint=endpoint)
