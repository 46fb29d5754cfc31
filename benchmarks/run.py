"""The speed of Holdfast beside that of nginx, a bare Go proxy, Portkey and LiteLLM: `python benchmarks/run.py`.

Installs what it measures into .bench/ (nginx, wrk and Go from Debian), measures all systems in interleaved rounds,
soaks Holdfast, prints the tables and writes them into docs/operations/performance.md. Takes about half an hour, on two
cores that do nothing else.
"""

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import report
import soak
from processes import Failed
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rounds import RUNS, Bench, Plan, Round, fresh
from systems import SYSTEMS, System, Unavailable, nginx, wrk

QUICK = Plan(rounds=1, seconds=2, warmup=1, starts=2)


class Screen:
    """Tells a person where the run is: a bar on a terminal, else a line for each step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.progress.add_task("installing")
        self.where = ""

    def step(self, where: str) -> None:
        self.where = where
        self.progress.advance(self.task)
        self.say("")

    def say(self, what: str) -> None:
        text = f"{self.where}: {what}" if what else self.where
        if self.console.is_terminal:
            self.progress.update(self.task, description=f"{text:<60}")
        elif what:
            self.console.print(text, highlight=False)

    def warn(self, text: str) -> None:
        self.console.print(text, style="yellow", highlight=False)


def install(systems: list[System], screen: Screen) -> tuple[dict[str, str], dict[str, str]]:
    """Install every system; return the versions, and why the others are not measured."""
    versions, missing = {}, {}
    for system in systems:
        screen.where = f"installing {system.title}"
        screen.say("")
        try:
            versions[system.name] = system.install()
        except Unavailable as error:
            missing[system.name] = str(error)
            screen.warn(f"{system.title} not measured: {error}")
    return versions, missing


def measure(bench: Bench, systems: list[System], screen: Screen) -> tuple[dict[str, Any], dict[str, str]]:
    """Measure in rounds, A B C A B C; return the results of each system, and why others have none."""
    results: dict[str, Any] = {system.name: {"rounds": [], "starts": []} for system in systems}
    results["direct"] = {"rounds": [], "starts": []}
    failed: dict[str, str] = {}
    for number in range(1, bench.plan.rounds + 1):
        screen.step(f"round {number}, upstream alone")
        results["direct"]["rounds"].append(asdict(bench.direct()))
        for system in systems:
            screen.step(f"round {number}, {system.title}")
            if system.name in failed:
                continue
            try:
                if number == 1:
                    screen.say("starts")
                    results[system.name]["starts"] = bench.starts(system)
                result = bench.round(system)
            except Failed as error:
                failed[system.name] = f"{error}; its output is in {bench.folder / system.name / 'output'}"
                screen.warn(f"{system.title}: {failed[system.name]}")
                continue
            results[system.name]["rounds"].append(asdict(result))
            tell(screen, number, system, result)
    return {name: got for name, got in results.items() if name not in failed}, failed


def tell(screen: Screen, number: int, system: System, result: Round) -> None:
    v = result.values
    text = f"round {number} {system.title}: {v['rate_per_cpu']:,.0f} requests, {v['events_per_cpu']:,.0f} events"
    screen.console.print(f"{text} a CPU second", highlight=False)
    for error in result.errors:
        screen.warn(f"  error: {error}")


def interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"systems to measure, of {','.join(SYSTEMS)}; leaves the page as it is")
    parser.add_argument("--quick", action="store_true", help="one short round of holdfast and nginx, no soak")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--streams", type=int, help="at a time")
    parser.add_argument("--soak", type=float, help="minutes; 0 leaves it out", metavar="MINUTES")
    parser.add_argument("--json", type=Path, help="write everything that was measured to a file")
    parser.add_argument("--check-bars", action="store_true", help="exit with 1 unless every bar is met")
    args = parser.parse_args()
    names = (args.only or ("holdfast,nginx" if args.quick else ",".join(SYSTEMS))).split(",")
    if unknown := [name for name in names if name not in SYSTEMS]:
        parser.error(f"no system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    args.systems = [SYSTEMS[name] for name in names]
    base = QUICK if args.quick else Plan()
    args.plan = Plan(
        rounds=args.rounds or base.rounds,
        seconds=args.seconds or base.seconds,
        warmup=base.warmup,
        streams=args.streams or base.streams,
        starts=base.starts,
    )
    args.soak = (0 if args.quick or "holdfast" not in names else 10) if args.soak is None else args.soak
    args.whole = not (args.only or args.quick)
    return args


def perform(args: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    """Install, measure and soak; return everything that is known of the run."""
    nginx(), wrk()  # without these two, nothing can be measured
    versions, missing = install(args.systems, screen)
    systems = [system for system in args.systems if system.name in versions]
    screen.progress.update(screen.task, total=args.plan.rounds * (len(systems) + 1), completed=-1)
    bench = Bench(args.plan, fresh(RUNS), screen.say)
    with bench.upstream():
        results, failed = measure(bench, systems, screen)
        soaked = None
        if args.soak and "holdfast" in results:
            screen.step("soak")
            try:
                soaked = soak.soak(bench, args.soak)
            except Failed as error:
                screen.warn(f"no soak: {error}")
    return {
        "environment": report.environment(),
        "plan": asdict(args.plan),
        "versions": versions,
        "not_measured": missing | failed,
        "results": results,
        "soak": soaked,
    }


def main() -> int:
    args = arguments()
    console = Console(stderr=False)
    if len(os.sched_getaffinity(0)) < 2:
        console.print("The gateway and the load need a core each; there is only one.", style="red")
        return 2
    screen = Screen(console)
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, interrupt)  # what was started is stopped either way
    try:
        with screen.progress:
            run = perform(args, screen)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except (Failed, Unavailable) as error:
        console.print(f"Nothing could be measured: {error}", style="red", highlight=False)
        return 2
    if args.json:
        args.json.write_text(json.dumps(run, indent=1))
    tables = report.tables(run)
    console.print(report.text(tables), highlight=False, soft_wrap=True)
    if args.whole:
        report.write_page(tables)
    failures = [bar for bar in report.bars(run) if not bar.met]
    return 1 if args.check_bars and failures else 0


if __name__ == "__main__":
    sys.exit(main())
