"""A gateway that is told to stop: what is under way ends, nothing new begins, and nothing is lost."""

import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from acceptance.gateways import Gateway, running_gateway
from holdfast.providers.simulated import RunningSimulator, running_simulator
from integration.gateway.caller import Caller
from integration.gateway.test_http import CHAT, CONFIG, ask

Serve = Callable[..., Gateway]
WORKERS = pytest.mark.parametrize("workers", [1, 2])
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture(scope="module")
def providers() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture
def serve(providers, tmp_path) -> Iterator[Serve]:
    """Start a gateway: `serve(workers, drain="30s")`."""
    providers.forget()
    with ExitStack() as stack:

        def start(workers: int = 1, drain: str = "30s") -> Gateway:
            config = CONFIG.format(url=providers.url("openai"), limits=f'drain = "{drain}"')
            gateway = stack.enter_context(running_gateway(tmp_path, config, "--workers", str(workers)))
            started.append(gateway)
            return gateway

        started: list[Gateway] = []
        yield start
        for gateway in started:
            assert "Traceback" not in gateway.stderr


def refuses(gateway: Gateway) -> None:
    """Wait until new connections are refused."""
    parts = urlsplit(gateway.url)
    patience = time.monotonic() + 5
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((parts.hostname, parts.port)):
                return
        assert time.monotonic() < patience, "it still takes connections"
        time.sleep(0.01)


def ended(gateway: Gateway, within: float) -> int:
    return gateway.process.wait(within)


def logged(gateway: Gateway) -> list[tuple[str, str]]:
    """The outcomes of all calls and their names, read from the database that the gateway has left."""
    with sqlite3.connect(gateway.log_path) as database:
        return sorted(database.execute("SELECT name, outcome FROM calls"))


@WORKERS
@SIGNALS
def test_streams_end_before_the_gateway_does(serve, providers, workers, number):
    gateway = serve(workers)
    with Caller(gateway.url) as streaming, Caller(gateway.url) as waiting, Caller(gateway.url) as idle:
        assert idle.get("/readyz").status == 200
        streaming.send(streaming.request(CHAT, ask(model="steady", stream=True)))
        waiting.send(waiting.request(CHAT, ask(model="steady")))
        assert streaming.head()[0] == 200
        providers.wait_for(lambda record: not record.body.get("stream"))  # so both have been read
        gateway.process.send_signal(number)
        refuses(gateway)
        assert idle.closed()
        assert streaming.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        answer = waiting.response()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert waiting.closed()
    assert ended(gateway, 10) == 0
    assert logged(gateway) == [("steady", "answered")] * 2


@WORKERS
@SIGNALS
def test_without_calls_it_ends_at_once(serve, workers, number):
    gateway = serve(workers)
    gateway.process.send_signal(number)
    assert ended(gateway, 10) == 0


def test_a_request_that_is_half_sent_may_be_finished(serve):
    gateway = serve()
    with Caller(gateway.url) as caller:
        request = caller.request(CHAT, ask("the end"))
        caller.send(request[:-5])
        with Caller(gateway.url) as other:
            assert other.get("/healthz").status == 200  # so the first half has been read
        gateway.process.send_signal(signal.SIGTERM)
        refuses(gateway)
        caller.send(request[-5:])
        assert caller.response().json["choices"][0]["message"]["content"] == "the end"
        assert caller.closed()
    assert ended(gateway, 10) == 0


@WORKERS
@pytest.mark.parametrize("stream", [True, False])
def test_what_does_not_end_in_time_is_broken_off_and_logged(serve, providers, workers, stream):
    gateway = serve(workers, drain="200ms")
    with Caller(gateway.url) as caller:
        caller.send(caller.request(CHAT, ask(model="slow", stream=stream)))
        providers.wait_for(lambda record: record.headers_at is not None)
        gateway.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        assert_broken_off(caller, stream)
        assert ended(gateway, 5) == 0
        assert 0.2 <= time.monotonic() - told < 4
    assert logged(gateway) == [("slow", "cancelled")]


@WORKERS
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_what_is_under_way(serve, providers, workers, first):
    gateway = serve(workers)
    with Caller(gateway.url) as caller:
        caller.send(caller.request(CHAT, ask(model="silent")))
        providers.wait_for(lambda record: record.fate == "held")
        gateway.process.send_signal(first)
        refuses(gateway)
        gateway.process.send_signal(signal.SIGINT)
        assert_broken_off(caller, stream=False)
        assert ended(gateway, 10) == 0
    providers.wait_for(lambda record: record.hung_up_at is not None)
    assert logged(gateway) == [("silent", "cancelled")]


def assert_broken_off(caller: Caller, stream: bool) -> None:
    """What the caller has got is no complete response."""
    try:
        got = caller.rest()
    except ConnectionError:
        return
    assert b"[DONE]" not in got
    assert stream or got == b""
    assert not got.endswith(b"0\r\n\r\n")
