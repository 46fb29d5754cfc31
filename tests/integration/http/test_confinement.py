"""Processes that are held to a list: whatever Python connects with is refused before a packet leaves.

Each attempt runs in a process of its own, since confinement can't be undone.
"""

import importlib.util
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import namespaces

FORBIDDEN = "203.0.113.7"
"""An address that no machine has (RFC 5737)."""
NAME = "phone.home.example"
HEAD = """
import asyncio, json, socket, sys, urllib.request, http.client
from holdfast.http.confinement import confine, new_loop
from holdfast.http.egress import Egress
egress = Egress(["127.0.0.1"], ["localhost", "*.allowed.example"])
confine(egress)

def told(attempt):
    try:
        attempt()
    except Exception as error:
        chain = [error]
        while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(cause)
        print(json.dumps({"raised": [type(one).__name__ for one in chain], "said": [str(one) for one in chain],
                          "os": isinstance(error, OSError)}))
    else:
        print(json.dumps({"raised": [], "said": []}))

def run(coroutine):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 5))

class Nothing(asyncio.DatagramProtocol): pass
"""


def defined(code: str) -> str:
    """Return code as a function `attempt`."""
    return "def attempt():\n" + textwrap.indent(textwrap.dedent(code).strip(), "    ") + "\n"


def attempt(code: str, more: str = "") -> dict[str, Any]:
    """Run code in a confined process; return what was raised, and what it said, the causes after what they caused."""
    program = HEAD + more + defined(code) + "told(attempt)\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


OPTIONAL = r"import (aiohttp|httpx2|requests)"
REFUSED = {
    "urllib by name": f'urllib.request.urlopen("http://{NAME}/", timeout=5)',
    "urllib by address": f'urllib.request.urlopen("http://{FORBIDDEN}/", timeout=5)',
    "urllib through a proxy": f"""
        proxies = urllib.request.ProxyHandler({{"http": "http://{FORBIDDEN}:3128"}})
        urllib.request.build_opener(proxies).open("http://127.0.0.1/", timeout=5)""",
    "http.client": f'http.client.HTTPSConnection("{NAME}", timeout=5).request("GET", "/")',
    "a socket by address": f'socket.socket().connect(("{FORBIDDEN}", 80))',
    "a socket by name": f'socket.socket().connect(("{NAME}", 80))',
    "a socket that tells by number": f'socket.socket().connect_ex(("{FORBIDDEN}", 80))',
    "a socket of the C module": f'import _socket; _socket.socket().connect(("{FORBIDDEN}", 80))',
    "IPv6": 'socket.socket(socket.AF_INET6).connect(("2001:db8::7", 80))',
    "IPv4 in IPv6": f'socket.socket(socket.AF_INET6).connect(("::ffff:{FORBIDDEN}", 80))',
    "an address in another spelling": 'socket.socket().connect(("3405803783", 80))',
    "create_connection": f'socket.create_connection(("{NAME}", 80), 5)',
    "a datagram": f'socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("{FORBIDDEN}", 53))',
    "a datagram with flags": f'socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", 0, ("{FORBIDDEN}", 53))',
    "a message": f'socket.socket(type=socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, ("{FORBIDDEN}", 53))',
    "a datagram to everybody": """
        everybody = socket.socket(type=socket.SOCK_DGRAM)
        everybody.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        everybody.sendto(b"x", ("<broadcast>", 53))""",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
    "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "getaddrinfo": f'socket.getaddrinfo("{NAME}", 80)',
    "getaddrinfo of the C module": f'import _socket; _socket.getaddrinfo("{NAME}", 80)',
    "getaddrinfo by keyword": f'socket.getaddrinfo(host="{NAME}", port=80)',
    "gethostbyname": f'socket.gethostbyname("{NAME}")',
    "gethostbyname_ex": f'socket.gethostbyname_ex("{NAME}")',
    "gethostbyaddr": f'socket.gethostbyaddr("{FORBIDDEN}")',
    "getnameinfo": f'socket.getnameinfo(("{FORBIDDEN}", 80), 0)',
    "a name to listen on": f'socket.socket().bind(("{NAME}", 0))',
    "a stream of the loop by name": f'run(asyncio.open_connection("{NAME}", 80))',
    "a stream of the loop by address": f'run(asyncio.open_connection("{FORBIDDEN}", 80))',
    "a stream of the loop from a name": f"""
        run(asyncio.open_connection("127.0.0.1", 80, local_addr=("{NAME}", 0)))""",
    "a server of the loop on a name": f'run(asyncio.start_server(print, ["127.0.0.1", "{NAME}"], 0))',
    "sock_connect of the loop": f"""
        async def connect():
            with socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("{FORBIDDEN}", 80))
        run(connect())""",
    "datagrams of the loop": f"""
        async def send():
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(Nothing, remote_addr=("{FORBIDDEN}", 53))
        run(send())""",
    "datagrams of the loop to anybody": f"""
        async def send():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Nothing, local_addr=("0.0.0.0", 0))
            transport.sendto(b"x", ("{FORBIDDEN}", 53))
        run(send())""",
    "datagrams of the loop on a socket": f"""
        async def send():
            sock = socket.socket(type=socket.SOCK_DGRAM)
            sock.bind(("0.0.0.0", 0))
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Nothing, sock=sock)
            transport.sendto(b"x", ("{FORBIDDEN}", 53))
        run(send())""",
    "a look-up of the loop": f"""
        async def look():
            await asyncio.get_running_loop().getaddrinfo("{NAME}", 80)
        run(look())""",
    "a reverse look-up of the loop": f"""
        async def look():
            await asyncio.get_running_loop().getnameinfo(("{FORBIDDEN}", 80))
        run(look())""",
    "asyncio's own loop": f'asyncio.run(asyncio.open_connection("{NAME}", 80))',
    "asyncio's own loop by address": f'asyncio.run(asyncio.open_connection("{FORBIDDEN}", 80))',
    "another loop of uvloop": f'import uvloop; uvloop.run(asyncio.open_connection("{FORBIDDEN}", 80))',
    "a thread of the loop": f"""
        async def fetch():
            await asyncio.to_thread(urllib.request.urlopen, "http://{NAME}/", timeout=5)
        run(fetch())""",
    "aiohttp by name": f"""
        import aiohttp
        async def fetch():
            async with aiohttp.ClientSession() as session, session.get("http://{NAME}/"): pass
        run(fetch())""",
    "aiohttp by address": f"""
        import aiohttp
        async def fetch():
            async with aiohttp.ClientSession() as session, session.get("http://{FORBIDDEN}/"): pass
        run(fetch())""",
    "httpx": f'import httpx2; httpx2.get("http://{NAME}/", timeout=5)',
    "httpx in the loop": f"""
        import httpx2
        async def fetch():
            async with httpx2.AsyncClient() as client:
                await client.get("http://{FORBIDDEN}/")
        run(fetch())""",
    "requests": f'import requests; requests.get("http://{NAME}/", timeout=5)',
    "smtplib": f'import smtplib; smtplib.SMTP("{NAME}", timeout=5)',
}
"""What would send a packet."""


