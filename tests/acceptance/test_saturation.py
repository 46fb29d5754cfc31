"""When the log can't be written, no more is promised than can be kept, and what was admitted is recorded later."""

import asyncio
import contextlib
import json
import resource
import sqlite3

import aiohttp
import psutil
import pytest

from acceptance.gateways import configuration
from acceptance.load import QUESTION, Load
from acceptance.processes import gone, workers_of
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

QUEUE = 20
SATURATED = {"/v1/chat/completions": ("code", "saturated"), "/v1/messages": ("type", "overloaded_error")}
"""Where each wire says what the error is."""


def _configuration(providers, durability):
    log = f'durability = "{durability}"\nflush_ms = 10\nqueue = {QUEUE}'
    return configuration(providers, log=log)


@contextlib.contextmanager
def locked(gateway):
    """Another program holds the database and does not let go."""
    with contextlib.closing(sqlite3.connect(gateway.log_path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def unwritable(gateway):
    """The disk takes no more, neither of a worker nor of the only process."""
    processes = [psutil.Process(one.pid) for one in workers_of(gateway)] or [psutil.Process(gateway.process.pid)]
    for process in processes:
        process.rlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


either = pytest.mark.parametrize("failure", [locked, unwritable])


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


async def _ask(session, gateway, path="/v1/chat/completions", stream=False):
    """Ask once, and return the status, the headers and the body."""
    body = {"model": "gpt", "messages": QUESTION, "max_tokens": 99, "stream": stream}
    async with session.post(gateway.url + path, json=body) as response:
        return response.status, response.headers, await response.text()


async def _ready(session, gateway):
    async with session.get(gateway.url + "/readyz") as response:
        return response.status, (await response.json())["status"]


async def _until_ready(session, gateway):
    async with asyncio.timeout(8):
        while (await _ready(session, gateway)) != (200, "ready"):
            await asyncio.sleep(0.01)


async def _waiting(session, gateway):
    """How many events wait for the log."""
    return await _metric(session, gateway, "holdfast_log_queue_calls")


async def _metric(session, gateway, name):
    async with session.get(gateway.url + "/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name))


def _kept(gateway):
    log = SqliteLog.read(gateway.log_path)
    try:
        calls = [call for batch in log.scan(Filter()) for call in batch]
        assert sum(total.calls for total in log.totals()) == len(calls)
    finally:
        log.close()
    kept = {call.id: call for call in calls}
    assert len(kept) == len(calls)
    return kept


async def _refused(session, gateway, path, stream):
    """Ask, see the call refused, and return its id."""
    status, headers, body = await _ask(session, gateway, path, stream)
    key, value = SATURATED[path]
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["error"][key] == value
    return headers["x-holdfast-call"]


@either
async def test_a_full_queue_stops_admission_and_loses_nothing_that_was_admitted(serve, providers, session, failure):
    gateway = serve(_configuration(providers, "async"))
    answered, refused = [], []
    with failure(gateway):
        while (asked := await _ask(session, gateway))[0] == 200:
            answered.append(asked[1]["x-holdfast-call"])
            assert len(answered) <= QUEUE
        assert len(answered) >= QUEUE - 1  # beside the configuration, at first
        reached = len(providers.requests)
        for path in SATURATED:
            for stream in (False, True):
                refused += [await _refused(session, gateway, path, stream) for _ in range(QUEUE)]
        assert await _metric(session, gateway, 'holdfast_refused_total{reason="log"}') == len(refused) + 1
        async with session.post(gateway.url + "/v1/chat/completions", data=b"{") as response:
            assert response.status == 400  # what can't be read is still told, but not recorded
            refused.append(response.headers["x-holdfast-call"])
        assert len(providers.requests) == reached
        assert await _waiting(session, gateway) <= QUEUE
        assert (await _ready(session, gateway))[0] == 503
    await _until_ready(session, gateway)
    assert (await _ask(session, gateway))[0] == 200
    assert gateway.stop() == 0
    kept = _kept(gateway)
    assert set(answered) < set(kept)
    assert not set(refused) & set(kept)


@either
async def test_a_synchronous_log_that_fails_refuses_before_a_model_is_paid(serve, providers, session, failure):
    gateway = serve(_configuration(providers, "sync"))
    with failure(gateway):
        providers.follow({"models": {"gpt": "words=3"}})
        whole, streamed = await asyncio.gather(_ask(session, gateway), _ask(session, gateway, stream=True))
        # They were under way when it began to fail: answered by the model, but what can't be recorded is not given.
        assert whole[0] in (200, 503)
        for status, _, body in (whole, streamed):
            if status == 503:
                assert json.loads(body)["error"]["code"] == "saturated"
            else:
                assert "[DONE]" not in body
                assert '"code":"saturated"' in body
        assert await _ready(session, gateway) == (503, "failing")
        reached = len(providers.requests)
        refused = [await _refused(session, gateway, path, stream) for path in SATURATED for stream in (False, True)]
        assert len(providers.requests) == reached
    await _until_ready(session, gateway)
    status, headers, _ = await _ask(session, gateway)
    assert status == 200
    kept = _kept(gateway)  # at once: the answer waited for it
    assert headers["x-holdfast-call"] in kept
    assert not set(refused) & set(kept)
    told = {answer[1]["x-holdfast-call"] for answer in (whole, streamed)}
    assert len(told & set(kept)) == reached  # each request that reached a model is accounted for
    assert gateway.stderr.count("the log fails") == 1
    assert gateway.stderr.count("the log works again") == 1


@either
@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_under_load_every_completed_answer_outlives_a_log_that_fails_for_a_while(
    serve, providers, session, failure, durability
):
    gateway = serve(_configuration(providers, durability))
    load = Load(gateway.url)
    async with load.running():
        await load.answers(50)
        with failure(gateway):
            async with asyncio.timeout(10):
                while not load.refused:
                    await asyncio.sleep(0.01)
        await _until_ready(session, gateway)
        await load.answers(50)
    assert gateway.stop() == 0
    kept = _kept(gateway)
    assert {done.call for done in load.done} <= set(kept)
    assert set(load.refused) == {503}
    assert "Traceback" not in gateway.stderr


async def test_a_gateway_that_stops_while_its_log_fails_says_what_is_lost(serve, providers, session):
    gateway = serve(_configuration(providers, "async"), "--workers", "2")
    processes = workers_of(gateway)
    with unwritable(gateway):
        for _ in range(3):
            assert (await _ask(session, gateway))[0] == 200
        await session.close()
        assert await asyncio.to_thread(gateway.stop) == 1
    gone(processes)
    lost = [int(line.split()[2]) for line in gateway.stderr.splitlines() if "could not be recorded" in line]
    assert sum(lost) >= 3  # and the configuration of a worker that had not got far
    assert "Traceback" not in gateway.stderr
