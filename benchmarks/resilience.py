"""How Holdfast bears what its providers do: `python benchmarks/resilience.py [tail streams soak kills outage]`.

    tail     one of twenty first tokens ten times as late: their 99th percentile with hedges at p95 and without
    streams  2,000 streams at a time on one worker: memory, errors, gaps between events
    soak     ten minutes at half of saturation while something befalls 2 % of the requests: memory, sockets, the log
    kills    four workers of which one is killed every ten seconds for two minutes: what fails, and what is forgotten
    outage   an hour of a model that is down, at 100 calls a second on an injected clock: who still asks it

Each prints a table with its bars, and the whole ends with 1 unless all are met. It needs two cores that do nothing
else; `--quick` takes a minute and proves nothing but that it runs.
"""

import argparse
import contextlib
import json
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import outage
import payloads
import psutil
from load import wire
from processes import Failed, await_answer, free_port, memory_mb, pinned, running, tree
from report import Table, text, write_page
from rounds import ENDPOINT, GATEWAY_CORE, LOAD_CORE, fresh
from systems import BENCH, HERE

RESILIENCE_PAGE = HERE.parent / "docs" / "operations" / "resilience.md"
OUTPUT = "output"
WORKER_STARTS = 2.0
"""Seconds within which a killed worker is replaced."""
SLACK_MS = 100
"""What may be lost of an asynchronous log beyond `flush_ms`: the writer's own time."""
FLUSH_MS = 50


@dataclass(frozen=True)
class Plan:
    """Seconds of each section, and its size."""

    tail: float = 60
    tail_rate: float = 100
    streams: int = 2000
    streams_seconds: float = 60
    streams_interval_ms: float = 400
    soak: float = 600
    kills: float = 120
    kill_every: float = 10
    outage: float = 3600
    durability: str = "async"


QUICK = Plan(
    tail=6, streams=100, streams_seconds=4, streams_interval_ms=40, soak=12, kills=12, kill_every=4, outage=120
)


@dataclass
class Finding:
    """A row of a table: what was measured, and whether it meets its bar. `bar` None has none."""

    what: str
    measured: str
    bar: str | None = None
    met: bool = True

    def row(self) -> tuple[str, str, str, str]:
        return (self.what, self.measured, self.bar or "", "" if self.bar is None else "met" if self.met else "MISSED")


@dataclass
class Gateway:
    """A gateway under test, and where it keeps its things."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    answered: int = 1
    stopped: bool = False
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """What it has complained of."""
        return (self.folder / OUTPUT).read_text(errors="replace")

    def load(self, model: str, *options: str) -> "Load":
        """Begin to load a feature."""
        stream = "--stream" in options
        path = self.folder / f"request-{model}-{stream}.json"
        path.write_bytes(payloads.request(model, stream=stream))
        argv = [sys.executable, str(HERE / "load.py"), "--port", str(self.port), "--body", str(path), *options]
        return Load(self, subprocess.Popen(pinned(argv, LOAD_CORE), stdout=subprocess.PIPE, text=True))

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve, where there are several."""
        return [one for one in tree(self.process.pid)[1:] if "spawn_main" in " ".join(_command(one))]

    def logged(self) -> tuple[int, int]:
        """Count the calls in the log, and how many different ones they are, with nothing but SQLite."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/log.db?mode=ro", uri=True)) as database:
            rows, calls = database.execute("SELECT count(*), count(DISTINCT id) FROM calls").fetchone()
        return int(rows), int(calls)

    def attempts(self) -> dict[str, int]:
        """Count the attempts in the log by why they were made, those of one attempt as "first"."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/log.db?mode=ro", uri=True)) as database:
            return dict(database.execute("SELECT reason, count(*) FROM attempts GROUP BY reason").fetchall())


@dataclass
class Load:
    """A load generator at work."""

    gateway: Gateway
    process: subprocess.Popen[str]

    def finish(self) -> dict[str, Any]:
        """Wait for its end; return what it measured. Raises Failed."""
        output, _ = self.process.communicate()
        if self.process.returncode:
            raise Failed(f"load.py ended with {self.process.returncode}")
        got: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        self.gateway.answered += got["answered"]
        for what, count in got["errors"].items():
            self.gateway.errors[what] = self.gateway.errors.get(what, 0) + count
        return got


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


