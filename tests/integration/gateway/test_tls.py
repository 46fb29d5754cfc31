"""HTTPS: SDKs and strangers at the gateway's own port, certificates that are renewed, handshakes that never end."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx2 as httpx
import openai
import pytest

from acceptance.gateways import Gateway, running_gateway
from acceptance.processes import soon
from certificates import Authority, connected, encrypted, place, shown
from holdfast.gateway.serving.server import Server, bind
from holdfast.gateway.serving.tls import Certificate
from holdfast.gateway.settings import GatewaySettings, TlsSettings
from holdfast.providers.simulated import RunningSimulator, running_simulator
from holdfast.settings import Duration
from integration.gateway.test_http import CHAT, CONFIG, ask

TLS = 'tls = { certificate = "server.pem", key = "server.key" }'
WORKERS = pytest.mark.parametrize("workers", [1, 2])
MESSAGES = [{"role": "user", "content": "ping"}]
Serve = Callable[..., Gateway]


@pytest.fixture(scope="module")
def providers() -> Iterator[RunningSimulator]:
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusting(authority, monkeypatch) -> ssl.SSLContext:
    """What a client needs; those of the standard library find it by themselves."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    return authority.context()


def write(directory: Path, pair: tuple[bytes, bytes]) -> None:
    for name, data in zip(("server.pem", "server.key"), pair, strict=True):
        place(directory / name, data)


@pytest.fixture
def serve(providers, authority, trusting, tmp_path) -> Iterator[Serve]:
    """Start a gateway: `serve(workers)`. Its certificate has the name "first"."""
    providers.forget()
    with ExitStack() as stack:
        started: list[Gateway] = []

        def start(workers: int = 1) -> Gateway:
            write(tmp_path, authority.sign("first"))
            config = CONFIG.format(url=providers.url("openai"), limits=TLS)
            started.append(stack.enter_context(running_gateway(tmp_path, config, "--workers", str(workers))))
            return started[-1]

        yield start
        for gateway in started:
            assert "Traceback" not in gateway.stderr


def sdk(gateway: Gateway, context: ssl.SSLContext) -> openai.OpenAI:
    client = httpx.Client(verify=context)
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0, http_client=client)


def request(body: bytes, *headers: str) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def everything(connection: ssl.SSLSocket) -> bytes:
    """Read until the gateway closes."""
    taken = b""
    while data := connection.recv(65536):
        taken += data
    return taken


# --- calls ------------------------------------------------------------------------------------------------------------


@WORKERS
def test_the_sdk_calls_and_streams_over_https(serve, trusting, workers):
    gateway = serve(workers)
    assert gateway.url.startswith("https://")
    with sdk(gateway, trusting) as client:
        reply = client.chat.completions.create(model="echo", messages=MESSAGES)
        assert reply.choices[0].message.content
        with client.chat.completions.create(model="steady", messages=MESSAGES, stream=True) as stream:
            chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert len(chunks) > 10


def test_a_client_that_does_not_trust_the_certificate_sends_nothing(serve, providers, tmp_path_factory):
    other = Authority(tmp_path_factory.mktemp("other")).context()
    with sdk(serve(), other) as client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="echo", messages=MESSAGES)
    assert providers.requests == []


def test_a_large_request_and_its_answer_come_through_whole(serve, trusting):
    gateway = serve()
    body = ask(content="x" * 3_000_000)
    with connected(gateway.url, trusting) as connection:
        connection.sendall(request(body, "Connection: close"))
        head, _, answer = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert f"content-length: {len(answer)}".encode() in head


def test_what_is_not_http_is_refused_over_tls_as_without(serve, trusting):
    with connected(serve().url, trusting) as connection:
        connection.sendall(b"HELO there\r\n\r\n")
        assert everything(connection).startswith(b"HTTP/1.1 400")


# --- strangers --------------------------------------------------------------------------------------------------------


