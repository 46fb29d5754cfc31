"""Killed at any moment under load, the gateway has lost nothing that it promised to keep."""

import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import time

import pytest

from acceptance.gateways import configuration, running_gateway
from acceptance.load import Load
from acceptance.processes import family, kill, workers_of
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

FLUSH_MS = 100
COMMIT_SECONDS = 0.25
"""What commits may take beyond `flush_ms` on a machine where all others are busy too."""
durabilities = pytest.mark.parametrize("durability", ["async", "sync"])


def _configuration(simulator, durability):
    return configuration(simulator, log=f'durability = "{durability}"\nflush_ms = {FLUSH_MS}')


def _kept(path):
    """The ids in the log, which must be whole and agree with itself."""
    log = SqliteLog.read(path)
    ids = [call.id for batch in log.scan(Filter()) for call in batch]
    counted = sum(total.calls for total in log.totals())
    attempts = sum(total.attempts for total in log.totals())
    log.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("SELECT count(*) FROM attempts").fetchone() == (attempts,)
    assert len(ids) == len(set(ids)) == counted
    return set(ids)


def _safe(load, durability, killed):
    """The ids of answers that the log must hold when its writers were killed at `killed`."""
    young = killed - FLUSH_MS / 1000 - COMMIT_SECONDS
    return {done.call for done in load.done if durability == "sync" or done.at < young}


async def _load_until_killed(gateway, moments, processes):
    """Load a gateway, kill processes at a random moment, and return the load and the time of the kill."""
    load = Load(gateway.url)
    async with load.running():
        await load.answers(50)
        await asyncio.sleep(moments.uniform(0.6, 1.0))
        killed = time.monotonic()
        await asyncio.to_thread(kill, processes)
    return load, killed


@durabilities
@pytest.mark.parametrize(("workers", "times"), [(1, 3), (3, 2)])
async def test_a_gateway_killed_again_and_again_keeps_what_it_promised_and_goes_on(
    providers, tmp_path, durability, workers, times
):
    moments, safe, seen = random.Random(f"{durability}{workers}"), set(), set()
    for _ in range(times):
        config = _configuration(providers, durability)
        with running_gateway(tmp_path, config, "--workers", str(workers)) as gateway:
            load, killed = await _load_until_killed(gateway, moments, family(gateway))
            assert "Traceback" not in gateway.stderr
        must = _safe(load, durability, killed)
        assert len(must) > 20
        assert {done.streamed for done in load.done if done.call in must} == {True, False}
        kept = _kept(gateway.log_path)
        safe |= must
        assert safe <= kept
        assert seen <= kept  # nothing that was there is lost to a later crash
        seen = kept
    with running_gateway(tmp_path, config) as gateway:
        gateway.post("/v1/chat/completions", {"model": "gpt", "messages": []})
        shown = _shown(gateway)
    assert seen < set(shown)
    assert len(shown) == len(seen) + 1


def _shown(gateway):
    """The ids as the command shows them."""
    command = [sys.executable, "-m", "holdfast", "calls", "--log", gateway.log_path, "--json", "--limit", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


@durabilities
async def test_a_killed_worker_loses_only_what_is_young_and_nothing_of_the_others(serve, providers, durability):
    gateway = serve(_configuration(providers, durability), "--workers", "3")
    moments, load, kills = random.Random(durability), Load(gateway.url), []
    async with load.running():
        for _ in range(3):
            await load.answers(50)
            await asyncio.sleep(moments.uniform(0.3, 0.6))
            victim = moments.choice(workers_of(gateway))
            kills.append(time.monotonic())
            await asyncio.to_thread(kill, [victim])
    assert gateway.stop() == 0
    kept = _kept(gateway.log_path)
    missing = [done for done in load.done if done.call not in kept]
    if durability == "sync":
        assert missing == []
    window = FLUSH_MS / 1000 + COMMIT_SECONDS
    assert all(any(abs(killed - done.at) < window for killed in kills) for done in missing)
    assert load.broken < 3 * 24
    assert load.refused == []