ALLOWED = {
    "a socket by address": "socket.create_connection(SERVER, 5).close()",
    "a socket by name": 'socket.create_connection(("localhost", SERVER[1]), 5).close()',
    "a name that was looked up before": """
        (*_, address), *_ = socket.getaddrinfo("localhost", SERVER[1], socket.AF_INET, socket.SOCK_STREAM)
        socket.socket().connect(address)""",
    "the other names of an address": """
        egress.allow([], ["localhost"])  # the address itself is no longer listed
        socket.socket().connect((socket.gethostbyname("localhost"), SERVER[1]))""",
    "this machine, which no name stands for": 'socket.socket().connect(("", SERVER[1]))',
    "urllib": 'urllib.request.urlopen(f"http://127.0.0.1:{SERVER[1]}/", timeout=5).close()',
    "the loop by address": "run(asyncio.open_connection(*SERVER))",
    "the loop by name": 'run(asyncio.open_connection("localhost", SERVER[1], family=socket.AF_INET))',
    "a connected socket in the loop": """
        async def connect():
            return await asyncio.open_connection(sock=socket.create_connection(SERVER, 5))
        run(connect())""",
    "sock_connect of the loop": """
        async def connect():
            with socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ("localhost", SERVER[1]))
        run(connect())""",
    "asyncio's own loop": "asyncio.run(asyncio.open_connection(*SERVER))",
    "aiohttp": """
        import aiohttp
        async def fetch():
            async with aiohttp.ClientSession() as session, session.get(f"http://localhost:{SERVER[1]}/"): pass
        run(fetch())""",
    "httpx": 'import httpx2; httpx2.get(f"http://localhost:{SERVER[1]}/", timeout=5)',
    "datagrams": """
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind(("localhost", 0))
        sender = socket.socket(type=socket.SOCK_DGRAM)
        sender.sendto(b"1", receiver.getsockname())
        sender.sendmsg([b"2"], [], 0, receiver.getsockname())
        assert [receiver.recv(9), receiver.recv(9)] == [b"1", b"2"]""",
    "datagrams of the loop": """
        async def send():
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Nothing, remote_addr=SERVER)
            transport.sendto(b"x")
        run(send())""",
    "sockets of this machine": """
        here, there = socket.socketpair()
        here.sendmsg([b"x"])
        assert there.recv(9) == b"x\"""",
    "what others connect to": """
        async def serve():
            async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0): pass
        run(serve())
        socket.create_server(("", 0)).close()""",
}
"""What a list allows that has 127.0.0.1 and localhost. SERVER answers HTTP."""

