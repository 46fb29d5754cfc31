"""A gateway on a machine of its own: with `[network]` nothing leaves, and without any way out it serves."""

import json
from pathlib import Path

import pytest

import namespaces

CONFIG = """
[models.demo]
provider = "simulated"

[features.home]
models = ["demo"]
enabled = false
last_resort = { function = "phoning:home" }
"""
PHONING = '''
"""Tells others of each call, as a library might that nobody looked at."""

import http.client
import json
import socket
import urllib.request


def tell(*means):
    told = {}
    for name, mean in means:
        try:
            mean()
            told[name] = "sent"
        except OSError as error:
            told[name] = f"{type(error).__name__}: {error}"
    return told


def beacon():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"here", ("203.0.113.7", 9))


MEANS = (
    ("by name", lambda: urllib.request.urlopen("http://phone.home.example/", timeout=0.2)),
    ("by address", lambda: urllib.request.urlopen("http://203.0.113.7/", timeout=0.2)),
    ("by datagram", beacon),
)
IMPORTED = tell(*MEANS)


def home(request, code):
    return {"imported": IMPORTED, "called": tell(*MEANS)}
'''
DRIVER = """
import json, re, signal, subprocess, sys, urllib.request

def ask(url, model):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(url + "/v1/chat/completions", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]

def holdfast(*arguments):
    return subprocess.run([sys.executable, "-m", "holdfast", *arguments], capture_output=True, text=True, timeout=60)

def gateway(models, *arguments):
    command = [sys.executable, "-m", "holdfast", "serve", "--port", "0", *arguments]
    errors = open("stderr.txt", "w")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        line = process.stdout.readline()
        url = re.search(r"http://\\S+", line)[0]
        answers = [ask(url, model) for model in models]
        urllib.request.urlopen(url + "/readyz", timeout=20).close()
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    return {"answers": answers, "exit": code, "stderr": open("stderr.txt").read()}
"""
SERVE = (
    DRIVER
    + """
checked = holdfast("check")
print(json.dumps({**gateway(["demo", "home"], *sys.argv[1:]), "sent": packets(), "check": checked.returncode}))
"""
)
ALONE = (
    DRIVER
    + """
simulated = [sys.executable, "-m", "holdfast", "simulate", "--port", "9191"]
with subprocess.Popen(simulated, stdout=subprocess.PIPE, text=True) as upstream:
    upstream.stdout.readline()
    found = gateway(["upstream"])
    upstream.terminate()
print(json.dumps(found))
"""
)
RELOAD = (
    DRIVER
    + """
import time
errors = open("stderr.txt", "w")
with subprocess.Popen([sys.executable, "-m", "holdfast", "serve", "--port", "0"], stdout=subprocess.PIPE,
                      stderr=errors, text=True) as process:
    url = re.search(r"http://\\S+", process.stdout.readline())[0]
    ask(url, "home")
    before = packets()
    with open("holdfast.toml", "a") as file:
        file.write("[network]\\nallow = []\\n")
    process.send_signal(signal.SIGHUP)
    patience = time.monotonic() + 20
    while "Reloaded the configuration" not in open("stderr.txt").read():
        assert time.monotonic() < patience
        time.sleep(0.05)
    reloaded = packets()
    ask(url, "home")
    after = packets() - reloaded
    process.send_signal(signal.SIGTERM)
print(json.dumps({"before": before, "after": after}))
"""
)
UPSTREAM = """
[models.upstream]
provider = "openai"
base_url = "http://127.0.0.1:9191/v1"
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "phoning.py").write_text(PHONING)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(answer: str) -> list[str]:
    """Return what became of each attempt of the function, also when it was imported."""
    said = json.loads(answer)
    return [*said["imported"].values(), *said["called"].values()]


@pytest.mark.parametrize("workers", [1, 2])
def test_under_network_nothing_leaves_whatever_a_function_tries(directory: Path, workers: int) -> None:
    (directory / "holdfast.toml").write_text(CONFIG + "[network]\nallow = []\n")
    found = namespaces.run(directory, namespaces.WITH_A_WAY_OUT, SERVE, "--workers", str(workers))
    assert found["sent"] == 0
    answered, home = found["answers"]
    assert answered
    assert all("[network] allows no connections" in attempt for attempt in told(home)), home
    assert (found["exit"], found["check"]) == (0, 0)
    assert "Traceback" not in found["stderr"]


def test_without_network_what_a_function_tries_is_seen_to_leave(directory: Path) -> None:
    (directory / "holdfast.toml").write_text(CONFIG)
    found = namespaces.run(directory, namespaces.WITH_A_WAY_OUT, SERVE)
    assert found["sent"] > 3
    assert "sent" in told(found["answers"][1])


def test_without_any_route_the_gateway_starts_and_serves(directory: Path) -> None:
    (directory / "holdfast.toml").write_text(UPSTREAM)
    found = namespaces.run(directory, namespaces.ALONE, ALONE)
    assert found["answers"][0]
    assert found["exit"] == 0
    assert "ERROR" not in found["stderr"]
    assert "WARNING" not in found["stderr"]


def test_network_holds_from_a_reload_on(directory: Path) -> None:
    (directory / "holdfast.toml").write_text(CONFIG)
    found = namespaces.run(directory, namespaces.WITH_A_WAY_OUT, RELOAD)
    assert found["before"] > 0
    assert found["after"] == 0
