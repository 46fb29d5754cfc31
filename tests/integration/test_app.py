"""What the composition root wires together, that no part can show alone."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import holdfast
from guarded import ask, bearer, guarded
from holdfast.app import App
from holdfast.config import load, parse
from holdfast.errors import ConfigError, LogError, PrivacyError

CONFIG = """
[models.primary]
provider = "simulated"
name     = "sim-down"

[models.backup]
provider = "simulated"
name     = "sim-echo"

[features.answer]
models = ["primary", "backup"]

[telemetry]
endpoint     = "http://127.0.0.1:{port}"
service_name = "kelp"
"""


class Receiver(ThreadingHTTPServer):
    """Keeps the spans that it is sent, by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: dict[str, object] = {}


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.server.spans |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_configured_receiver_gets_a_span_for_each_call_and_attempt(tmp_path, receiver):
    (tmp_path / "holdfast.toml").write_text(CONFIG.format(port=receiver.server_port))
    async with holdfast.open(tmp_path / "holdfast.toml") as h:
        assert (await h.chat("answer", "How deep is the kelp?")).text == "How deep is the kelp?"
    assert sorted(receiver.spans) == ["chat answer", "chat backup", "chat primary"]
    call = receiver.spans["chat answer"]
    assert {span.parent_span_id for name, span in receiver.spans.items() if name != "chat answer"} == {call.span_id}


async def test_what_fails_half_way_leaves_nothing_open(tmp_path):
    (tmp_path / "holdfast.toml").write_text(CONFIG.partition("[telemetry]")[0])
    (tmp_path / ".holdfast").mkdir()
    (tmp_path / ".holdfast" / "subject.key").write_bytes(b"too short")
    before = {thread.ident for thread in threading.enumerate()}
    with pytest.raises(LogError, match="has 9 bytes instead of 32"):
        async with holdfast.open(tmp_path / "holdfast.toml"):
            pytest.fail("it opened")
    after = [thread.name for thread in threading.enumerate() if thread.ident not in before]
    assert [name for name in after if name == "holdfast-log"] == []
    assert not (tmp_path / ".holdfast" / "log.db-wal").exists()  # the last connection takes it along


async def test_a_key_that_can_not_be_used_leaves_nothing_open(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "fine")
    text = '[models.m]\nprovider = "openai"\napi_key = { env = "SOME_KEY" }\n'
    (tmp_path / "holdfast.toml").write_text(text)
    configuration = load(tmp_path / "holdfast.toml")
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigError, match=r"models\.m: environment variable SOME_KEY is not set"):
        async with App(configuration):
            pytest.fail("it opened")
    assert "holdfast-log" not in [thread.name for thread in threading.enumerate()]


MODELS = """
[models.listed]
provider = "openai"
name     = "gpt-4o"
api_key  = {{ env = "OTHER_KEY" }}
price    = {{ input = 1.0, output = 2.0 }}

[models.told]
provider = "openai"
name     = "gpt-4o"
api_key  = {{ env = "OTHER_KEY" }}
context  = 9000

[models.own]
provider    = "openai"
base_url    = "http://127.0.0.1:9/v1"
name        = "house-8b"
concurrency = {limit}
"""


async def test_models_have_a_health_that_outlives_reloads_and_the_context_that_is_known_of_them(tmp_path, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "fine")
    path = tmp_path / "holdfast.toml"
    path.write_text(MODELS.format(limit=4))
    async with App(load(path)) as app:
        before = app.pipeline.catalog
        assert {name: model.context for name, model in before.models.items()} == {
            "listed": 128_000,
            "told": 9000,
            "own": None,
        }
        assert before.models["own"].health.gate is not None
        path.write_text(MODELS.format(limit=5))
        await app.reload(load(path))
        after = app.pipeline.catalog
        same = {name: after.models[name].health is model.health for name, model in before.models.items()}
        assert same == {"listed": True, "told": True, "own": False}


async def test_a_reload_that_fails_changes_nothing_of_what_is_known_of_models(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "fine")
    monkeypatch.setenv("OTHER_KEY", "fine")
    path = tmp_path / "holdfast.toml"
    path.write_text(MODELS.format(limit=4))
    async with App(load(path)) as app:
        before = app.pipeline.catalog
        path.write_text(MODELS.format(limit=5) + 'api_key = { env = "SOME_KEY" }\n')
        wrong = load(path)
        monkeypatch.delenv("SOME_KEY")
        with pytest.raises(ConfigError, match="SOME_KEY is not set"):
            await app.reload(wrong)
        assert app.pipeline.catalog is before
        path.write_text(MODELS.format(limit=4))
        await app.reload(load(path))
        assert app.pipeline.catalog.models["own"].health is before.models["own"].health


HOUSE = """
[models.house]
provider = "openai"
base_url = "http://{host}:8000/v1"
"""


async def test_a_reload_that_can_not_be_recorded_leaves_the_old_hosts_reachable_and_no_others(tmp_path, monkeypatch):
    old, new = [parse({"holdfast.toml": HOUSE.format(host=host)}, tmp_path) for host in ("old.example", "new.example")]
    async with App(old, audited=True) as app:
        before, egress = app.pipeline.catalog, app.catalogs.egress

        def full(*_: object, **__: object) -> None:
            raise PrivacyError("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(app.custody.trail, "append", full)
            with pytest.raises(PrivacyError):
                await app.reload(new)
        assert app.pipeline.catalog is before
        assert (egress.allows("old.example"), egress.allows("new.example")) == (True, False)
        await app.reload(new)
        assert (egress.allows("old.example"), egress.allows("new.example")) == (False, True)


async def test_what_is_learnt_late_of_keys_does_not_stay(tmp_path, monkeypatch):
    async with guarded(tmp_path) as found:
        late, release, to_thread = asyncio.Event(), asyncio.Event(), asyncio.to_thread

        async def slow(work, *arguments, **named):
            result = await to_thread(work, *arguments, **named)
            if asyncio.current_task() is first:
                late.set()
                await release.wait()
            return result

        monkeypatch.setattr(asyncio, "to_thread", slow)
        token, key = found.keys.create(tenant="acme", role="admin")
        first = asyncio.ensure_future(found.app.custody.refresh())
        await late.wait()
        found.keys.revoke(key.id)
        await found.app.custody.refresh()
        release.set()
        await first
        await found.app.custody.refresh()
        assert (await ask(found.gateway, "GET", "/v1/models", bearer(token))).status == 401
