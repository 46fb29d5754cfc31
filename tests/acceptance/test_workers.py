"""Many processes serve one address: they share the work, are replaced when they die, and stop together."""

import asyncio
import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error

import aiohttp
import pytest

from acceptance.gateways import configuration
from acceptance.load import QUESTION, Load
from acceptance.processes import family, gone, kill, soon, workers_of

SLOW = {"models": {"gpt": "words=8,tps=10"}}
"""A stream that takes 0.7 s."""
either = pytest.mark.parametrize("workers", ["1", "2"])


class Streams:
    """Streamed calls under way, each on a connection of its own. A call's place says which piece it has got to."""

    def __init__(self, url, count):
        self._url, self.pieces = f"{url}/v1/chat/completions", [b""] * count
        self.calls = [asyncio.create_task(self._call(n)) for n in range(count)]

    async def _call(self, n):
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._url, json={"model": "gpt", "messages": QUESTION, "stream": True}) as response,
        ):
            async for piece in response.content.iter_any():
                self.pieces[n] += piece

    async def begun(self):
        async with asyncio.timeout(10):
            while not all(self.pieces):
                await asyncio.sleep(0.005)

    async def ended(self):
        await asyncio.gather(*self.calls, return_exceptions=True)
        return [piece.endswith(b"data: [DONE]\n\n") for piece in self.pieces]


def _ask(gateway):
    return gateway.post("/v1/chat/completions", {"model": "gpt", "messages": QUESTION})[0]


# --- serving ----------------------------------------------------------------------------------------------------------


async def test_connections_are_spread_over_the_workers_and_one_log_holds_the_calls_of_all(serve, providers):
    gateway = serve(configuration(providers), "--workers", "3")
    workers = soon(lambda: len(found := workers_of(gateway)) == 3 and found)
    load = Load(gateway.url)
    async with load.running(callers=48):
        await load.answers(200)
        served = [sum(one.laddr.port == _port(gateway) for one in worker.net_connections()) for worker in workers]
    assert sum(served) >= 48
    assert min(served) > 4  # chance alone does not make it smaller, once in a million
    kept = set()
    for _ in range(len(load.done) // 500 + 1):
        kept |= {call["id"] for call in gateway.calls(limit="500", **({"before": min(kept)} if kept else {}))}
    assert {done.call for done in load.done} <= kept
    assert load.broken == len(load.refused) == 0


def _port(gateway):
    return int(gateway.url.rpartition(":")[2])


async def test_a_killed_worker_is_replaced_and_only_its_own_calls_fail(serve, providers):
    gateway = serve(configuration(providers), "--workers", "3")
    workers = soon(lambda: len(found := workers_of(gateway)) == 3 and found)
    providers.follow(SLOW)
    streams = Streams(gateway.url, 24)
    await streams.begun()
    victim = workers[1]
    its = sum(one.status == "ESTABLISHED" and one.laddr.port == _port(gateway) for one in victim.net_connections())
    kill([victim])
    ends = await streams.ended()
    assert ends.count(False) == its
    assert 0 < its < 24
    replaced = soon(lambda: len(found := workers_of(gateway)) == 3 and found)
    assert set(workers) - {victim} < set(replaced)
    providers.follow({})
    load = Load(gateway.url)
    async with load.running(callers=48):
        await load.answers(100)
        soon(lambda: sum(one.laddr.port == _port(gateway) for one in replaced[-1].net_connections()))
    assert load.broken == 0
    assert gateway.stderr.count("\n") == 1
    assert f"Worker {victim.pid} ended with -9; another starts at once." in gateway.stderr


async def test_a_worker_that_keeps_dying_is_started_ever_less_often_while_the_others_serve(serve, providers):
    gateway = serve(configuration(providers), "--workers", "2")
    steady, victim = soon(lambda: len(found := workers_of(gateway)) == 2 and found)
    for pause in ("at once", "in 1 s", "in 2 s"):
        kill([victim])
        soon(
            lambda gone=victim, pause=pause: (
                f"Worker {gone.pid} ended with -9; another starts {pause}" in gateway.stderr
            )
        )
        begin = time.monotonic()
        for _ in range(10):
            assert _ask(gateway) == 200
        assert time.monotonic() - begin < (5 if pause == "at once" else 0.9)  # some wait for one that starts at once
        if pause != "in 2 s":
            known = {steady, victim}
            victim = soon(lambda known=known: next(iter(set(workers_of(gateway)) - known), None))


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "number", "everyone"),
    [
        ("1", signal.SIGTERM, False),
        ("1", signal.SIGINT, False),
        ("2", signal.SIGTERM, False),
        ("2", signal.SIGTERM, True),  # as a service manager does
        ("2", signal.SIGINT, True),  # as a terminal does
    ],
)
async def test_a_signal_drains_every_worker(serve, providers, workers, number, everyone):
    gateway = serve(configuration(providers), "--workers", workers)
    providers.follow(SLOW)
    streams = Streams(gateway.url, 6)
    await streams.begun()
    processes = family(gateway)
    for process in processes if everyone else processes[:1]:
        process.send_signal(number)
    await _until_refused(gateway)
    assert not all(call.done() for call in streams.calls)
    assert all(await streams.ended())
    assert await asyncio.to_thread(gateway.process.wait, 10) == 0
    gone(processes)
    *stopping, stopped = gateway.stderr.splitlines()
    under_way = [int(re.fullmatch(r"INFO (?:\[\d+\] )?Stopping: (\d+) calls? under way", line)[1]) for line in stopping]
    assert sum(under_way) == 6
    assert stopped == "Stopped."


