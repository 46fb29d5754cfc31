"""What contracts are worth and what they cost: `contracts.py [outputs added checks hostile replay suite]`.

    outputs  what real models answered, through the gateway: what is recovered, refused, and which streams are given up
    added    the time that a contract adds to a call: valid, repaired, streamed
    checks   the time of one check, beside what else could check it
    hostile  what schemas and answers that were made to take long do to the other calls
    replay   ten thousand identical calls to a reproducible feature
    suite    the verdicts of the JSON-Schema-Test-Suite

Each prints its tables with their bars, and the whole ends with 1 unless all are met. `outputs` needs HOLDFAST_DATA, the
folder that has outputs/, and for a comparison an interpreter that has json_repair (`--json-repair PYTHON`).
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import added
import checks
import hostile
import outputs
import replay
import suite
from report import Table, text, write_page
from resilience import Finding
from rounds import fresh
from systems import BENCH, HERE

PAGE = HERE.parent / "docs" / "operations" / "contracts.md"
Measured = tuple[list[Table], list[Finding]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all")
    parser.add_argument("--calls", type=int, default=5_000, help="of each kind that is timed in process")
    parser.add_argument("--seconds", type=float, default=8, help="of each turn under load")
    parser.add_argument("--only", default="", help="the hostile calls with this in their name")
    parser.add_argument("--json-repair", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    args = parser.parse_args()
    if wrong := set(args.sections) - set(sections(args)):
        parser.error(f"there is no section {', '.join(sorted(wrong))}")
    return args


def sections(args: argparse.Namespace) -> dict[str, Callable[[Path], Measured]]:
    return {
        "outputs": lambda home: outputs.measure(home, args.json_repair),
        "added": lambda _: added.measure(args.calls),
        "checks": lambda _: checks.measure(args.calls),
        "hostile": lambda home: hostile.measure(home, args.only),
        "replay": lambda home: replay.measure(home, args.seconds),
        "suite": lambda _: suite.measure(),
    }


def main() -> int:
    args = arguments()
    missed = 0
    for name, measure in sections(args).items():
        if args.sections and name not in args.sections:
            continue
        tables, findings = measure(fresh(BENCH / "contracts" / name))
        bars = Table("Bars", ("", "measured", "bar", ""), tuple(finding.row() for finding in findings))
        print(text([*tables, bars]), end="\n\n", flush=True)
        missed += sum(not finding.met for finding in findings)
        if args.write:
            write_page([*tables, bars], PAGE, name)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
