"""Real gateway processes for acceptance tests, and a configuration that has one of everything."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.providers.simulated import RunningSimulator

PROVIDER_KEY = "the-providers-own-key"
CALLER_KEY = "the-callers-key"
START_SECONDS = 20.0
STOP_SECONDS = 20.0
MODELS = ("gpt", "claude", "gemini")
"""One for each wire that the gateway speaks to providers."""
PRICES = {"input": 2.0, "output": 10.0}
"""US dollars for a million tokens of every model."""
LAST_RESORT = "Not now. Your question is saved."
FILES = {"greeting.md": "Greet {{ name }} in {{ language }}.\n"}
"""What the configuration names."""


def configuration(
    simulator: RunningSimulator,
    *,
    gateway: str = "",
    log: str = "flush_ms = 10",
    more: str = "",
    retry_share: float = 0.0,
) -> str:
    """Return a holdfast.toml whose models are `simulator`'s, under the same names, one on each wire.

    `gateway` and `log` are lines of these tables, `more` further tables. Without a `retry_share`, and without breakers,
    every call asks each model once: how it fails is seen at once, and what failed before changes nothing.
    """
    price = ", ".join([f"{kind} = {rate}" for kind, rate in PRICES.items()])
    models = [
        f'[models.{name}]\nprovider = "{wire}"\nbase_url = "{simulator.url(wire)}"\n'
        f'api_key = {{ env = "PROVIDER_KEY" }}\nprice = {{ {price} }}\nbreaker = false\n'
        for name, wire in zip(MODELS, ("openai", "anthropic", "google"), strict=True)
    ]
    resort = f'last_resort = {{ message = "{LAST_RESORT}" }}'
    return f"""
[gateway]
retry_share = {retry_share}
{gateway}

[log]
{log}

{"".join(models)}
[models.unpriced]
provider = "openai"
base_url = "{simulator.url("openai")}"

[features.answer]
models = ["gpt", "claude", "gemini"]

[features.careful]
models = ["gpt", "claude"]
{resort}

[features.greeting]
models = ["gpt"]
prompt = "greeting.md"

[features.off]
models = ["gpt"]
enabled = false
{resort}

[features.dark]
models = ["gpt"]
enabled = false

[features.half]
models = ["gpt"]
rollout = 0.5
{resort}

[features.impatient]
models = ["gpt", "claude"]
timeouts = {{ connect = "1s", first_token = "100ms", idle = "100ms", answer = "150ms" }}

{more}"""


class Gateway:
    """A gateway in a process of its own. `log_path` is its database, `stderr_path` what it complains of."""

    def __init__(self, process: subprocess.Popen[str], url: str, directory: Path) -> None:
        self.process = process
        self.url = url
        self.directory = directory
        self.log_path = directory / ".holdfast" / "log.db"
        self.stderr_path = directory / "stderr.txt"

    @property
    def stderr(self) -> str:
        """Everything that the process has complained of."""
        return self.stderr_path.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        """Return the decoded JSON of a page. Raises urllib's HTTPError."""
        with urllib.request.urlopen(self.url + path, timeout=START_SECONDS) as response:
            return json.load(response)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Send JSON without an SDK, and return the status and decoded JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, named, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def events(self, path: str, body: object) -> list[Any]:
        """Send JSON for a stream without an SDK, and return the decoded JSON of its events."""
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
            lines = response.read().splitlines()
        payloads = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
        return [json.loads(payload) for payload in payloads if payload != b"[DONE]"]

    def call(self, id: str, seconds: float = 5.0) -> Any:
        """Return a call as the log shows it, as soon as the log has it."""
        return self._soon(lambda: self.get(f"/api/calls/{id}"), seconds)

    def calls(self, seconds: float = 5.0, **filter: str) -> list[Any]:
        """Return the calls that a filter finds, newest first, as soon as there are any."""
        query = urllib.parse.urlencode(filter)
        return self._soon(lambda: self.get(f"/api/calls?{query}")["calls"], seconds)

    def _soon(self, look: Any, seconds: float) -> Any:
        """The log is written in the background, so what happened is there a little later."""
        patience = time.monotonic() + seconds
        while True:
            try:
                if found := look():
                    return found
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 404 or time.monotonic() > patience:
                        raise
            if time.monotonic() > patience:
                raise TimeoutError("the log does not show it")
            time.sleep(0.005)

    def stop(self) -> int:
        """Ask the process to stop, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def running_gateway(
    directory: Path, config: str, *args: str, files: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    """Run `holdfast serve` with a configuration on a free port, ready to answer, for as long as the block lasts.

    At the end it is told to stop, unless the test has already ended it, and must exit with 0.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in {**FILES, **(files or {}), "holdfast.toml": config}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "holdfast", "serve", "--config", str(directory / "holdfast.toml"), "--port", "0"]
    environment = {**os.environ, "PROVIDER_KEY": PROVIDER_KEY}
    with (directory / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen([*command, *args], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    gateway = Gateway(process, "", directory)
    with process:
        try:
            _wait_until_ready(gateway)
            yield gateway
            if process.poll() is None:
                code = gateway.stop()
                assert code == 0, f"holdfast serve ended with {code}:\n{gateway.stderr}"
        finally:
            if process.poll() is None:
                process.kill()


def _wait_until_ready(gateway: Gateway) -> None:
    """Its first line tells the address, which already listens; the answer to /readyz comes when it serves."""
    assert gateway.process.stdout is not None
    readable, _, _ = select.select([gateway.process.stdout], [], [], START_SECONDS)
    line = gateway.process.stdout.readline() if readable else ""
    assert " at http" in line, f"holdfast serve did not start: {line}\n{gateway.stderr}"
    gateway.url = line.partition(" at ")[2].split()[0]
    assert gateway.get("/readyz")["status"] == "ready", gateway.stderr
