"""From what was measured to tables, bars and the page of the documentation."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from systems import HERE, SYSTEMS, interpreter, journal

PAGE = HERE.parent / "docs/operations/performance.md"
SOAK_MB, SOAK_MINUTES = 80, 10
FLAT_MB_PER_MINUTE = 0.25
"""Memory counts as flat below this slope: the noise of a heap, not a leak."""

Run = dict[str, Any]


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A promise about speed. `measured` is None where it was not measured, which does not meet it."""

    what: str
    bar: str
    measured: str | None
    met: bool


# --- numbers ----------------------------------------------------------------------------------------------------------


def series(run: Run, system: str, name: str) -> list[float]:
    """Return a value of every round, those left out in which it was not measured."""
    rounds = run["results"].get(system, {"rounds": []})["rounds"]
    return [r["values"][name] for r in rounds if r["values"].get(name) is not None]


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def added(run: Run, system: str, name: str) -> list[float]:
    """Return the microseconds that a system adds to the upstream's own latency, round by round."""
    return [mine - direct for mine, direct in zip(series(run, system, name), series(run, "direct", name), strict=False)]


def ratio(run: Run, name: str, other: str) -> float | None:
    mine, theirs = median(series(run, "holdfast", name)), median(series(run, other, name))
    return mine / theirs if mine is not None and theirs else None


def start(run: Run, system: str) -> float | None:
    """Return the median seconds to the first answer, without the first start, which fills caches."""
    return median(run["results"].get(system, {"starts": []})["starts"][1:])


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def spread(values: list[float], digits: int = 0) -> str:
    """Write a median with the least and the greatest value."""
    if not values:
        return "-"
    middle = number(statistics.median(values), digits)
    return middle if len(values) == 1 else f"{middle} ({number(min(values), digits)} to {number(max(values), digits)})"


# --- bars -------------------------------------------------------------------------------------------------------------


def bars(run: Run) -> list[Bar]:
    def least(what: str, value: float | None, bar: float, unit: str = "", digits: int = 0) -> Bar:
        text = None if value is None else number(value, digits, unit)
        return Bar(what, f">= {bar:,.0f}{unit}", text, value is not None and value >= bar)

    def most(what: str, value: float | None, bar: float, unit: str) -> Bar:
        text = None if value is None else number(value, 2, unit)
        return Bar(what, f"<= {bar:g}{unit}", text, value is not None and value <= bar)

    def milliseconds(name: str) -> float | None:
        value = median(added(run, "holdfast", name))
        return None if value is None else value / 1000

    wrong = errors(run, "holdfast") + errors(run, "holdfast-sync")
    measured = "holdfast" in run["results"]
    return [
        least("requests per CPU second", median(series(run, "holdfast", "rate_per_cpu")), 12_000),
        least("requests per CPU second, times LiteLLM", ratio(run, "rate_per_cpu", "litellm"), 100, "x", 1),
        least("requests per CPU second, times Portkey", ratio(run, "rate_per_cpu", "portkey"), 15, "x", 1),
        most("added latency at c=1, p50", milliseconds("c1_p50_us"), 0.20, " ms"),
        most("added latency at c=1, p99", milliseconds("c1_p99_us"), 0.40, " ms"),
        most("added latency at 1,000/s, p99", milliseconds("open_p99_us"), 1.5, " ms"),
        least("streamed events per CPU second, paced", median(series(run, "holdfast", "events_per_cpu")), 30_000),
        soak_bar(run["soak"]),
        most("start to first answer", start(run, "holdfast"), 0.6, " s"),
        Bar(
            "errors, wrong answers, calls missing in the log",
            "0",
            str(len(wrong)) if measured else None,
            measured and not wrong,
        ),
    ]


def soak_bar(soak: Run | None) -> Bar:
    bar = f"<= {SOAK_MB} MB, flat"
    if soak is None:
        return Bar("memory after 10 minutes under load", bar, None, met=False)
    lasted = soak["minutes"] >= SOAK_MINUTES and not soak["errors"]
    flat = soak["slope_mb_per_minute"] <= FLAT_MB_PER_MINUTE
    what = f"memory after {soak['minutes']:g} minutes under load"
    text = f"{soak['memory_mb']:.0f} MB, {soak['slope_mb_per_minute']:+.2f} MB a minute"
    return Bar(what, bar, text, lasted and flat and soak["memory_mb"] <= SOAK_MB)


def errors(run: Run, system: str) -> list[str]:
    return [error for r in run["results"].get(system, {"rounds": []})["rounds"] for error in r["errors"]]


# --- tables -----------------------------------------------------------------------------------------------------------


def tables(run: Run) -> list[Table]:
    names = [name for name in SYSTEMS if name in run["versions"] or name in run["not_measured"]]
    return [
        speed(run, names),
        latency(run, [name for name in names if name in run["results"]]),
        footprint(run, [name for name in names if name in run["results"]]),
        ratios(run, [name for name in names if name in run["results"] and not name.startswith("holdfast")]),
        Table(
            "Bars",
            ("", "bar", "measured", "verdict"),
            tuple((b.what, b.bar, b.measured or "not measured", "met" if b.met else "**missed**") for b in bars(run)),
        ),
        lasting(run["soak"]),
        Table("Conditions", ("", ""), tuple(conditions(run))),
    ]


def title(run: Run, name: str) -> str:
    return f"{SYSTEMS[name].title} {run['versions'].get(name, '')}".strip()