STRANGE = (b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\0", b"")


def test_who_does_not_speak_tls_is_closed_on_and_harms_nobody(serve):
    gateway = serve()
    for said in STRANGE:
        assert b"HTTP/1.1" not in answer(gateway, said)
        assert gateway.get("/readyz")["status"] == "ready"
    assert gateway.stderr == ""


def answer(gateway: Gateway, said: bytes) -> bytes:
    """Say something without TLS, and return what comes back until the gateway closes."""
    with socket.create_connection(address(gateway), timeout=15) as stranger:
        stranger.sendall(said)
        taken = b""
        with suppress(ConnectionResetError):
            stranger.shutdown(socket.SHUT_WR)
            while data := stranger.recv(65536):
                taken += data
        return taken


def test_old_versions_of_tls_are_refused(serve, authority):
    gateway = serve()
    old = authority.context()
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.deprecated_call():
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connected(gateway.url, old)


def test_handshakes_that_never_end_hold_nobody_else(serve, trusting):
    gateway = serve()
    with ExitStack() as stack:
        for number in range(200):
            silent = stack.enter_context(socket.create_connection(address(gateway)))
            silent.sendall(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
        began = time.monotonic()
        assert shown(gateway.url, trusting) == "first"
        assert gateway.get("/readyz")["status"] == "ready"
        assert time.monotonic() - began < 2
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 5  # nor the end


# --- renewal ----------------------------------------------------------------------------------------------------------


@WORKERS
def test_a_renewed_certificate_is_shown_without_a_restart_and_breaks_nothing(serve, authority, trusting, workers):
    gateway = serve(workers)
    with sdk(gateway, trusting) as client:
        stream = client.chat.completions.create(model="steady", messages=MESSAGES, stream=True)
        next(stream)
        write(gateway.directory, authority.sign("second"))
        soon(lambda: {shown(gateway.url, trusting) for _ in range(8)} == {"second"}, 10)
        assert "The certificate was renewed" in gateway.stderr
        assert list(stream)[-1].choices[0].finish_reason == "stop"


def test_a_wrong_pair_is_told_and_changes_nothing(serve, authority, trusting):
    gateway = serve()
    certificate, _ = authority.sign("other")
    place(gateway.directory / "server.pem", certificate)
    soon(lambda: "The certificate was not renewed" in gateway.stderr, 10)
    assert shown(gateway.url, trusting) == "first"
    assert f"{gateway.directory}/server.key: not the key of {gateway.directory}/server.pem" in gateway.stderr


# --- the configuration ------------------------------------------------------------------------------------------------


def check(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def configured(tmp_path, authority) -> Path:
    (tmp_path / "holdfast.toml").write_text(f'[gateway]\n{TLS}\n[models.demo]\nprovider = "simulated"\n')
    write(tmp_path, authority.sign("first"))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "wrong", "told"),
    [
        ("check", "missing", "key: server.key: No such file or directory"),
        ("check", "encrypted", "key: server.key: it is encrypted: give one without a passphrase"),
        ("check", "garbage", "certificate: server.pem: holds no certificate in PEM"),
        ("serve --port 0", "missing", "key: server.key: No such file or directory"),
        ("up --port 0", "missing", "key: server.key: No such file or directory"),
    ],
)
def test_files_that_can_not_be_used_are_told_with_their_line(configured, command, wrong, told):
    key = configured / "server.key"
    if wrong == "missing":
        key.unlink()
    elif wrong == "encrypted":
        key.write_bytes(encrypted(key.read_bytes()))
    else:
        (configured / "server.pem").write_text("garbage")
    ended = check(configured, *command.split())
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"holdfast.toml:2: gateway.tls.{told}")


def test_where_there_are_no_secrets_the_files_are_not_looked_for(configured):
    (configured / "server.key").unlink()
    assert check(configured, "check", "--no-secrets").returncode == 0