SERVING = """
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
SERVER = server.server_address
"""


def skip_without(code: str) -> None:
    for name in re.findall(OPTIONAL, code):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not here")


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_what_is_not_listed_is_refused_with_an_error_that_says_so(code: str) -> None:
    skip_without(code)
    found = attempt(code)
    assert "NotAllowed" in found["raised"], found
    assert any("[network] allows no" in said for said in found["said"])


@pytest.mark.parametrize("code", ALLOWED.values(), ids=ALLOWED)
def test_what_is_listed_is_connected_to(code: str) -> None:
    skip_without(code)
    found = attempt(code, SERVING)
    assert found["raised"] == [], found


def test_the_error_is_one_that_callers_of_sockets_expect() -> None:
    found = attempt(f'socket.create_connection(("{FORBIDDEN}", 80))')
    assert found["raised"][0] == "NotAllowed"
    assert found["os"]
    assert found["said"][0].startswith(f"{FORBIDDEN}: [network] allows no connections to it")


def test_a_new_list_holds_at_once_for_all_that_connects() -> None:
    assert attempt("egress.allow([], []); socket.create_connection(SERVER, 5)", SERVING)["raised"][0] == "NotAllowed"
    assert attempt("confine(Egress()); socket.create_connection(SERVER, 5)", SERVING)["raised"][0] == "NotAllowed"


@pytest.mark.parametrize("function", ["getaddrinfo", "gethostbyname", "gethostbyname_ex"])
def test_functions_of_the_standard_library_keep_their_signature(function: str) -> None:
    code = f"""
        import inspect
        told = getattr(socket, "{function}")
        assert told.__name__ == "{function}" and told.__doc__
        if "{function}" == "getaddrinfo":
            assert list(inspect.signature(told).parameters) == ["host", "port", "family", "type", "proto", "flags"]
            assert socket.getaddrinfo("127.0.0.1", "80", type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            assert socket.getaddrinfo(None, 0) and socket.getaddrinfo(b"127.0.0.1", 80)"""
    assert attempt(code)["raised"] == []


# --- packets ----------------------------------------------------------------------------------------------------------

EVERYTHING = """
import json, sys
head, attempts = json.load(open(sys.argv[1]))
scope = {"__name__": "__main__"}
exec(head + "socket.setdefaulttimeout(0.2)", scope)

def one(code):
    before = packets()
    exec(code, scope)
    try:
        scope["attempt"]()
    except Exception as error:
        pass
    return packets() - before

print(json.dumps({name: one(code) for name, code in attempts.items()}))
"""
SENDING = (
    "urllib by name",
    "a socket by address",
    "a socket by name",
    "a datagram",
    "a message",
    "gethostbyaddr",
    "a name to listen on",
    "a look-up of the loop",
    "datagrams of the loop to anybody",
)
"""Some that send at once, so that the control need not wait for the others to give up."""


def packets_of(directory: Path, head: str, names: Iterable[str]) -> dict[str, int]:
    """Return how many packets leave a machine of its own in each attempt."""
    codes = {name: defined(REFUSED[name].replace("timeout=5", "timeout=0.2")) for name in names}
    codes = {name: code for name, code in codes.items() if not re.search(OPTIONAL, code)}
    (directory / "attempts.json").write_text(json.dumps([head, codes]))
    found = namespaces.run(directory, namespaces.WITH_A_WAY_OUT, EVERYTHING, str(directory / "attempts.json"))
    return {str(name): int(count) for name, count in found.items()}


def test_no_packet_leaves_not_even_to_look_a_name_up(tmp_path: Path) -> None:
    sent = packets_of(tmp_path, HEAD, REFUSED)
    assert len(sent) > 30
    assert {name: count for name, count in sent.items() if count} == {}


def test_that_packets_would_leave_is_seen_without_a_list(tmp_path: Path) -> None:
    sent = packets_of(tmp_path, HEAD.replace("confine(egress)", ""), SENDING)
    assert {name: count for name, count in sent.items() if not count} == {}
