"""Planted secrets are found where they must be, in what providers are sent, and nowhere else."""

import base64
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from backports import zstd
from click.testing import CliRunner

from acceptance.echoing import WAYS, Echo, echoing
from acceptance.gateways import Gateway, running_gateway
from acceptance.processes import soon
from holdfast.app.catalogs import UPSTREAMS
from holdfast.cli import main
from holdfast.config import load
from holdfast.privacy.sealing.master import MasterKey, MasterKeySettings
from holdfast.providers.known import resolve
from holdfast.providers.simulated import RunningSimulator
from integration.log.test_telemetry import Receiver
from planted import Search, plant, unpacked

WIRES = ("openai", "anthropic", "google")
KEYS = ('{ env = "PROVIDER_KEY" }', '{ file = "key.txt" }', '{ env = "PLAIN_KEY" }')
"""Of each wire."""
SECONDS = 20.0
NOISY = """
import logging

logging.basicConfig(level=1, format="%(name)s %(message)s")
logging.Logger.isEnabledFor = lambda *_: True  # whatever anybody would ever say
"""
"""Runs at the start of every process."""
FAILING = """
def raising(request, code):
    raise RuntimeError("the last resort has a bug")
"""


class Plant:
    """The secrets of a gateway, and what its callers bring."""

    def __init__(self) -> None:
        self.master = secrets.token_bytes(32)
        self.environment = {
            "PROVIDER_KEY": plant("sk-planted-"),
            "PLAIN_KEY": plant(),
            "TEAM_TOKEN": plant(),
            "COLLECTOR_KEY": plant(),
            "MASTER_KEY": base64.b64encode(self.master).decode(),
        }
        self.file = plant("sk-ant-")
        self.password, self.wrong_password = plant(), plant()
        self.strange = {name: plant() for name in ("authorization", "x-api-key", "cookie")}
        self.tokens: dict[str, str] = {}
        """Keys and sessions, once they are made."""
        self.marker = plant()
        """No secret: what is asked. It stands in the log, so that the search is known to look there."""

    @property
    def ours(self) -> dict[str, str | bytes]:
        """What is the gateway's own."""
        return {**self.environment, "file": self.file, "master key": self.master}

    @property
    def callers(self) -> dict[str, str | bytes]:
        """What callers bring."""
        strange = {f"strange {name}": value for name, value in self.strange.items()}
        return {**self.tokens, "password": self.password, "wrong password": self.wrong_password, **strange}


@dataclass
class Scene:
    """A gateway that has met everything and is gone, and what is left of it."""

    planted: Plant
    directory: Path
    echo: Echo
    collector: Receiver
    providers: RunningSimulator
    said: dict[str, bytes] = field(default_factory=dict)
    """What came of it to anybody, by where it came from."""
    statuses: list[int] = field(default_factory=list)
    """Of what callers were answered."""

    def search(self) -> Search:
        return Search({**self.planted.ours, **self.planted.callers})


def configuration(echo: Echo, providers: RunningSimulator, collector: Receiver) -> str:
    """Return models that work, and those that fail in every way, on each wire."""
    models = []
    for wire, key in zip(WIRES, KEYS, strict=True):
        addresses = {f"{wire}-{way}": f"{echo.url}/{way}" for way in WAYS} | {f"{wire}-well": providers.url(wire)}
        for name, address in addresses.items():
            models.append(
                f'[models.{name}]\nprovider = "{wire}"\nname = "m"\nbase_url = "{address}"\napi_key = {key}\n'
                'headers = { x-team-token = { env = "TEAM_TOKEN" } }\nbreaker = false\n'
                'timeouts = { connect = "300ms", first_token = "300ms", idle = "300ms", answer = "300ms" }\n'
            )
    return f"""
[gateway]
retry_share = 0.0
[log]
flush_ms = 10
[privacy]
seal = false
master_key = {{ env = "MASTER_KEY" }}
[telemetry]
endpoint = "http://127.0.0.1:{collector.server_port}"
headers = {{ x-collector-token = {{ env = "COLLECTOR_KEY" }} }}
interval = "1s"
{"".join(models)}
[features.broken]
models = ["openai-401", "anthropic-401", "google-401"]
[features.raising]
models = ["openai-500"]
enabled = false
last_resort = {{ function = "failing:raising" }}
"""


