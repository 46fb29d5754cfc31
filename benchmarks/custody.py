"""What custody costs: `python benchmarks/custody.py`.

Keys, limits (of key, tenant and feature, in requests and in money) and sealing together against a gateway without any
of them, and each alone. All gateways run at once on one core and take turns of a second, so that what else the machine
does befalls all of them alike; what is compared is throughput per CPU second of each one's own process, the time its
log takes to settle included. In the last rows every call is about another subject, each of whom has a key of its own.
It takes less than two minutes; `--quick` proves nothing but that it runs.
"""

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import payloads
from load import wire
from processes import Failed, await_answer, cpu_seconds, free_port, running
from report import Table, environment, spread, text, write_page
from resilience import Finding
from rounds import ENDPOINT, GATEWAY_CORE, LOAD_CORE, fresh, last_line
from systems import BENCH, HERE, Unavailable, launch_fixed, logged_holdfast, nginx, run, virtual_environment, wrk

PAGE = HERE.parent / "docs/operations/custody.md"
MOST_LOST: Final = 0.15
CONNECTIONS: Final = 64
SETTLE_SECONDS: Final = 0.25
"""Within which a log has written what it was given."""
SCRIPT: Final = """
local number = 0
function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.body = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for i = 2, #args, 2 do wrk.headers[args[i]] = args[i + 1] end
end
function request()
  number = number + 1
  wrk.headers["x-holdfast-subject"] = "person-" .. PREFIX .. "-" .. number
  return wrk.format()
end
"""
"""Goes before wrk.lua's `done`."""
CONFIG: Final = """
[log]
path = "{folder}/log.db"

[privacy]
seal = {seal}

[models.upstream]
provider = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
price = {{ input = 0.15, output = 0.6 }}

[features.plain]
models = ["upstream"]
{feature}

[tenants.acme]
{tenant}
"""
LIMITS: Final = 'requests = "1G/day"\nbudget = "1000000usd/day"'
LIMITS_OF_KEY: Final = ("--requests", "1G/day", "--budget", "1000000usd/day")


@dataclass(frozen=True)
class Variant:
    """A gateway with some of custody switched on. `subjects`: each call is about another one."""

    name: str
    keys: bool = False
    limits: bool = False
    seal: bool = False
    subjects: bool = False


OFF = Variant("off")
OFF_SUBJECTS = Variant("off, each call about another subject", subjects=True)
ALL = Variant("keys, limits and sealing", keys=True, limits=True, seal=True)
GROUPS: Final = (
    (OFF, ALL, Variant("keys", keys=True)),
    (OFF, ALL, Variant("limits (of the feature)", limits=True)),
    (OFF, ALL, Variant("sealing", seal=True)),
    (OFF, ALL),
    (OFF_SUBJECTS, Variant("all, each call about another subject", keys=True, limits=True, seal=True, subjects=True)),
)
"""What is compared takes its turns one after the other: the first of a group is what the others are compared with."""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int = 4
    seconds: int = 1
    """Whole ones: wrk knows no others."""


QUICK = Plan(rounds=1)


@dataclass
class Measured:
    """A variant under test, and what every round gave."""

    variant: Variant
    port: int
    pid: int
    folder: Path
    token: str
    per_cpu: dict[tuple[int, int], float] = field(default_factory=dict)
    """By the number of the round and of the group."""
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    answered: int = 1
    unfinished: int = 0
    errors: list[str] = field(default_factory=list)
    turns: int = 0


def install() -> Path:
    """Return the folder of the programs of an environment in which everything can be sealed."""
    locked = str(HERE.parent / "requirements/up.txt")
    extras = virtual_environment("custody", "--require-hashes", "-r", locked, without_dependencies=str(HERE.parent))
    return extras / "bin"


@contextlib.contextmanager
def gateway(programs: Path, home: Path, variant: Variant, upstream: int) -> Iterator[Measured]:
    """Run a gateway as a variant has it."""
    folder, port = fresh(home / variant.name.replace(" ", "-")), free_port()
    limits, own = (LIMITS if variant.limits else ""), (LIMITS if variant.limits and variant.keys else "")
    seal = str(variant.seal).lower()
    (folder / "holdfast.toml").write_text(
        CONFIG.format(folder=folder, seal=seal, upstream=upstream, feature=limits, tenant=own)
    )
    token = "none"
    if variant.keys:
        more = LIMITS_OF_KEY if variant.limits else ()
        create = [str(programs / "holdfast"), "keys", "create", "--tenant", "acme", *more, "--state", str(folder)]
        token = run(create).split()[0]
    argv = [str(programs / "holdfast"), "serve", "--config", str(folder / "holdfast.toml"), "--port", str(port)]
    with running([*argv, "--workers", "1"], core=GATEWAY_CORE, log=folder / "output", cwd=folder) as process:
        await_answer(process, port, wire(ENDPOINT, [f"Authorization: Bearer {token}"], body()))
        yield Measured(variant, port, process.pid, folder, token)


def body() -> bytes:
    return payloads.request("plain", stream=False)


