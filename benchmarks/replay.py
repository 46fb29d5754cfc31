"""What `reproducible` is worth: `python benchmarks/contracts.py replay`.

Ten thousand identical calls at once to a gateway of one worker, before a provider that counts what it is asked and
takes a fifth of a second, so that many calls wait for the first. Then the same feature under load, beside one that asks
the provider each time; as the provider answers at once there, what is compared is the gateway's own work.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import payloads
from processes import cpu_seconds
from report import Table
from resilience import Finding, Gateway, Plan, asked, feature, gateway, upstream
from rounds import ENDPOINT

CALLS: Final = 10_000
STREAMS: Final = 1_000
AT_ONCE: Final = 256
FIRST_MS: Final = "200"


@contextlib.contextmanager
def _served(home: Path, *options: str) -> Iterator[tuple[Gateway, int]]:
    features = feature("warm", "only") + feature("same", "only", reproducible="true")
    with (
        upstream(home, "provider", *options) as provider,
        gateway(home, {"only": provider}, features, plan=Plan()) as under_test,
    ):
        yield under_test, provider


async def identical(port: int, count: int, *, stream: bool) -> tuple[list[bytes], set[int], float]:
    """Make identical calls at once; return the distinct texts or bodies, the statuses, and the seconds it took."""
    body = payloads.request("same", stream=stream)
    headers = {"content-type": "application/json"}
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    bodies, statuses = set(), set()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:

        async def call() -> None:
            async with session.post(ENDPOINT, data=body, headers=headers) as response:
                raw = await response.read()
            bodies.add(_text(raw) if stream else raw)
            statuses.add(response.status)

        start = time.perf_counter()
        await asyncio.gather(*[call() for _ in range(count)])
        return sorted(bodies), statuses, time.perf_counter() - start


def _text(raw: bytes) -> bytes:
    """Return the text of a stream; its events also tell the id of the call."""
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]
    deltas = [choice["delta"].get("content") or "" for event in events for choice in event["choices"]]
    return "".join(deltas).encode()


def measure(home: Path, seconds: float) -> tuple[list[Table], list[Finding]]:
    with _served(home, "--first-ms", FIRST_MS) as (under_test, provider):
        before = asked(provider)["requests"]
        bodies, statuses, took = asyncio.run(identical(under_test.port, CALLS, stream=False))
        once = asked(provider)["requests"] - before
        texts, streamed_statuses, _ = asyncio.run(identical(under_test.port, STREAMS, stream=True))
        under_test.answered += CALLS + STREAMS
        after = asked(provider)["requests"] - before - once
    found: dict[str, tuple[float, float]] = {}
    with _served(home) as (under_test, provider):
        for name in ("same", "warm", "same", "warm"):
            cpu = cpu_seconds(under_test.process.pid)
            got = under_test.load(name, "--connections", "64", "--warmup", "1", "--seconds", f"{seconds:g}").finish()
            cpu = cpu_seconds(under_test.process.pid) - cpu
            rates = got["rate"], got["answered"] / cpu
            found[name] = max(found.get(name, rates), rates)
        wrong = under_test.errors
    rows = (
        ("calls/s", f"{found['warm'][0]:,.0f}", f"{found['same'][0]:,.0f}", _times(found, 0)),
        ("calls per CPU second", f"{found['warm'][1]:,.0f}", f"{found['same'][1]:,.0f}", _times(found, 1)),
    )
    return [Table("64 callers, the better of two turns", ("", "asked each time", "given again", "ratio"), rows)], [
        Finding(
            f"calls to the provider for {CALLS:,} identical ones, {AT_ONCE} at a time", str(once), "1", met=once == 1
        ),
        Finding("different bodies", str(len(bodies)), "1", len(bodies) == 1),
        Finding("statuses", ", ".join(map(str, sorted(statuses | streamed_statuses))), "200", statuses == {200}),
        Finding("seconds, a provider's fifth of a second among them", f"{took:.1f}"),
        Finding(f"calls to the provider for {STREAMS:,} streams of the same", str(after), "0", met=after == 0),
        Finding("different texts of the streams", str(len(texts)), "1", len(texts) == 1),
        Finding("errors under load", json.dumps(wrong) if wrong else "none", "none", not wrong),
    ]


def _times(found: dict[str, tuple[float, float]], which: int) -> str:
    return f"{found['same'][which] / found['warm'][which]:.2f}x"
