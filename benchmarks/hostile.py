"""What hostile schemas and answers do to the others: `python benchmarks/contracts.py hostile`.

Ordinary calls come at a steady rate to a gateway process on a core of its own, each timed from when it was due. Beside
them come calls whose schema, or whose answer, was made to take long, one after the other, each three times. Run as a
script, this file is the provider that gives these answers.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Final

import aiohttp
import payloads
from load import wire
from processes import Failed, await_answer, free_port, memory_mb, running
from report import Table
from resilience import Finding, upstream
from rounds import ENDPOINT, GATEWAY_CORE, LOAD_CORE

MB: Final = 2**20
RATE: Final = 100
"""Ordinary calls a second."""
QUIET_SECONDS: Final = 5.0
AFTER: Final = 0.2
"""Seconds for which the others are watched after a hostile call."""
TIMES: Final = 3
WORST_MS: Final = 150.0
GROWTH_MB: Final = 300
STREAM_PIECE: Final = 64
ANSWER: Final = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["reasoning", "answer"],
}
Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A hostile call: the schema that comes with it (None: the feature's contract is "answer") and the answer."""

    answer: Callable[[], str]
    schema: Callable[[], Any] | None = None
    stream: str | None = None
    """How the answer is asked for: None as a whole, else "hold", "pass" or "object"."""


# --- what is hostile --------------------------------------------------------------------------------------------------