# --- what runs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def upstream(folder: Path, name: str, *options: str) -> Iterator[int]:
    """Run upstream.py; give its port."""
    port = free_port()
    argv = [sys.executable, str(HERE / "upstream.py"), "--port", str(port), *options]
    with running(argv, core=LOAD_CORE, log=folder / f"{name}.out"):
        patience = time.monotonic() + 10
        while True:
            try:
                asked(port)
            except OSError as error:
                if time.monotonic() > patience:
                    raise Failed(f"{name} does not answer: {error}") from error
                time.sleep(0.02)
            else:
                break
        yield port


def asked(port: int) -> dict[str, int]:
    """Return what an upstream says it was asked, and what befell that."""
    with urlopen(f"http://127.0.0.1:{port}/stats", timeout=10) as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


@contextlib.contextmanager
def gateway(
    folder: Path, models: dict[str, int], features: str, *args: str, plan: Plan, log: str = ""
) -> Iterator[Gateway]:
    """Run Holdfast in front of some upstreams; give it when it has answered its first call to the feature "warm".

    Raises:
        Failed: it did not start, or did not stop well.
    """
    home, port = fresh(folder / "gateway"), free_port()
    tables = [f'[log]\npath = "{home}/log.db"\ndurability = "{plan.durability}"\nflush_ms = {FLUSH_MS}\n{log}\n']
    tables += [
        f'[models.{name}]\nprovider = "openai"\nname = "gpt-4o-mini"\nbase_url = "http://127.0.0.1:{at}/v1"\n'
        for name, at in models.items()
    ]
    (home / "holdfast.toml").write_text("\n".join([*tables, features]))
    argv = [sys.executable, "-m", "holdfast", "serve", "--config", str(home / "holdfast.toml"), "--port", str(port)]
    with running([*argv, *args], core=GATEWAY_CORE, log=home / OUTPUT, cwd=home) as process:
        await_answer(process, port, wire(ENDPOINT, (), payloads.request("warm", stream=False)))
        under_test = Gateway(process, port, home)
        yield under_test
        if not under_test.stopped and process.poll() is not None:
            raise Failed(f"the gateway ended under load with status {process.returncode}")