def speed(run: Run, names: list[str]) -> Table:
    rows: list[tuple[str, ...]] = []
    for name in names:
        if reason := run["not_measured"].get(name):
            rows.append((title(run, name), f"not measured: {reason}", "", "", ""))
            continue
        wrong = errors(run, name)
        verdict = "none" if not wrong else f"**{len(wrong)}**: {'; '.join(sorted(set(wrong)))[:300]}"
        columns = [spread(series(run, name, key)) for key in ("rate_per_cpu", "rate", "events_per_cpu")]
        rows.append((title(run, name), *columns, verdict))
    heads = ("", "requests per CPU second, c=64", "requests/s", "streamed events per CPU second", "errors")
    return Table("Speed", heads, tuple(rows))


def latency(run: Run, names: list[str]) -> Table:
    def pair(values: str, system: str, name: str) -> str:
        get = added if values == "added" else series
        return " / ".join(number(median(get(run, system, f"{name}_{p}_us"))) for p in ("p50", "p99"))

    alone = (pair("series", "direct", "c1"), "", pair("series", "direct", "open"), "", "")
    rows: list[tuple[str, ...]] = [("upstream alone", *alone)]
    for name in names:
        numbers = [pair(kind, name, load) for load in ("c1", "open") for kind in ("series", "added")]
        rows.append((title(run, name), *numbers, pair("series", name, "first_token")))
    heads = ("", "c=1", "added at c=1", "1,000/s", "added at 1,000/s", "first token of a stream")
    return Table("Latency, p50 / p99 in microseconds", heads, tuple(rows))


def footprint(run: Run, names: list[str]) -> Table:
    rows = []
    for name in names:
        memory = [number(median(series(run, name, key))) for key in ("memory_idle_mb", "memory_mb")]
        first = (run["results"][name]["starts"] or [None])[0]
        rows.append((title(run, name), " -> ".join(memory), number(start(run, name), 2), number(first, 2)))
    return Table("Memory and start", ("", "MB, idle -> after", "start (s)", "very first start (s)"), tuple(rows))


def ratios(run: Run, names: list[str]) -> Table:
    def times(key: str, name: str) -> str:
        return number(ratio(run, key, name), 2, "x")

    rows = [(title(run, n), times("rate_per_cpu", n), times("events_per_cpu", n), times("memory_mb", n)) for n in names]
    heads = ("", "requests per CPU second", "streamed events per CPU second", "memory after load")
    return Table("Holdfast divided by", heads, tuple(rows))


def lasting(soak: Run | None) -> Table:
    if soak is None:
        return Table("Lasting load", ("not measured",), ())
    rows = (
        ("minutes", f"{soak['minutes']:g}"),
        ("requests/s, half of saturation", number(soak["rate"])),
        ("streamed events/s beside them", number(soak["events_per_s"])),
        ("memory at start -> end (MB)", f"{soak['samples'][0][1]:.0f} -> {soak['memory_mb']:.0f}"),
        ("slope after the first fifth (MB a minute)", f"{soak['slope_mb_per_minute']:+.2f}"),
        ("p99 of the requests (us)", number(soak["p99_us"])),
        ("answers, each in the log", number(soak["answered"])),
        ("the log (MB)", number(soak["log_mb"])),
        ("errors", "; ".join(soak["errors"])[:300] or "none"),
    )
    return Table("Lasting load", ("", ""), rows)


def conditions(run: Run) -> list[tuple[str, str]]:
    plan = run["plan"]
    how = f"medians of {plan['rounds']} interleaved rounds (least to greatest in parentheses)"
    how += f", windows of {plan['seconds']:g} s, {plan['streams']} streams at a time, starts: median of "
    how += f"{plan['starts'] - 1} after a first"
    late = median([value for name in run["results"] for value in series(run, name, "late_events")])
    how += f"; {number(100 * (late or 0), 2)} % of the streamed events left the upstream more than 5 ms late"
    log = "; ".join(f"{kind}: {journal(kind)}" for kind in ("async", "sync"))
    return [*run["environment"].items(), ("method", how), ("Holdfast's log, bodies stored", log)]


def printed(argv: list[str]) -> str:
    """Return what a program prints, nothing where it can't be run. `wrk -v` ends with status 1."""
    try:
        return subprocess.run(argv, check=False, capture_output=True, text=True, cwd=HERE).stdout.strip()
    except OSError:
        return ""


def environment() -> dict[str, str]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = ("uvloop", "httptools", "msgspec")
    words = [*printed(["wrk", "-v"]).split(), "", "?"]
    return {
        "command": f"make bench (python benchmarks/run.py {' '.join(sys.argv[1:])}".rstrip() + ")",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": printed(["git", "describe", "--always", "--dirty"]) or "unknown",
        "machine": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', '?')}, Linux {platform.release()}",
        "interpreter": f"{printed([interpreter(), '-VV'])} ({interpreter()}; LiteLLM on the same)",
        "libraries": ", ".join(f"{name} {version(name)}" for name in names),
        "load generator": f"wrk {words[1].removeprefix('debian/')}, benchmarks/load.py",
    }


# --- writing ----------------------------------------------------------------------------------------------------------


def text(tables: list[Table]) -> str:
    """Return the tables as Markdown."""
    return "\n\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    lines = [f"### {table.title}", "", _row(table.columns), _row(tuple("---" for _ in table.columns))]
    return "\n".join([*lines, *(_row(row) for row in table.rows)])


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def write_page(tables: list[Table], page: Path = PAGE, section: str | None = None) -> None:
    """Put the tables between the markers of the page, or of one section of it. Raises ValueError without markers."""
    name = "measured" if section is None else f"measured: {section}"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text(tables)}\n\n{end}{after}", encoding="utf-8")