def _doubling(levels: int) -> Json:
    """Definitions that ask each for the next one twice."""
    asks = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)}
    return {"$defs": {**asks, f"a{levels}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def _all_to_all() -> Json:
    named = {f"a{i}": {"properties": {f"x{j}": {"$ref": f"#/$defs/a{j}"} for j in range(48)}} for i in range(100)}
    return {"$defs": named, "$ref": "#/$defs/a0"}


def _same_large_definition(times: int) -> Json:
    large = {"properties": {f"k{i}": {"type": "string", "minLength": i} for i in range(1_000)}}
    return {"$defs": {"large": large}, "properties": {f"p{i}": {"$ref": "#/$defs/large"} for i in range(times)}}


def _ids() -> Json:
    named = {f"a{i}": {"$id": f"http://x/{i}/z", "type": "string"} for i in range(1_200)}
    return {"$defs": named, "properties": {f"p{i}": {"$ref": f"http://x/{i}/z"} for i in range(1_200)}}


def _tree() -> Json:
    leaf: Json = {"type": "string"}
    return reduce(lambda inner, _: {"properties": {"x": inner, "y": inner}}, range(11), leaf)


def _object(inside: str) -> str:
    return f'{{"reasoning": "{inside}", "answer": "1"}}'


def _members() -> str:
    return "{" + ", ".join(f"\"{number}\": '{number}'" for number in range(60_000)) + "}"


ANSWERS: Final[dict[str, Callable[[], str]]] = {
    "1 MB, valid": lambda: _object("word " * (MB // 5 - 20)),
    "1 MB of brackets": lambda: "[" * MB,
    "1 MB of objects in objects": lambda: '{"a":' * (MB // 5),
    "1 MB of quotes": lambda: '{"reasoning": "' + '"' * (MB - 20),
    "1 MB of quotes and commas": lambda: '{"reasoning": "' + '", ' * (MB // 3 - 10),
    "1 MB of backslashes": lambda: '{"reasoning": "' + "\\" * (MB - 20),
    "1 MB of escapes": lambda: '{"reasoning": "' + "\\n" * (MB // 2 - 20) + '"',
    "1 MB of numbers": lambda: '{"a": [' + "1," * (MB // 2 - 10) + "1]}",
    "1 MB of small objects": lambda: '{"a": [' + '{"a":1},' * (MB // 8 - 10) + "1]}",
    "60,000 members in single quotes": _members,
    "1 MB of prose with braces": lambda: "x = {a[1]}\n" * (MB // 11),
    "60 KB of escapes": lambda: '{"reasoning": "' + "\\n" * 30_000 + '"',
    "60 KB of numbers": lambda: '{"a": [' + "1," * 30_000 + "1]}",
    "4 KB of quotes and commas": lambda: '{"reasoning": "' + '", ' * 1_300,
}
SCHEMAS: Final[dict[str, tuple[Callable[[], Any], Callable[[], str]]]] = {
    "definitions that double": (lambda: _doubling(40), lambda: "3"),
    "a schema within itself, twice": (
        lambda: {"anyOf": [{"properties": {"a": {"$ref": "#"}}}] * 2},
        lambda: '{"a":' * 100 + "1" + "}" * 100,
    ),
    "4,900 properties": (lambda: {"properties": {f"k{i}": {"type": "string"} for i in range(4_900)}}, lambda: "{}"),
    "3,000 references to a definition of 1,000": (lambda: _same_large_definition(3_000), lambda: '{"p1":{"k1":"x"}}'),
    "100 definitions that all refer to 48": (_all_to_all, lambda: '{"x1":{"x1":{}}}'),
    "1,200 schemas with an $id": (_ids, lambda: '{"p1":"x"}'),
    "eleven levels of two": (_tree, lambda: '{"x":{"x":1}}'),
    "half a megabyte of an enum": (
        lambda: {"enum": ["x" * 50 + str(i) for i in range(8_500)]},
        lambda: '"x"',
    ),
    "900 patterns": (lambda: {"allOf": [{"pattern": f"a{{250}}b{i}"} for i in range(900)]}, lambda: '"x"'),
    "an exponential pattern, 1 MB": (lambda: {"pattern": "^(a+)+$"}, lambda: json.dumps("a" * MB + "!")),
    "a pattern of 500 states, 1 MB": (
        lambda: {"pattern": "(a|b)*a(a|b){500}c"},
        lambda: json.dumps("ab" * (MB // 2)),
    ),
    "patterns of keys, 80,000 keys": (
        lambda: {"patternProperties": {f"(a|b|c)*{i}$": True for i in range(900)}},
        lambda: json.dumps({f"k{i}": 1 for i in range(80_000)}),
    ),
    "unique items, 100,000 lists": (
        lambda: {"uniqueItems": True},
        lambda: json.dumps([[i] for i in range(100_000)]),
    ),
    "4,900 choices, 300,000 items": (
        lambda: {"items": {"anyOf": [{"const": i} for i in range(4_900)]}},
        lambda: json.dumps([-1] * 300_000),
    ),
    "300,000 items, all wrong": (lambda: {"items": {"type": "string"}}, lambda: json.dumps([1] * 300_000)),
    "80,000 keys, none of them known": (
        lambda: {"additionalProperties": False},
        lambda: json.dumps({f"k{i}": 1 for i in range(80_000)}),
    ),
    "a million digits": (lambda: {"type": "integer"}, lambda: "1" * MB),
    "100,000 deep": (lambda: {"items": {"$ref": "#"}}, lambda: "[" * 100_000 + "]" * 100_000),
}


def cases() -> dict[str, Case]:
    """Return every hostile call by its name."""
    found = {}
    for name, answer in ANSWERS.items():
        for stream in (None, "hold", "pass", "object"):
            found[f"{name}, {_asked(stream)}"] = Case(answer, None, stream)
    for name, (schema, answer) in SCHEMAS.items():
        for stream in (None, "hold"):
            found[f"{name}, {_asked(stream)}"] = Case(answer, schema, stream)
    return found


def _asked(stream: str | None) -> str:
    return "whole" if stream is None else f'stream = "{stream}"'


# --- the provider -----------------------------------------------------------------------------------------------------


async def provide(port: int, only: str) -> None:
    """Answer by the model's name, with bytes that were made in advance."""
    known: dict[tuple[str, bool], bytes] = {}
    chosen = [case for name, case in cases().items() if only in name]
    answers = {f"case-{number}": case for number, case in enumerate(chosen)}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
                )
                asked = json.loads(await reader.readexactly(length))
                key = (asked["model"], bool(asked.get("stream")))
                if key not in known:
                    known[key] = _wire_answer(answers[key[0]].answer(), stream=key[1])
                writer.write(known[key])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=4 * MB)
    async with server:
        await server.serve_forever()


def _wire_answer(text: str, *, stream: bool) -> bytes:
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return (head + body).encode()
    pieces = [text[at : at + STREAM_PIECE] for at in range(0, min(len(text), MB // 4), STREAM_PIECE)]
    pieces += [text[MB // 4 :]]  # a quarter in small pieces, all else at once
    choices: list[Json] = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    shared = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [f"data: {json.dumps(shared | {'choices': [choice]})}\n\n" for choice in choices]
    body = "".join([*events, "data: [DONE]\n\n"])
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


# --- what runs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(home: Path, all_cases: dict[str, Case], only: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a gateway before an ordinary and a hostile provider; give its process and port."""
    hostile, port = free_port(), free_port()
    provider = [sys.executable, str(Path(__file__)), "--port", str(hostile), "--only", only]
    serve = [sys.executable, "-m", "holdfast", "serve", "--config", "holdfast.toml", "--port", str(port)]
    (home / "answer.json").write_text(json.dumps(ANSWER))
    with upstream(home, "ordinary") as ordinary, running(provider, core=LOAD_CORE, log=home / "provider.out"):
        (home / "holdfast.toml").write_text(_configuration(home, ordinary, hostile, all_cases))
        with running(serve, core=GATEWAY_CORE, log=home / "serve.out", cwd=home) as gateway:
            await_answer(gateway, port, wire(ENDPOINT, (), payloads.request("ordinary", stream=False)))
            yield gateway, port
            if gateway.poll() is not None:
                raise Failed(f"the gateway ended with status {gateway.returncode}")


def _configuration(home: Path, ordinary: int, hostile: int, all_cases: dict[str, Case]) -> str:
    tables = [
        f'[log]\npath = "{home}/log.db"\n',
        f'[models.sound]\nprovider = "openai"\nbase_url = "http://127.0.0.1:{ordinary}/v1"\n',
        '[features.ordinary]\nmodels = ["sound"]\n',
    ]
    for number, case in enumerate(all_cases.values()):
        contract = 'contract = "answer.json"\n' if case.schema is None else ""
        tables.append(
            f'[models.case-{number}]\nprovider = "openai"\nbreaker = false\n'
            f'base_url = "http://127.0.0.1:{hostile}/v1"\n\n'
            f'[features.hostile-{number}]\nmodels = ["case-{number}"]\nretries = 0\ndeadline = "120s"\n'
            f'store = "none"\n{contract}'
        )
    return "\n".join(tables)


@dataclass
class Trickle:
    """Ordinary calls at a steady rate: when each was due, and how long it took from then."""

    session: aiohttp.ClientSession
    taken: list[tuple[float, float]] = field(default_factory=list)
    wrong: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Trickle"]:
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, *self.under_way, return_exceptions=True)

    def since(self, start: float) -> list[float]:
        """Return the milliseconds of the calls that were due since then, in order of length."""
        return sorted(1000 * seconds for due, seconds in self.taken if due >= start)

    async def _run(self) -> None:
        body = payloads.request("ordinary", stream=False)
        due = time.perf_counter()
        while True:
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._call(body, due))
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)

    async def _call(self, body: bytes, due: float) -> None:
        async with self.session.post(ENDPOINT, data=body, headers={"content-type": "application/json"}) as response:
            said = await response.read()
        self.taken.append((due, time.perf_counter() - due))
        self.wrong += payloads.TEXT.encode() not in said


@dataclass(frozen=True)
class Seen:
    """What one hostile call came to: its outcome, and medians of its seconds and the worst delay of another call.

    `most_ms` is the worst of all its turns, `memory` what the gateway then had, in MB.
    """

    name: str
    outcome: str
    seconds: float
    worst_ms: float
    most_ms: float
    memory: float


async def attack(port: int, pid: int, all_cases: dict[str, Case]) -> tuple[list[float], list[Seen], int]:
    """Return the delays of ordinary calls alone, what came of each hostile call, and how many others went wrong."""
    seen: list[Seen] = []
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=150)
    url = f"http://127.0.0.1:{port}"
    async with (
        aiohttp.ClientSession(url, connector=connector, timeout=timeout) as session,
        Trickle(session).running() as trickle,
    ):
        await asyncio.sleep(1)  # its connections open
        start = time.perf_counter()
        await asyncio.sleep(QUIET_SECONDS)
        quiet = trickle.since(start)
        for number, (name, case) in enumerate(all_cases.items()):
            seen.append(await _attacked(trickle, number, name, case, pid))
            print(f"{seen[-1].worst_ms:7.0f} ms {seen[-1].memory:6.0f} MB {name}", file=sys.stderr, flush=True)
    return quiet, seen, trickle.wrong


async def _attacked(trickle: Trickle, number: int, name: str, case: Case, pid: int) -> Seen:
    worst, taken, most, outcome = [], [], 0.0, ""
    for turn in range(TIMES):
        body = _hostile_body(number, case, turn)
        start = time.perf_counter()
        outcome = await _call(trickle.session, body)
        taken.append(time.perf_counter() - start)
        await asyncio.sleep(AFTER)
        worst.append(trickle.since(start)[-1])
        most = max(most, memory_mb(pid))
    return Seen(name, outcome, statistics.median(taken), statistics.median(worst), max(worst), most)


def _hostile_body(number: int, case: Case, turn: int) -> bytes:
    """Return a hostile call, whose schema was not seen before."""
    body: Json = {"model": f"hostile-{number}", "messages": [{"role": "user", "content": "?"}]}
    if case.schema is not None:
        named = {"name": f"hostile_{number}_{turn}", "schema": case.schema(), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if case.stream is not None:
        body |= {"stream": True, "holdfast": {"stream": case.stream}}
    return json.dumps(body).encode()


async def _call(session: aiohttp.ClientSession, body: bytes) -> str:
    async with session.post(ENDPOINT, data=body, headers={"content-type": "application/json"}) as response:
        tail = b""
        async for piece in response.content.iter_any():
            tail = (tail + piece)[-4000:]
    if response.status != 200:
        return f"{response.status} {json.loads(tail)['error']['code']}"
    if b'"error"' in tail:
        return "200, then contract_violated" if b"contract_violated" in tail else "200, then an error"
    return "200"


def measure(home: Path, only: str = "") -> tuple[list[Table], list[Finding]]:
    all_cases = {name: case for name, case in cases().items() if only in name}
    with served(home, all_cases, only) as (process, port):
        before = memory_mb(process.pid)
        quiet, seen, wrong = asyncio.run(attack(port, process.pid, all_cases))
        after = memory_mb(process.pid)
    worst = max(seen, key=lambda one: one.worst_ms)
    most = max(one.memory for one in seen)
    longest = max(seen, key=lambda one: one.seconds)
    codes = sorted({one.outcome for one in seen})
    rows = tuple(
        (one.name, one.outcome, f"{one.seconds * 1000:.0f}", f"{one.worst_ms:.0f}", f"{one.most_ms:.0f}")
        for one in sorted(seen, key=lambda one: -one.worst_ms)[:12]
    )
    quantiles = statistics.quantiles(quiet, n=100)
    return [
        Table(
            "The dozen that others noticed most",
            ("", "outcome", "its own time (ms)", "worst delay of others (ms)", "in the worst turn"),
            rows,
        )
    ], [
        Finding("hostile calls, each three times", str(len(seen))),
        Finding(
            "others without them: p50 / p99 / worst (ms)",
            f"{quantiles[49]:.1f} / {quantiles[98]:.1f} / {quiet[-1]:.1f}",
        ),
        Finding(
            "others beside them: worst, median of three turns (ms)",
            f"{worst.worst_ms:.0f}, {worst.name}",
            f"< {WORST_MS:g}",
            worst.worst_ms < WORST_MS,
        ),
        Finding("others that went wrong", str(wrong), "0", not wrong),
        Finding("the longest hostile call (ms)", f"{longest.seconds * 1000:.0f}, {longest.name}"),
        Finding("outcomes of the hostile", ", ".join(codes)),
        Finding(
            "memory before -> most -> after (MB)",
            f"{before:.0f} -> {most:.0f} -> {after:.0f}",
            f"< {GROWTH_MB} more",
            most - before < GROWTH_MB,
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--only", default="")
    asyncio.run(provide(**vars(parser.parse_args())))
