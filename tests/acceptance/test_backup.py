"""Backups as the page on them makes them: of a gateway under load, put back, and with somebody erased in between."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acceptance.gateways import Gateway, running_gateway
from acceptance.pages import ROOT, blocks
from acceptance.processes import soon

CONFIG = """
[log]
flush_ms = 10

[privacy]
master_key = { file = "secrets/master.key" }

[models.demo]
provider = "simulated"
"""
SCRIPTS = {block.title: block.text for block in blocks(ROOT / "docs/operations/backup.md") if block.title}
"""What the page tells to run."""


class Place:
    """A folder with a gateway's configuration, in which a person types."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "secrets").mkdir(parents=True)
        (directory / "holdfast.toml").write_text(CONFIG)
        self.run("sh", "-c", "umask 077; head -c 32 /dev/urandom | base64 > secrets/master.key")
        self.key = self.holdfast("keys", "create", "--tenant", "acme", "--role", "admin").strip()

    def run(self, *command: str) -> str:
        """Run a command that must succeed, and return what it prints."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def holdfast(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "holdfast", *arguments)

    def back_up(self) -> None:
        self.run(sys.executable, "-c", SCRIPTS["backup.py"])

    def restore(self) -> None:
        (self.directory / "erase_again.py").write_text(SCRIPTS["erase_again.py"])
        self.run("bash", "-eo", "pipefail", "-c", SCRIPTS["restore.sh"])

    def put_together(self, name: str, *parts: str) -> Path:
        """Return a new state directory of the files in some folders."""
        state = self.directory / name
        state.mkdir(mode=0o700)
        for part in parts:
            shutil.copytree(self.directory / part, state, dirs_exist_ok=True)
        return state

    def calls(self, state: Path, *options: str) -> list[dict[str, Any]]:
        printed = self.holdfast("calls", "--limit", "100000", "--json", "--state", str(state), *options)
        return [json.loads(line) for line in printed.splitlines()]

    def plain(self, state: Path, id: str) -> str:
        return self.holdfast("calls", "show", id, "--plain", "--json", "--state", str(state))

    def ask(self, gateway: Gateway, content: str, subject: str) -> int:
        body = {"model": "demo", "messages": [{"role": "user", "content": content}]}
        headers = {"authorization": f"Bearer {self.key}", "x-holdfast-subject": subject}
        return gateway.post("/v1/chat/completions", body, headers)[0]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


@contextmanager
def load(place: Place, gateway: Gateway) -> Iterator[list[int]]:
    """Call and call, also the command line, until the block ends."""
    statuses: list[int] = []
    ended = threading.Event()

    def call(number: int) -> None:
        while not ended.is_set():
            statuses.append(place.ask(gateway, f"question {len(statuses)}", f"customer-{number}-{len(statuses) % 7}"))

    def audit() -> None:
        while not ended.is_set():
            place.holdfast("keys", "create", "--tenant", "other")

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=audit))
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_backup_under_load_is_whole_and_brings_back_calls_keys_and_trail(place: Place):
    with running_gateway(place.directory, CONFIG) as gateway:
        assert place.ask(gateway, "Where does kelp hold fast?", "ada") == 200
        with load(place, gateway) as statuses:
            for taken in range(1, 6):
                soon(lambda taken=taken: len(statuses) > 20 * taken, 20)
                place.back_up()
                state = place.put_together(f"rehearsal{taken}", "backups/monday", "backups-of-keys")
                assert "nothing was changed" in place.holdfast("audit", "verify", "--state", str(state))
        assert set(statuses) == {200}
    found = place.calls(state)
    assert 100 < len(found) <= len(statuses) + 1
    first, last = found[-1], found[0]
    assert "Where does kelp hold fast?" in place.plain(state, first["id"])
    assert "question" in place.plain(state, last["id"])  # its key came before it

    place.restore()
    with running_gateway(place.directory, CONFIG) as gateway:
        assert place.ask(gateway, "And now?", "ada") == 200
    restored = place.calls(place.directory / ".holdfast")
    assert len(restored) == len(found) + 1
    assert {call["id"] for call in found} < {call["id"] for call in restored}
    assert place.holdfast("keys", "list") == place.holdfast("keys", "list", "--state", str(state))
    assert "nothing was changed" in place.holdfast("audit", "verify")


def test_who_was_erased_stays_erased_in_an_older_backup_of_the_log(place: Place):
    with running_gateway(place.directory, CONFIG) as gateway:
        for subject in ("ada", "eve"):
            assert place.ask(gateway, f"I am {subject}.", subject) == 200
        soon(lambda: len(place.calls(place.directory / ".holdfast")) == 2)
    place.back_up()
    (place.directory / "backups-of-keys").rename(place.directory / "old-keys")
    place.back_up()
    before = place.put_together("before", "backups/monday", "old-keys")
    ids = {call["subject"]: call["id"] for call in place.calls(before)}
    ada = place.calls(before, "--subject", "ada", "--tenant", "acme")[0]["subject"]
    (eve,) = ids.keys() - {ada}
    assert "I am ada." in place.plain(before, ids[ada])  # who has the old keys, too, reads everything

    place.holdfast("erase", "--subject", "ada", "--tenant", "acme", "--output", "certificate.json")
    monday = shutil.copytree(place.directory / "backups/monday", place.directory / "kept")
    place.back_up()
    shutil.rmtree(place.directory / "backups/monday")
    monday.rename(place.directory / "backups/monday")

    after = place.put_together("after", "backups/monday", "backups-of-keys")
    assert "I am ada." not in place.plain(after, ids[ada])
    assert "I am eve." in place.plain(after, ids[eve])
    place.restore()
    (left,) = place.calls(place.directory / ".holdfast")
    assert left["id"] == ids[eve]


def test_an_older_copy_of_the_keys_learns_whom_it_must_erase(place: Place):
    with running_gateway(place.directory, CONFIG) as gateway:
        assert place.ask(gateway, "I am ada.", "ada") == 200
        soon(lambda: place.calls(place.directory / ".holdfast"))
    place.back_up()
    place.holdfast("erase", "--subject", "ada", "--tenant", "acme", "--output", "certificate.json")
    place.restore()  # takes `erasures.jsonl` from what is there
    with running_gateway(place.directory, CONFIG):
        assert place.calls(place.directory / ".holdfast") == []


def test_without_the_master_key_the_rest_of_a_backup_is_closed(place: Place):
    with running_gateway(place.directory, CONFIG) as gateway:
        assert place.ask(gateway, "I am ada.", "ada") == 200
        soon(lambda: place.calls(place.directory / ".holdfast"))
    place.back_up()
    state = place.put_together("stolen", "backups/monday", "backups-of-keys")
    (place.directory / "secrets/master.key").unlink()
    command = [sys.executable, "-m", "holdfast", "calls", "search", "ada", "--plain", "--state", str(state)]
    ended = subprocess.run(command, cwd=place.directory, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "I am ada." not in ended.stdout
    assert not any(b"I am ada." in file.read_bytes() for file in state.iterdir())