def test_up_prints_an_address_of_https(configured, tmp_path, trusting):
    command = [sys.executable, "-m", "holdfast", "up", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        (tmp_path / "out.txt").open("w") as out,
        subprocess.Popen(command, cwd=configured, stdout=out, stderr=out, env=environment) as process,
    ):
        try:
            said = soon(lambda: "Stop: Ctrl-C" in (text := (tmp_path / "out.txt").read_text()) and text, 20)
            assert "did not answer" not in said
            url = said.partition(" at ")[2].split()[0]
            assert url.startswith("https://")
            assert shown(url, trusting) == "first"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


# --- the end ----------------------------------------------------------------------------------------------------------


@WORKERS
def test_streams_end_before_the_gateway_does_and_who_is_idle_holds_it_not(serve, trusting, providers, workers):
    gateway = serve(workers)
    with connected(gateway.url, trusting) as idle, connected(gateway.url, trusting) as streaming:
        idle.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        streaming.sendall(request(ask(model="steady", stream=True)))
        providers.wait_for(lambda record: True)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert everything(streaming).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert gateway.process.wait(15) == 0  # though nobody answers for who is idle
        assert time.monotonic() - began < 10


# --- slow callers -----------------------------------------------------------------------------------------------------

BIG = b"x" * 4_000_000


async def whole(scope, receive, send):
    headers = [(b"content-length", b"%d" % len(BIG)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BIG})


@asynccontextmanager
async def serving(directory: Path, caller_idle: float) -> AsyncIterator[tuple[Server, tuple[str, int]]]:
    certificate = Certificate(TlsSettings(certificate="server.pem", key="server.key"), directory)
    settings = GatewaySettings(caller_idle=Duration(caller_idle))
    server = Server(whole, lambda: settings, lambda _: (400, b""), certificate=certificate)
    (listener,) = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(listener))
    try:
        yield server, listener.getsockname()[:2]
    finally:
        server.hurry()
        await running


def ask_slowly(address: tuple[str, int], context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(10)
    plain.connect(address)
    caller = context.wrap_socket(plain, server_hostname="localhost")
    caller.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return caller


def take(caller: ssl.SSLSocket) -> int:
    """Read to the end in pieces with pauses, and return how much it was."""
    taken = 0
    while data := caller.recv(65536):
        taken += len(data)
        time.sleep(0.002)
    return taken


async def gone(server: Server) -> None:
    async with asyncio.timeout(10):
        while server.connections:
            server.closed.clear()
            await server.closed.wait()


@pytest.fixture
def often(monkeypatch):
    """Sweep so often that a test need not wait for it."""
    monkeypatch.setattr("holdfast.gateway.serving.server.SWEEP_SECONDS", 0.01)


async def test_a_slow_caller_gets_its_answer_whole(configured, trusting, often):
    async with serving(configured, 1.0) as (server, address):
        with await asyncio.to_thread(ask_slowly, address, trusting) as caller:
            assert await asyncio.to_thread(take, caller) > len(BIG)
        await gone(server)


async def test_a_caller_who_takes_nothing_is_let_go(configured, trusting, often):
    async with serving(configured, 0.05) as (server, address):
        with await asyncio.to_thread(ask_slowly, address, trusting):
            await gone(server)


async def test_a_caller_who_never_says_goodbye_is_let_go(configured, trusting, often, monkeypatch):
    monkeypatch.setattr("holdfast.gateway.serving.connection.LINGER_SECONDS", 0.05)
    async with serving(configured, 10) as (server, address):
        with await asyncio.to_thread(ask_slowly, address, trusting) as caller:
            taken = 0
            while taken < len(BIG):
                taken += len(await asyncio.to_thread(caller.recv, 65536))
            await gone(server)


async def test_a_handshake_takes_only_so_long(configured, monkeypatch):
    monkeypatch.setattr("holdfast.gateway.serving.server.HANDSHAKE_SECONDS", 0.05)
    async with serving(configured, 10) as (_, address), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()


def address(gateway: Gateway) -> tuple[str, int]:
    host, _, port = gateway.url.removeprefix("https://").partition(":")
    return host, int(port)
