"""Memory of Holdfast under lasting load: `python benchmarks/soak.py --minutes 10`.

Half of what saturates it in plain requests, and 20 paced streams beside them; its resident memory is read every 5 s.
The slope is a least-squares line through what follows the warm-up, the first fifth of the time.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

from processes import MB, Failed, memory_mb, pinned
from rounds import LOAD_CORE, RUNS, Bench, Plan, Round, fresh
from systems import HERE, SYSTEMS, Target, install_holdfast

EVERY = 5.0
STREAMS = 20
CALL_MB = 0.008
"""A call in the log, with its request and its answer; generously."""


def soak(bench: Bench, minutes: float) -> dict[str, Any]:
    """Load Holdfast for some minutes; return its memory over time, and what went wrong.

    Raises:
        Failed: it did not start, or ended, or the disk has no room for its log.
    """
    system, result = SYSTEMS["holdfast"], Round()
    with bench.started(system) as (process, launch, _):
        result.answered += 1
        saturation = bench.load(result, launch.plain, "--connections", "64", "--warmup", "1", "--seconds", "3")["rate"]
        room = shutil.disk_usage(bench.folder).free / MB
        if room < (needed := saturation / 2 * minutes * 60 * CALL_MB + 1000):
            raise Failed(f"the log of a soak takes up to {needed:,.0f} MB, the disk has {room:,.0f} MB left")
        bench.say(f"{minutes:g} minutes at {saturation / 2:.0f} requests a second")
        plain = ("--connections", "64", "--rate", str(saturation / 2))
        loads = [
            begin(bench, launch.plain, minutes, *plain),
            begin(bench, launch.stream, minutes, "--stream", "--connections", str(STREAMS)),
        ]
        try:
            samples = watch(process, minutes * 60)
            if process.poll() is not None:
                raise Failed(f"it ended under load with status {process.returncode}")
            outcomes = [finish(load, result) for load in loads]
        finally:
            for load in loads:
                load.kill()
    bench.check_log(system, result)
    return {
        "minutes": minutes,
        "rate": outcomes[0]["rate"],
        "p99_us": outcomes[0]["p99_us"],
        "events_per_s": outcomes[1]["events"] / outcomes[1]["seconds"],
        "samples": samples,
        "memory_mb": samples[-1][1],
        "slope_mb_per_minute": slope([s for s in samples if s[0] > minutes * 60 / 5]),
        "answered": result.answered,
        "log_mb": result.values["log_mb"],
        "errors": result.errors,
    }


def begin(bench: Bench, target: Target, minutes: float, *options: str) -> subprocess.Popen[str]:
    body = bench.body(target, stream="--stream" in options)
    headers = [part for line in target.header_lines() for part in ("--header", line)]
    argv = [sys.executable, str(HERE / "load.py"), "--port", str(target.port), "--body", str(body), *headers, *options]
    argv += ["--warmup", "1", "--seconds", str(minutes * 60)]
    return subprocess.Popen(pinned(argv, LOAD_CORE), stdout=subprocess.PIPE, text=True)


def watch(process: subprocess.Popen[bytes], seconds: float) -> list[tuple[float, float]]:
    """Read the memory of a process tree every few seconds; return pairs of seconds and MB."""
    start = time.monotonic()
    samples = [(0.0, memory_mb(process.pid))]
    while samples[-1][0] < seconds and process.poll() is None:
        time.sleep(min(EVERY, seconds))
        samples.append((round(time.monotonic() - start, 1), round(memory_mb(process.pid), 1)))
    return samples


def finish(load: subprocess.Popen[str], result: Round) -> dict[str, Any]:
    output, _ = load.communicate()
    got: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    result.answered += got["answered"]
    result.errors += [f"{count} x {what}" for what, count in got["errors"].items()]
    return got


def slope(samples: list[tuple[float, float]]) -> float:
    """Return MB a minute."""
    if len(samples) < 3:
        return 0.0
    return statistics.linear_regression(*zip(*samples, strict=True)).slope * 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    install_holdfast()
    bench = Bench(Plan(), fresh(RUNS), lambda what: print(what, flush=True))
    with bench.upstream():
        result = soak(bench, args.minutes)
    print(json.dumps(result))
    print(f"{result['memory_mb']:.0f} MB, {result['slope_mb_per_minute']:+.2f} MB a minute, errors: {result['errors']}")
    return 1 if result["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
