"""One system, one round: start it, load it, watch it, stop it, check that nothing was lost."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import payloads
from load import wire
from processes import MB, Failed, await_answer, cpu_seconds, free_port, memory_mb, pinned, running
from systems import BENCH, HERE, Launch, System, Target, Upstreams, launch_fixed, wrk

ENDPOINT = "/v1/chat/completions"
GATEWAY_CORE, LOAD_CORE = 0, 1
OPEN_RATE = 1000
EVENTS = payloads.CHUNKS + 1
"""Events of a streamed answer, the closing [DONE] included."""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int = 3
    seconds: float = 8
    warmup: float = 2
    streams: int = 200
    starts: int = 5


@dataclass
class Round:
    """What one round of one system gave. `values` are named as in the table; `errors` say what went wrong."""

    values: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    answered: int = 0
    unfinished: int = 0
    """Requests that were under way when wrk hung up: they may or may not be in a log."""


class Bench:
    """The upstreams, and what is run against them. Everything it starts, it stops."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self.plan, self.folder, self.say = plan, folder, say
        self.upstreams = Upstreams(0, 0)

    @contextlib.contextmanager
    def upstream(self) -> Iterator[None]:
        """Run both upstreams."""
        ports = self.upstreams = Upstreams(free_port(), free_port())
        paced = [sys.executable, str(HERE / "upstream.py"), "--port", str(ports.stream)]
        home = fresh(self.folder / "upstream")
        with (
            running(launch_fixed(home, ports.plain), core=LOAD_CORE, log=home / "nginx.out") as fixed,
            running(paced, core=LOAD_CORE, log=home / "paced.out") as streams,
        ):
            for process, port in ((fixed, ports.plain), (streams, ports.stream)):
                await_answer(process, port, self.message(Target(port, "plain")), seconds=10)
            yield

    @contextlib.contextmanager
    def started(self, system: System) -> Iterator[tuple[subprocess.Popen[bytes], Launch, float]]:
        """Start a system and wait for its first answer; give the process, where it listens, and the seconds it took."""
        home = fresh(self.folder / system.name)
        launch = system.launch(home, self.upstreams)
        with running(launch.argv, core=GATEWAY_CORE, log=home / "output", env=launch.env, cwd=home) as process:
            yield process, launch, await_answer(process, launch.plain.port, self.message(launch.plain))

    def message(self, target: Target, *, stream: bool = False) -> bytes:
        return wire(ENDPOINT, target.header_lines(), payloads.request(target.model, stream=stream))

    def starts(self, system: System) -> list[float]:
        """Start and stop a system a few times; return the seconds that its first answers took."""
        seconds = []
        for _ in range(self.plan.starts):
            with self.started(system) as (_, _, took):
                seconds.append(took)
        return seconds

    def round(self, system: System) -> Round:
        """Measure a system once, with a fresh process and a fresh log."""
        result = Round()
        with self.started(system) as (process, launch, _):
            result.answered += 1
            result.values["memory_idle_mb"] = memory_mb(process.pid)
            self.workloads(result, launch, process.pid)
            result.values["memory_mb"] = memory_mb(process.pid)
            if process.poll() is not None:
                raise Failed(f"it ended under load with status {process.returncode}")
        self.check_log(system, result)
        return result

    def check_log(self, system: System, result: Round) -> None:
        """Compare the calls in a system's log with the answers that callers got, then throw the log away."""
        if system.logged is None:
            return
        home = self.folder / system.name
        logged, least = system.logged(home), result.answered
        result.values["logged"], result.values["answered"] = logged, least
        result.values["log_mb"] = sum(path.stat().st_size for path in home.glob("log.db*")) / MB
        most = least + result.unfinished
        if not least <= logged <= most:
            result.errors.append(f"{logged} calls in the log, expected {least} (to {most} with the unfinished)")
        for path in home.glob("log.db*"):
            path.unlink()

    def workloads(self, result: Round, launch: Launch, pid: int) -> None:
        self.saturate(result, launch.plain, pid)
        self.one_by_one(result, launch.plain)
        if result.values["rate"] > 1.1 * OPEN_RATE:
            self.at_rate(result, launch.plain)
        else:
            result.notes.append(f"saturated below {OPEN_RATE}/s")
        self.stream(result, launch.stream, pid)

    def direct(self) -> Round:
        """Measure the upstream without a gateway: what the latencies of the gateways are compared to."""
        result, target = Round(), Target(self.upstreams.plain, "plain")
        self.one_by_one(result, target)
        self.at_rate(result, target)
        return result

    def saturate(self, result: Round, target: Target, pid: int) -> None:
        """Closed loop with 64 connections. The warm-up checks every answer, wrk their status and their mean size."""
        self.say("warm-up, every answer checked")
        warm = self.load(result, target, "--connections", "64", "--warmup", "1", "--seconds", str(self.plan.warmup))
        self.say("closed loop, 64 connections")
        before = cpu_seconds(pid)
        got = self.wrk(result, target, connections=64)
        cpu = cpu_seconds(pid) - before
        result.values["rate"] = got["requests"] / got["seconds"]
        result.values["rate_per_cpu"] = got["requests"] / cpu if cpu > 0 else 0.0
        result.values["c64_p50_us"], result.values["c64_p99_us"] = got["p50_us"], got["p99_us"]
        size = got["bytes"] / max(1, got["requests"])
        if abs(size - warm["bytes_per_answer"]) > 0.02 * size:
            result.errors.append(f"answers of {size:.0f} bytes, in the warm-up {warm['bytes_per_answer']}")

    def one_by_one(self, result: Round, target: Target) -> None:
        self.say("closed loop, 1 connection")
        got = self.wrk(result, target, connections=1)
        result.values["c1_p50_us"], result.values["c1_p99_us"] = got["p50_us"], got["p99_us"]

    def at_rate(self, result: Round, target: Target) -> None:
        self.say(f"open loop, {OPEN_RATE} requests a second")
        rate = ("--rate", str(OPEN_RATE), "--connections", "32")
        got = self.load(result, target, *rate, "--warmup", "1", "--seconds", str(self.plan.seconds))
        result.values["open_p50_us"], result.values["open_p99_us"] = got["p50_us"], got["p99_us"]

    def stream(self, result: Round, target: Target, pid: int) -> None:
        self.say(f"{self.plan.streams} paced streams")
        before = self.paced()
        streams = ("--stream", "--connections", str(self.plan.streams), "--pid", str(pid))
        got = self.load(result, target, *streams, "--warmup", "4", "--seconds", str(self.plan.seconds))
        result.values["events_per_s"] = got["events"] / got["seconds"]
        result.values["events_per_cpu"] = got["events"] / got["cpu_s"] if got["cpu_s"] > 0 else 0.0
        for percentile in ("p50", "p99"):
            result.values[f"first_token_{percentile}_us"] = got[f"first_{percentile}_us"] or 0.0
        after = self.paced()
        sent = after["events"] - before["events"]
        result.values["late_events"] = (after["late"] - before["late"]) / sent if sent else 0.0
        wrong = {int(events): answers for events, answers in got["events_per_answer"].items() if int(events) != EVENTS}
        if wrong:
            result.errors.append(f"streams with another number of events than {EVENTS}: {wrong}")

    def paced(self) -> dict[str, int]:
        """Ask the upstream of the streams what it has sent, and how much of it late."""
        with urlopen(f"http://127.0.0.1:{self.upstreams.stream}/stats", timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
        return counts

    def load(self, result: Round, target: Target, *options: str) -> dict[str, Any]:
        """Run load.py on the core of the load; what it found wrong is added to the result."""
        body = self.body(target, stream="--stream" in options)
        headers = [part for line in target.header_lines() for part in ("--header", line)]
        argv = [sys.executable, str(HERE / "load.py"), "--port", str(target.port), "--body", str(body)]
        got = last_line([*argv, *headers, *options])
        result.answered += got["answered"]
        result.errors += [f"{count} x {what}" for what, count in got["errors"].items()]
        return got

    def wrk(self, result: Round, target: Target, *, connections: int) -> dict[str, Any]:
        """Run wrk on the core of the load; what it found wrong is added to the result."""
        pairs = [part for line in target.header_lines() for part in line.split(": ", 1)]
        options = ["-t1", f"-c{connections}", f"-d{self.plan.seconds:g}s", "--timeout", "60s"]
        url = f"http://127.0.0.1:{target.port}{ENDPOINT}"
        argv = [wrk(), *options, "-s", str(HERE / "wrk.lua"), url, "--", str(self.body(target, stream=False)), *pairs]
        got = last_line(argv)
        result.answered += got["requests"]
        result.unfinished += connections
        for kind in ("status_errors", "socket_errors"):
            if got[kind]:
                result.errors.append(f"{got[kind]} {kind.replace('_', ' ')} at {connections} connections")
        return got

    def body(self, target: Target, *, stream: bool) -> Path:
        path = self.folder / f"request-{target.model}.json"
        path.write_bytes(payloads.request(target.model, stream=stream))
        return path


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def last_line(argv: list[str]) -> dict[str, Any]:
    """Run a load generator; return the JSON object that is the last line it prints."""
    done = subprocess.run(pinned(argv, LOAD_CORE), check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{Path(argv[1]).name} failed: {done.stderr.strip()[-300:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


RUNS = BENCH / "run"