async def _until_refused(gateway):
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", _port(gateway))
                writer.close()


@either
async def test_a_second_signal_ends_what_is_under_way_and_keeps_the_log_of_it(serve, providers, workers):
    gateway = serve(configuration(providers), "--workers", workers)
    providers.follow({"models": {"gpt": "words=3,stall=2"}})
    streams = Streams(gateway.url, 3)
    await streams.begun()
    processes = family(gateway)
    gateway.process.send_signal(signal.SIGTERM)
    await _until_refused(gateway)
    gateway.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.process.wait, 5) == 0
    assert not any(await streams.ended())
    gone(processes)
    command = [sys.executable, "-m", "holdfast", "calls", "--log", gateway.log_path, "--outcome", "cancelled", "--json"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.count(b"\n") == 3


async def test_what_does_not_end_within_the_time_of_drain_is_ended(serve, providers):
    gateway = serve(configuration(providers, gateway='drain = "300ms"'), "--workers", "2")
    providers.follow({"models": {"gpt": "words=3,stall=2"}})
    streams = Streams(gateway.url, 4)
    await streams.begun()
    assert await asyncio.to_thread(gateway.stop) == 0
    assert not any(await streams.ended())
    assert "did not end within 0.3 s" in gateway.stderr


async def test_workers_without_a_supervisor_finish_their_calls_and_stop(serve, providers):
    gateway = serve(configuration(providers), "--workers", "3")
    providers.follow(SLOW)
    streams = Streams(gateway.url, 6)
    await streams.begun()
    processes = family(gateway)
    gateway.process.kill()
    assert all(await streams.ended())
    gone(processes)
    assert gateway.stderr.count("The supervisor is gone; stopping.") == 3
    assert "Traceback" not in gateway.stderr


# --- what can't start -------------------------------------------------------------------------------------------------


def _refused(tmp_path, *args, config="[models.sim]\nprovider = 'simulated'\n", seconds=15):
    """Start a gateway that can't serve, and return its exit code and what it says."""
    (tmp_path / "holdfast.toml").write_text(config)
    command = [sys.executable, "-m", "holdfast", "serve", "--config", "holdfast.toml", *args]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=seconds)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip()


@either
def test_a_port_in_use_is_told(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = _refused(tmp_path, "--port", str(port), "--workers", workers)
    assert code == 1
    assert said.startswith(f"port {port} is taken: another program listens on 127.0.0.1")
    assert said.endswith(f"or try --port {port + 1} (make up PORT={port + 1}).")


@either
def test_two_gateways_do_not_share_a_port(tmp_path, serve, providers, workers):
    first = serve(configuration(providers), "--workers", "2")
    code, said = _refused(tmp_path, "--port", str(_port(first)), "--workers", workers)
    assert code == 1
    assert said.startswith(f"port {_port(first)} is taken")


@either
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", ""])
def test_a_host_that_is_not_loopback_is_refused(tmp_path, workers, host):
    code, said = _refused(tmp_path, "--port", "0", "--host", host, "--workers", workers)
    assert code == 2
    assert said.startswith(f"--host {host}: without keys the gateway serves loopback only")


@either
def test_a_log_directory_that_cannot_be_made_is_told_once(tmp_path, workers):
    (tmp_path / ".holdfast").write_text("in the way")
    code, said = _refused(tmp_path, "--port", "0", "--workers", workers)
    assert code == 1
    assert said.count("\n") == 0
    assert ".holdfast/" in said
    assert "Not a directory" in said


@either
@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 8176])
def test_a_log_file_that_is_damaged_is_told_once_and_left_alone(tmp_path, workers, content):
    (tmp_path / ".holdfast").mkdir()
    path = tmp_path / ".holdfast" / "log.db"
    path.write_bytes(content)
    code, said = _refused(tmp_path, "--port", "0", "--workers", workers)
    assert code == 1
    assert said.count("\n") == 0
    assert str(path) in said or ".holdfast/log.db" in said
    assert path.read_bytes() == content


@either
def test_a_wrong_configuration_stops_it_before_any_worker_starts(tmp_path, workers):
    code, said = _refused(tmp_path, "--workers", workers, config="[models.gpt]\nprovider = 'opanai'\n")
    assert code == 2
    assert said.startswith("holdfast.toml:2: models.gpt.provider:")


def test_an_answer_comes_soon_after_the_address(serve, providers):
    gateway = serve(configuration(providers), "--workers", "3")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        gateway.get("/nothing")
    assert gateway.get("/healthz") == {"status": "ok"}