@pytest.fixture(scope="module")
def scene(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory, planted = tmp_path_factory.mktemp("planted") / "gateway", Plant()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        scene = Scene(planted, directory, stack.enter_context(echoing()), stack.enter_context(collecting()), simulator)
        noisy = directory.with_name("noisy")
        write(scene, noisy)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(noisy), os.environ.get("PYTHONPATH")])))
        patch.setenv("PYTHONDEVMODE", "1")
        for name, value in planted.environment.items():
            patch.setenv(name, value)
        patch.setattr("acceptance.gateways.PROVIDER_KEY", planted.environment["PROVIDER_KEY"])
        simulator.forget()
        simulator.follow({})
        make_keys(scene)
        config = configuration(scene.echo, simulator, scene.collector)
        with running_gateway(directory, config) as gateway:
            drive(scene, gateway)
            reload_badly(scene, gateway, config)
            ask_commands(scene)
            assert gateway.stop() == 0
            assert gateway.process.stdout is not None
            scene.said["standard output"] = gateway.process.stdout.read().encode()
        scene.said["standard error"] = gateway.stderr.encode()
        ask_commands(scene, after="the end, ")
        yield scene


@contextmanager
def collecting() -> Iterator[Receiver]:
    """Run a receiver of spans and metrics."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def write(scene: Scene, noisy: Path) -> None:
    scene.directory.mkdir(parents=True)
    noisy.mkdir()
    (noisy / "sitecustomize.py").write_text(NOISY)
    (scene.directory / "key.txt").write_text(f"{scene.planted.file}\n")
    (scene.directory / "failing.py").write_text(FAILING)
    (scene.directory / "holdfast.toml").write_text(configuration(scene.echo, scene.providers, scene.collector))


def holdfast(scene: Scene, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "holdfast", *arguments]
    ended = subprocess.run(
        command, cwd=scene.directory, input=typed.encode(), capture_output=True, timeout=60, check=False
    )
    scene.said[f"holdfast {' '.join(arguments)} (errors)"] = ended.stderr
    return ended


def make_keys(scene: Scene) -> None:
    """Make keys and an account. What shows a token, shows it once: that is no leak."""
    planted = scene.planted
    for name, role in (("admin key", "admin"), ("app key", "app"), ("revoked key", "app")):
        made = json.loads(holdfast(scene, "keys", "create", "--tenant", "acme", "--role", role, "--json").stdout)
        planted.tokens[name] = made["token"]
    holdfast(scene, "keys", "revoke", made["id"])
    for name in ("ada", "eve"):
        holdfast(
            scene,
            *("accounts", "create", name, "--role", "admin", "--password-stdin"),
            typed=f"{planted.password}\n",
        )


# --- what happens -----------------------------------------------------------------------------------------------------


class Caller:
    """Asks the gateway, and keeps whatever comes back."""

    def __init__(self, scene: Scene, gateway: Gateway) -> None:
        self.origin = gateway.url
        self._scene = scene
        self._host = urlsplit(gateway.url).netloc

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPMessage:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self._host, timeout=SECONDS)
        data = b"" if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"content-type": "application/json", **named})
        response = connection.getresponse()
        self._scene.statuses.append(response.status)
        own = [("set-cookie", "")] if response.getheader("set-cookie") else []
        told = [(name, value) for name, value in response.getheaders() if name.lower() != "set-cookie"] + own
        place = f"{method} {path} ({len(self._scene.statuses)})"
        self._scene.said[place] = repr(told).encode() + response.read()
        connection.close()
        return response.headers


def drive(scene: Scene, gateway: Gateway) -> None:
    """Be callers of every kind."""
    planted, caller = scene.planted, Caller(scene, gateway)
    bearer = f"Bearer {planted.tokens['admin key']}"
    question = {"messages": [{"role": "user", "content": planted.marker}], "max_tokens": 100}
    models = [f"{wire}-{way}" for wire in WIRES for way in ("well", *WAYS)] + ["broken", "raising"]
    for model in models:
        for stream in (False, True):
            body = {"model": model, "stream": stream, **question}
            caller.ask("POST", "/v1/chat/completions", body, authorization=bearer, x_holdfast_subject="ada")
    key = planted.tokens["app key"]
    for model in ("anthropic-well", "openai-well", "openai-401", "google-in_stream", "broken"):
        body = {"model": model, "stream": "stream" in model, **question}
        caller.ask("POST", "/v1/messages", body, x_api_key=key, x_holdfast_subject="ada", cookie="other=unrelated")
        caller.ask("POST", "/v1/embeddings", {"model": model, "input": planted.marker}, authorization=f"Bearer {key}")
    for path in ("/v1/chat/completions", "/v1/messages", "/api/session"):
        be_strange(caller, planted, "POST", path, {"model": "openai-well", **question})
    for path in ("/metrics", "/api/calls", "/v1/models", "/", "/nowhere"):
        be_strange(caller, planted, "GET", path, None)
    sign_in(caller, planted)
    look(scene, caller, bearer)


def be_strange(caller: Caller, planted: Plant, method: str, path: str, body: object) -> None:
    """Come with credentials that are none."""
    revoked, strange = planted.tokens["revoked key"], planted.strange
    caller.ask(method, path, body, authorization=f"Bearer {revoked}")
    caller.ask(method, path, body, authorization=f"Bearer {strange['authorization']}")
    caller.ask(method, path, body, authorization=f"Basic {strange['authorization']}", x_api_key=strange["x-api-key"])
    caller.ask(method, path, body, x_api_key=strange["x-api-key"], cookie=f"holdfast_session={strange['cookie']}")
    caller.ask(method, path, body, cookie=f"holdfast_session={strange['cookie']}; other={strange['cookie']}")


def sign_in(caller: Caller, planted: Plant) -> None:
    for name, password in (("ada", planted.wrong_password), (planted.password, planted.password), ("ada", 7)):
        caller.ask("POST", "/api/session", {"name": name, "password": password})
    cookies = []
    for name in ("ada", "eve"):
        headers = caller.ask("POST", "/api/session", {"name": name, "password": planted.password})
        cookie = headers["set-cookie"].partition(";")[0]
        planted.tokens[f"session of {name}"] = cookie.partition("=")[2]
        cookies.append(cookie)
    for path in ("/api/session", "/api/calls", "/api/audit"):
        caller.ask("GET", path, cookie=cookies[0])
    caller.ask("DELETE", "/api/session", cookie=cookies[0], origin=caller.origin)


def look(scene: Scene, caller: Caller, bearer: str) -> None:
    """Look at every page, and at every call."""
    pages = ("/", "/readyz", "/healthz", "/openapi.json", "/metrics", "/v1/models", "/api/keys", "/api/spend")
    for path in (*pages, "/api/audit", "/api/calls?limit=1000", "/api/calls/search?text=Incorrect"):
        caller.ask("GET", path, authorization=bearer)
    listed = next(said for place, said in scene.said.items() if place.startswith("GET /api/calls?limit=1000"))
    ids = {call["id"] for call in json.loads(listed[listed.index(b'{"calls"') :])["calls"]}
    for id in sorted(ids):
        caller.ask("GET", f"/api/calls/{id}?bodies=plain", authorization=bearer)


def reload_badly(scene: Scene, gateway: Gateway, config: str) -> None:
    """Paste secrets into the configuration of a gateway that runs."""
    file = scene.directory / "holdfast.toml"
    for number, wrong in enumerate(mistaken(scene.planted, config)):
        file.write_text(wrong)
        gateway.process.send_signal(signal.SIGHUP)
        soon(lambda n=number: gateway.stderr.count("The configuration was not reloaded") > n, 10)
    file.write_text(config)


def mistaken(planted: Plant, config: str) -> list[str]:
    """Return configurations into which somebody has pasted a secret."""
    key, plain = planted.environment["PROVIDER_KEY"], planted.environment["PLAIN_KEY"]
    table = '[models.wrong]\nprovider = "openai"\n'
    return [
        f'{config}{table}api_key = "{key}"\n',
        f'{config}{table}api_key = "{plain}"\n',
        f'{config}{table}api_key = {{ env = "{plain}" }}\n',
        f'{config}{table}api_key = {{ file = "key.txt", value = "{plain}" }}\n',
        f"{config}{table}api_key = {key}\n",
        f'{config}{table}headers = {{ authorization = "Bearer {plain}" }}\n',
        f'{config}{table}headers = {{ x-auth = ["{plain}"] }}\n',
        f'{config}{table}base_url = "https://user:{planted.password}@host/v1"\n',
        f'{config}{table}base_url = "https://host/v1?key={key}"\n',
        f'{config}{table}proxy = "http://user:{planted.password}@host:3128"\n',
        f'{config}{table}query = {{ api_key = "{plain}" }}\n',
        f'{config}{table}name = "{key}"\nnonsense = 1\n',
        config.replace('{ env = "MASTER_KEY" }', f'"{planted.environment["MASTER_KEY"]}"'),
        config.replace('{ env = "MASTER_KEY" }', f'{{ env = "{planted.environment["MASTER_KEY"]}" }}'),
        config.replace('{ env = "COLLECTOR_KEY" }', f'"{planted.environment["COLLECTOR_KEY"]}"'),
    ]


def ask_commands(scene: Scene, after: str = "") -> None:
    """Use the command line."""
    for line in (
        "check",
        "check --json",
        "calls --limit 1000",
        "calls --limit 1000 --json",
        "calls totals --json",
        "calls search Incorrect --json",
        "keys list --json",
        "keys spend --json",
        "accounts list --json",
        "audit list --json",
        "audit verify",
        "export --subject ada --output export.jsonl --json",
    ):
        (scene.directory / "export.jsonl").unlink(missing_ok=True)
        ended = holdfast(scene, *line.split())
        assert ended.returncode == 0, (line, ended.stderr[-2000:])
        scene.said[f"{after}holdfast {line}"] = ended.stdout


# --- what is found ----------------------------------------------------------------------------------------------------


def test_the_secrets_reach_those_whom_they_are_for(scene: Scene):
    sent = [headers for headers, _ in scene.echo.requests]
    planted = scene.planted
    for header, secret in (
        ("authorization", f"Bearer {planted.environment['PROVIDER_KEY']}"),
        ("x-api-key", planted.file),
        ("x-goog-api-key", planted.environment["PLAIN_KEY"]),
    ):
        assert any(headers.get(header) == secret for headers in sent)
    assert all(headers["x-team-token"] == planted.environment["TEAM_TOKEN"] for headers in sent)
    assert {headers["x-collector-token"] for headers in scene.collector.headers} == {
        planted.environment["COLLECTOR_KEY"]
    }


def test_everything_has_happened(scene: Scene):
    assert {200, 400, 401, 429, 502, 503, 504} <= set(scene.statuses)
    assert b"not reloaded" in scene.said["standard error"]
    assert b"the last resort has a bug" in scene.said["standard error"]
    assert scene.collector.spans
    assert len(scene.echo.requests) > 100
    assert (scene.directory / "export.jsonl").stat().st_size > 10_000


def test_what_is_asked_is_found_in_the_log_so_the_search_looks_there(scene: Scene):
    found = Search({"marker": scene.planted.marker}).files(scene.directory)
    assert any(Path(file).name.startswith("log.db") for file in found)
    assert "export.jsonl" in found


def test_no_secret_is_told_to_anybody(scene: Scene):
    search = scene.search()
    found = {place: search.names(said) for place, said in scene.said.items()}
    assert {place: names for place, names in found.items() if names} == {}


def test_no_secret_is_in_any_file(scene: Scene):
    assert scene.search().files(scene.directory, but=[scene.directory / "key.txt"]) == {}


def test_no_secret_is_in_spans_and_metrics(scene: Scene):
    assert [names for body in scene.collector.bodies if (names := scene.search().names(unpacked(body)))] == []


def test_what_callers_bring_never_reaches_a_provider(scene: Scene):
    search = Search(scene.planted.callers)
    for headers, body in scene.echo.requests:
        assert search.names(json.dumps(headers).encode() + body) == set()
        assert not {"cookie", "x-holdfast-subject"} & headers.keys()
    assert scene.providers.requests
    for record in scene.providers.requests:
        assert search.names(repr(record)) == set()
        assert record.header("cookie") is None


def test_nothing_shows_a_secret_that_is_shown_in_a_traceback(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    for name, value in scene.planted.environment.items():
        monkeypatch.setenv(name, value)
    configuration = load(scene.directory / "holdfast.toml")
    models = configuration.config.models.items()
    endpoints = [resolve(name, model, scene.directory) for name, model in models]
    assert endpoints[0].api_key == scene.planted.environment["PROVIDER_KEY"]
    master = MasterKey.load(MasterKeySettings(env="MASTER_KEY"), scene.directory, scene.directory)
    shown = repr([configuration, endpoints, master, [UPSTREAMS[wire](endpoints[0]) for wire in WIRES]])
    assert scene.search().names(shown) == set()


def test_the_command_line_quotes_no_secret_of_a_wrong_configuration(scene: Scene, tmp_path: Path):
    config = configuration(scene.echo, scene.providers, scene.collector)
    for wrong in mistaken(scene.planted, config):
        (tmp_path / "holdfast.toml").write_text(wrong)
        for form in ([], ["--json"]):
            ended = CliRunner().invoke(
                main, ["check", "--no-secrets", "--config", str(tmp_path / "holdfast.toml"), *form]
            )
            assert ended.exit_code == 2
            assert scene.search().names(ended.output) == set(), ended.output


@pytest.mark.parametrize(
    "disguise",
    [
        lambda secret: secret,
        lambda secret: base64.b64encode(f"Basic user:{secret}".encode()).decode(),
        lambda secret: base64.urlsafe_b64encode(f"a{secret}b".encode()).decode(),
        lambda secret: f"0x{secret.encode().hex()}",
        lambda secret: quote(secret, safe=""),
        lambda secret: json.dumps({"key": secret}),
    ],
)
def test_the_search_finds_a_secret_under_its_guises(disguise, tmp_path: Path):
    secret = plant()
    search = Search({"it": secret})
    assert search.names(f"some {disguise(secret)} text") == {"it"}
    (tmp_path / "packed").write_bytes(b"head" + zstd.compress(disguise(secret).encode() * 9) + b"tail")
    assert search.files(tmp_path) == {"packed": {"it"}}
    assert search.names(f"some {disguise(plant())} text") == set()