def turn(one: Measured, seconds: int, connections: int) -> Mapping[str, Any]:
    """Load a gateway for a while, with the core of the load."""
    one.turns += 1
    script, request = HERE / "wrk.lua", one.folder / "request.json"
    request.write_bytes(body())
    if one.variant.subjects:
        own = SCRIPT.replace("PREFIX", f'"{one.turns}"')
        written = script.read_text()
        script = one.folder / "subjects.lua"
        script.write_text(own + written[written.index("function done") :])
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script)]
    url = f"http://127.0.0.1:{one.port}{ENDPOINT}"
    got = last_line([wrk(), *options, url, "--", str(request), "Authorization", f"Bearer {one.token}"])
    one.answered += got["requests"]
    one.unfinished += connections
    one.errors += [f"{got[kind]} {kind}" for kind in ("status_errors", "socket_errors") if got[kind]]
    return got


def saturate(one: Measured, seconds: int) -> float:
    """Return the requests that a gateway answers in a CPU second of its own."""
    before = cpu_seconds(one.pid)
    got = turn(one, seconds, CONNECTIONS)
    time.sleep(SETTLE_SECONDS)
    used = cpu_seconds(one.pid) - before
    if used <= 0:
        raise Failed(f"{one.variant.name}: its process has ended")
    return float(got["requests"]) / used


def measure(programs: Path, home: Path, plan: Plan, groups: Sequence[Sequence[Variant]] = GROUPS) -> list[Measured]:
    """Run all variants at once, and let them take turns."""
    variants = dict.fromkeys(variant for group in groups for variant in group)
    with contextlib.ExitStack() as stack:
        port, folder = free_port(), fresh(home / "upstream")
        fixed = stack.enter_context(running(launch_fixed(folder, port), core=LOAD_CORE, log=folder / "output"))
        await_answer(fixed, port, wire(ENDPOINT, [], body()))
        by_variant = {one: stack.enter_context(gateway(programs, home, one, port)) for one in variants}
        found = list(by_variant.values())
        for one in found:
            turn(one, 1, CONNECTIONS)
        time.sleep(SETTLE_SECONDS)
        for number in range(plan.rounds):
            for place, group in enumerate(groups):
                for variant in group if number % 2 == 0 else reversed(group):
                    one = by_variant[variant]
                    one.per_cpu[number, place] = saturate(one, plan.seconds)
            for one in found if number % 2 == 0 else ():
                alone = turn(one, plan.seconds, 1)
                one.p50_us.append(alone["p50_us"])
                one.p99_us.append(alone["p99_us"])
    for one in found:
        logged, most = logged_holdfast(one.folder), one.answered + one.unfinished
        if not one.answered <= logged <= most:
            one.errors.append(f"{logged} calls in the log, expected {one.answered} to {most}")
    return found


# --- what it comes to -------------------------------------------------------------------------------------------------


def lost(one: Measured, other: Measured) -> list[float]:
    """Return which share of throughput is lost against another variant, wherever both had a turn in a group."""
    return [1 - rate / other.per_cpu[when] for when, rate in one.per_cpu.items() if when in other.per_cpu]


def tables(found: Sequence[Measured]) -> tuple[list[Table], list[Finding]]:
    by_variant = {one.variant: one for one in found}
    rows = []
    for one in found:
        off = by_variant[OFF_SUBJECTS if one.variant.subjects else OFF]
        share = "" if one is off else spread([100 * value for value in lost(one, off)], 1)
        latency = f"{statistics.median(one.p50_us):,.0f} / {statistics.median(one.p99_us):,.0f}"
        rows.append((one.variant.name, spread(list(one.per_cpu.values())), share, latency))
    heads = ("", "requests per CPU second, c=64", "lost (%)", "c=1, p50 / p99 (us)")
    together = statistics.median(lost(by_variant[ALL], by_variant[OFF]))
    wrong = [f"{one.variant.name}: {error}" for one in found for error in one.errors]
    return [Table("Custody on and off, medians of the rounds (least to greatest)", heads, tuple(rows))], [
        Finding(
            "throughput lost by keys, limits and sealing together",
            f"{together:.1%}",
            f"< {MOST_LOST:.0%}",
            together < MOST_LOST,
        ),
        Finding("errors, answers missing in the log", "; ".join(wrong)[:300] or "none", "none", not wrong),
    ]


def conditions(plan: Plan, load: str) -> Table:
    facts = {name: value for name, value in environment().items() if name not in ("command", "load generator")}
    how = f"{plan.rounds} rounds, every other one backwards, of turns of {plan.seconds} s; load {load}"
    return Table("Conditions", ("", ""), (*facts.items(), ("method", how)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, of all and nothing")
    parser.add_argument("--programs", type=Path, help="the bin folder of an environment that has holdfast[custody]")
    parser.add_argument("--runs", type=Path, default=BENCH / "custody-run", help="where the gateways write")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of each turn")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    args = parser.parse_args()
    base = QUICK if args.quick else Plan()
    plan = Plan(args.rounds or base.rounds, args.seconds or base.seconds)
    load = f"{os.getloadavg()[0]:.1f} before"
    try:
        nginx(), wrk()
        groups = ((OFF, ALL),) if args.quick else GROUPS
        found = measure(args.programs or install(), fresh(args.runs), plan, groups)
    except (Failed, Unavailable) as error:
        print(f"Nothing could be measured: {error}")
        return 2
    load += f", {os.getloadavg()[0]:.1f} after"
    measured, findings = tables(found)
    bars = Table("Bars", ("", "measured", "bar", ""), tuple(finding.row() for finding in findings))
    whole = [*measured, bars, conditions(plan, load)]
    print(text(whole))
    if args.write:
        write_page(whole, PAGE)
    return 0 if all(finding.met for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