def feature(name: str, *models: str, **settings: str) -> str:
    """Return the table of a feature."""
    listed = ", ".join([f'"{model}"' for model in models])
    lines = [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join([f"[features.{name}]", f"models = [{listed}]", *lines, "", ""])


def stopped(under_test: Gateway) -> float:
    """Stop a gateway; return the seconds that took. Raises Failed if it doesn't end well."""
    begin, under_test.stopped = time.monotonic(), True
    under_test.process.terminate()
    try:
        code = under_test.process.wait(30)
    except subprocess.TimeoutExpired as error:
        raise Failed("the gateway does not stop") from error
    if code:
        raise Failed(f"the gateway ended with status {code}: {under_test.output[-300:]}")
    return time.monotonic() - begin


# --- tail -------------------------------------------------------------------------------------------------------------


def tail(folder: Path, plan: Plan) -> list[Finding]:
    """Compare the first tokens of a feature that hedges with those of one that doesn't."""
    results = {}
    hedged = "true"
    for name, hedge in (("without", "false"), ("with", hedged)):
        late = ("--first-ms", "30", "--late", "0.05", "--interval-ms", "1")
        with upstream(folder, name, *late) as first, upstream(folder, f"{name}-next", *late) as second:
            models = {"first": first, "second": second}
            features = feature("warm", "first") + feature("tail", "first", "second", hedge=hedge)
            with gateway(folder, models, features, plan=plan) as under_test:
                rate = ("--rate", f"{plan.tail_rate:g}", "--connections", "32", "--warmup", "6")
                got = under_test.load("tail", "--stream", *rate, "--seconds", str(plan.tail)).finish()
                calls = under_test.answered
                requests = asked(first)["requests"] + asked(second)["requests"]
        results[name] = (
            got["first_p50_us"] / 1000,
            got["first_p99_us"] / 1000,
            requests / calls - 1,
            under_test.errors,
        )
    (p50, p99, more, wrong), (hedged_p50, hedged_p99, hedged_more, hedged_wrong) = results["without"], results["with"]
    return [
        Finding("first token without hedges, p50 / p99 (ms)", f"{p50:.0f} / {p99:.0f}"),
        Finding("first token with hedges at p95, p50 / p99 (ms)", f"{hedged_p50:.0f} / {hedged_p99:.0f}"),
        Finding("p99 with / without", f"{hedged_p99 / p99:.2f}", "< 0.5", hedged_p99 < p99 / 2),
        Finding("more calls to providers", f"{hedged_more - more:+.1%}", "< 7 %", hedged_more - more < 0.07),
        _nothing_wrong(wrong | hedged_wrong),
    ]


def _nothing_wrong(errors: dict[str, int]) -> Finding:
    told = "; ".join([f"{count} x {what}" for what, count in errors.items()])[:300]
    return Finding("errors", told or "none", "none", not errors)


# --- streams ----------------------------------------------------------------------------------------------------------


def streams(folder: Path, plan: Plan) -> list[Finding]:
    """Hold many streams at a time on one worker."""
    interval = plan.streams_interval_ms
    with upstream(folder, "paced", "--interval-ms", str(interval)) as port:
        features = feature("warm", "paced") + feature("held", "paced", deadline='"300s"')
        with gateway(folder, {"paced": port}, features, plan=plan) as under_test:
            before = memory_mb(under_test.process.pid)
            lasting = interval * payloads.CHUNKS / 1000
            options = ("--connections", str(plan.streams), "--warmup", str(2 * lasting), "--gaps")
            load = under_test.load("held", "--stream", *options, "--seconds", str(plan.streams_seconds))
            time.sleep(1.5 * lasting)
            held, most = asked(port)["open"], memory_mb(under_test.process.pid)
            got = load.finish()
            after = memory_mb(under_test.process.pid)
            sent = asked(port)
            took = stopped(under_test)
        rows, calls = under_test.logged()
    p99 = got["gap_p99_us"] / 1000
    return [
        Finding("streams held at a time", f"{plan.streams:,}", f"{plan.streams:,}", held >= plan.streams),
        Finding("memory before -> with all of them -> after (MB)", f"{before:.0f} -> {most:.0f} -> {after:.0f}"),
        Finding("memory a stream (KB)", f"{(most - before) * 1000 / plan.streams:.1f}"),
        Finding(
            f"time between events, sent every {interval:g} ms: p50 / p99 / max (ms)",
            f"{got['gap_p50_us'] / 1000:.0f} / {p99:.0f} / {got['gap_max_us'] / 1000:.0f}",
            f"p99 < {1.5 * interval:g}",
            p99 < 1.5 * interval,
        ),
        Finding("events that left the upstream late", f"{sent['late'] / max(1, sent['events']):.2%}"),
        Finding(
            "answers, each once in the log",
            f"{calls:,}",
            f"{under_test.answered:,}",
            rows == calls == under_test.answered,
        ),
        Finding("seconds to stop", f"{took:.1f}"),
        _nothing_wrong(under_test.errors),
    ]


# --- soak -------------------------------------------------------------------------------------------------------------


def soak(folder: Path, plan: Plan) -> list[Finding]:
    """Load it at half of saturation while something befalls 2 % of the requests."""
    timeouts = '{ connect = "1s", first_token = "2s", idle = "2s", answer = "3s" }'
    with upstream(folder, "faulty", "--faults", "0.02") as faulty, upstream(folder, "sound") as sound:
        features = feature("warm", "sound")
        features += feature("plain", "faulty", "sound", timeouts=timeouts, deadline='"30s"')
        features += feature("streamed", "faulty", "sound", timeouts=timeouts, deadline='"30s"')
        with gateway(folder, {"faulty": faulty, "sound": sound}, features, plan=plan) as under_test:
            pid = under_test.process.pid
            found = under_test.load("warm", "--connections", "64", "--warmup", "1", "--seconds", "3").finish()
            rate = found["rate"] / 2
            idle = _quiet_files(pid)
            lasting = ("--warmup", "1", "--seconds", str(plan.soak))
            loads = [
                under_test.load("plain", "--rate", str(rate), "--connections", "64", *lasting),
                under_test.load("streamed", "--stream", "--connections", "20", *lasting),
            ]
            memory = _watched(under_test, loads)
            got = [load.finish() for load in loads]
            files = _quiet_files(pid)
            struck = asked(faulty)
            took = stopped(under_test)
        rows, calls = under_test.logged()
        reasons = under_test.attempts()
    growth = _growth(memory)
    befell = sum([count for what, count in struck.items() if what in ("status", "reset", "cut", "silence")])
    return [
        Finding("minutes at requests/s, half of saturation", f"{plan.soak / 60:g} at {got[0]['rate']:,.0f}"),
        Finding("requests that something befell", f"{befell:,} of {struck['requests']:,}"),
        Finding("attempts by reason", ", ".join([f"{count:,} {reason}" for reason, count in sorted(reasons.items())])),
        Finding("p99 of whole answers (ms)", f"{got[0]['p99_us'] / 1000:.1f}"),
        Finding("memory at the start -> at the end (MB)", f"{memory[0][1]:.0f} -> {memory[-1][1]:.0f}"),
        Finding("its growth after the first fifth", f"{growth:+.1%}", "< 5 %", growth < 0.05),
        Finding("open files when idle, before -> after", f"{idle} -> {files}", "no more", files <= idle),
        Finding("calls under way at the end", _under_way(under_test), "none", _under_way(under_test) == "none"),
        Finding("seconds to stop", f"{took:.1f}", "< 2", took < 2),
        Finding(
            "answers, each once in the log",
            f"{calls:,}",
            f"{under_test.answered:,}",
            rows == calls == under_test.answered,
        ),
        _nothing_wrong(under_test.errors),
    ]


def _watched(under_test: Gateway, loads: list[Load]) -> list[tuple[float, float]]:
    """Read the memory twice a second until the loads have ended; return pairs of seconds and MB."""
    begin, samples = time.monotonic(), [(0.0, memory_mb(under_test.process.pid))]
    while any(load.process.poll() is None for load in loads) and under_test.process.poll() is None:
        time.sleep(0.5)
        samples.append((time.monotonic() - begin, memory_mb(under_test.process.pid)))
    return samples


def _growth(samples: list[tuple[float, float]]) -> float:
    """Return how much larger the last fifth is than the second one, as a share."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples[:1], samples[-fifth:]
    before, after = (sum([mb for _, mb in part]) / len(part) for part in (early, late))
    return after / before - 1


def _quiet_files(pid: int, seconds: float = 45) -> int:
    """Return the open files of a process tree once its idle connections have expired and they are no more fewer."""
    fewest, since = 10**9, time.monotonic()
    begin = since
    while time.monotonic() - begin < seconds and time.monotonic() - since < 35:
        now = sum([process.num_fds() for process in tree(pid)])
        if now < fewest:
            fewest, since = now, time.monotonic()
        time.sleep(0.5)
    return fewest


def _under_way(under_test: Gateway) -> str:
    lines = [line for line in under_test.output.splitlines() if "under way" in line and " 0 calls" not in line]
    return "; ".join(lines) or "none"


# --- kills ------------------------------------------------------------------------------------------------------------


def kills(folder: Path, plan: Plan) -> list[Finding]:
    """Kill a worker of four every few seconds, in front of a model that is down and one that is not."""
    with upstream(folder, "down", "--down") as down, upstream(folder, "sound") as sound:
        features = feature("warm", "sound") + feature("both", "down", "sound", deadline='"30s"')
        with gateway(folder, {"down": down, "sound": sound}, features, "--workers", "4", plan=plan) as under_test:
            _settled(under_test)
            lasting = ("--warmup", "2", "--seconds", str(plan.kills))
            loads = [
                under_test.load("both", "--connections", "32", *lasting),
                under_test.load("both", "--stream", "--connections", "16", *lasting),
            ]
            time.sleep(3)
            killed = _killing(under_test, down, plan)
            got = [load.finish() for load in loads]
            asked_down = asked(down)["requests"]
            stopped(under_test)
        rows, calls = under_test.logged()
    rate = (got[0]["requests"] + got[1]["requests"]) / got[0]["seconds"]
    return [*_killed(under_test, killed, asked_down), *_kept(under_test, plan, rows, calls, rate * len(killed) / 4)]


@dataclass
class Killed:
    """One worker's end: the connections of callers that it held, and how often the dead model was asked right after."""

    connections: int
    asked: int


def _killing(under_test: Gateway, down: int, plan: Plan) -> list[Killed]:
    killed = []
    for number in range(int(plan.kills / plan.kill_every) - 1):
        workers = _settled(under_test)
        victim, before = workers[number % len(workers)], asked(down)["requests"]
        held = [
            one for one in victim.net_connections() if one.status == "ESTABLISHED" and one.laddr.port == under_test.port
        ]
        victim.kill()
        time.sleep(WORKER_STARTS)
        killed.append(Killed(len(held), asked(down)["requests"] - before))
        time.sleep(max(0.0, plan.kill_every - WORKER_STARTS))
    return killed


def _settled(under_test: Gateway) -> list[psutil.Process]:
    """Return the four workers, as soon as there are four. Raises Failed."""
    patience = time.monotonic() + 10
    while len(workers := under_test.workers()) < 4:
        if time.monotonic() > patience:
            raise Failed(f"there are {len(workers)} of 4 workers")
        time.sleep(0.05)
    return workers


def _killed(under_test: Gateway, killed: list[Killed], asked_down: int) -> list[Finding]:
    broken = {
        what: count for what, count in under_test.errors.items() if what.startswith(("the conn", "can't connect"))
    }
    held, lost = sum([one.connections for one in killed]), sum(broken.values())
    most = max([one.asked for one in killed], default=0)
    share = asked_down / under_test.answered
    return [
        Finding("workers killed", f"{len(killed)}"),
        Finding("answers", f"{under_test.answered:,}"),
        Finding("calls that failed, of those on killed workers", f"{lost} of {held}", "no others", lost <= held),
        _nothing_wrong({what: count for what, count in under_test.errors.items() if what not in broken}),
        Finding(f"the dead model asked in the {WORKER_STARTS:g} s after a kill, most", f"{most}", "<= 3", most <= 3),
        Finding("attempts on the dead model, of all calls", f"{share:.2%}", "< 2 %", share < 0.02),
    ]


def _kept(under_test: Gateway, plan: Plan, rows: int, calls: int, a_second: float) -> list[Finding]:
    """Compare the log with what callers got. `a_second` is how many calls those killed ended in their last one."""
    allowed = 0.0 if plan.durability == "sync" else a_second * (FLUSH_MS + SLACK_MS) / 1000
    missing = max(0, under_test.answered - calls)
    return [
        Finding(
            f'answers missing from the log, durability "{plan.durability}"',
            f"{missing}",
            f"<= {allowed:.0f}",
            missing <= allowed,
        ),
        Finding("calls twice in the log", f"{rows - calls}", "none", rows == calls),
    ]


# --- the whole --------------------------------------------------------------------------------------------------------


def an_outage(_folder: Path, plan: Plan) -> list[Finding]:
    """Let an hour pass in which one model is down, and one in which it is slow."""
    seen = outage.simulate(plan.outage)
    return [
        Finding("calls in the time simulated", f"{seen.calls:,} in {plan.outage / 60:g} minutes"),
        Finding("calls answered", f"{seen.answered / seen.calls:.2%}", "100 %", seen.answered == seen.calls),
        Finding(
            "attempts on the dead model, of all calls",
            f"{seen.on_dead / seen.calls:.3%}",
            "< 2 %",
            seen.on_dead < 0.02 * seen.calls,
        ),
        Finding(
            "hedges, of all calls, while one is slow",
            f"{seen.hedges / seen.calls:.3%}",
            "< 5 %",
            seen.hedges < 0.05 * seen.calls,
        ),
        Finding("seconds from its recovery to its first call", f"{seen.back_after:.1f}", "<= 5", seen.back_after <= 5),
    ]


SECTIONS: dict[str, tuple[str, Callable[[Path, Plan], list[Finding]]]] = {
    "tail": ("One of twenty first tokens ten times as late", tail),
    "streams": ("Many streams on one worker", streams),
    "soak": ("Lasting load while 2 % of the requests fail", soak),
    "kills": ("Four workers, one killed again and again", kills),
    "outage": ("An hour's outage, on an injected clock", an_outage),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all without any", metavar="SECTION")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they run")
    parser.add_argument("--durability", choices=("async", "sync"), default="async", help="of the log")
    parser.add_argument("--json", type=Path, help="write the findings to a file too")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {RESILIENCE_PAGE.name}")
    args = parser.parse_args()
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    args.sections = args.sections or list(SECTIONS)
    return args


def main() -> int:
    args = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # thousands of streams have two sockets each
    base = QUICK if args.quick else Plan()
    plan = Plan(**{**vars(base), "durability": args.durability})
    missed, findings = 0, {}
    for name in args.sections:
        title, measure = SECTIONS[name]
        try:
            found = measure(fresh(BENCH / "resilience" / name), plan)
        except Failed as error:
            found = [Finding("it failed", str(error), "to run", met=False)]
        findings[name] = [finding.row() for finding in found]
        missed += sum([not finding.met for finding in found])
        table = Table(title, ("", "measured", "bar", ""), tuple(findings[name]))
        print(text([table]), end="\n\n", flush=True)
        if args.write:
            write_page([table], RESILIENCE_PAGE, name)
    if args.json:
        args.json.write_text(json.dumps(findings, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
