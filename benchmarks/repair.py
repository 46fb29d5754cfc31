"""What repairing answers is worth: outputs of real models, read by Holdfast and by what is used elsewhere.

    HOLDFAST_DATA=.../data python repair.py [--json-repair PYTHON]

`HOLDFAST_DATA/outputs` holds `gsm-questions.jsonl.gz` (with the gold answers) and one `gsm-MODEL.jsonl.gz` a model. An
output is recovered if it comes out as an object with two strings, `reasoning` and `answer`; it counts where both keys
occur in it. Its answer is right if the last number in it is the gold one. PYTHON is an interpreter that has
`json_repair`; where neither it nor this one has it, that column stays empty. Exits with 1 if a bar is missed.
"""

import argparse
import contextlib
import gzip
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verbatim import origin

from holdfast.contracts.ledger import Refused, replay
from holdfast.contracts.repairs.repair import repair
from holdfast.contracts.shape import Shape, fits

KEYS = ("reasoning", "answer")
WANTED = Shape.of_keys({"reasoning": "string", "answer": "string"})
OVERALL, EACH = 0.995, 0.99
"""Of the outputs in which both keys occur, the share that has to be recovered."""
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
ROUNDS = 200

Reader = Callable[[str], Any]


@dataclass
class Score:
    """What one way of reading made of the outputs of one model."""

    outputs: int = 0
    with_keys: int = 0
    recovered: int = 0
    right: int = 0
    altered: int = 0
    invented: int = 0
    repairs: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        return self.recovered / self.with_keys

    @property
    def accuracy(self) -> float:
        return self.right / self.outputs


def by_holdfast(text: str) -> Any:
    result = repair(text, WANTED)
    return None if isinstance(result, Refused) else json.loads(result.text)


def by_fence(text: str) -> Any:
    """What applications do: take what is in the code fence, or else all of it."""
    fenced = FENCED.search(text)
    with contextlib.suppress(ValueError):
        return json.loads(fenced[1] if fenced else text)
    return None


def outputs(folder: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield models with their outputs and the gold answers."""
    gold = {row["id"]: row["gold"] for row in read_rows(folder / "gsm-questions.jsonl.gz")}
    for path in sorted(folder.glob("gsm-*.jsonl.gz")):
        model = path.name.removeprefix("gsm-").removesuffix(".jsonl.gz")
        if model != "questions":
            yield model, [(row["output"], gold[row["id"]]) for row in read_rows(path)]


def prompts(folder: Path) -> dict[str, str]:
    """Return the questions by their ids."""
    return {row["id"]: row["prompt"] for row in read_rows(folder / "gsm-questions.jsonl.gz")}


def read_rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def score(rows: list[tuple[str, str]], values: list[Any]) -> Score:
    """Score values read from outputs. As the data's own table, accuracy asks for both keys only, not for strings."""
    result = Score(outputs=len(rows))
    for (text, gold), value in zip(rows, values, strict=True):
        asked = all(f'"{key}"' in text for key in KEYS)
        result.with_keys += asked
        if not isinstance(value, dict) or not value.keys() >= set(KEYS):
            continue
        result.right += right(value["answer"], gold)
        if fits(value, WANTED):
            result.recovered += asked
            result.invented += not asked
            result.altered += not all(origin(value[key], key, text) for key in KEYS)
    return result


def right(answer: object, gold: str) -> bool:
    numbers = NUMBER.findall(str(answer))
    with contextlib.suppress(ValueError):
        return bool(numbers) and math.isclose(_number(numbers[-1]), _number(gold), abs_tol=1e-6)
    return False


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def by_json_repair(python: str, folder: Path) -> dict[str, list[Any]]:
    """Read all outputs by json_repair, in an interpreter that has it."""
    program = (
        "import gzip, json, sys, json_repair\n"
        "for path in sys.argv[1:]:\n"
        "    rows = [json.loads(line)['output'] for line in gzip.open(path, 'rt', encoding='utf-8')]\n"
        "    print(json.dumps([json_repair.loads(row) for row in rows]))\n"
    )
    paths = [path for path in sorted(folder.glob("gsm-*.jsonl.gz")) if "questions" not in path.name]
    done = subprocess.run([python, "-c", program, *map(str, paths)], capture_output=True, text=True, check=False)
    if done.returncode:
        return {}
    names = [path.name.removeprefix("gsm-").removesuffix(".jsonl.gz") for path in paths]
    return {name: json.loads(line) for name, line in zip(names, done.stdout.splitlines(), strict=True)}


def table(folder: Path, python: str) -> bool:
    """Print what each way recovers; return whether every bar is met."""
    others = by_json_repair(python, folder)
    met, total = True, Score()
    print("| model | recovered: Holdfast | fence | json_repair | right: Holdfast | fence | json_repair | altered |")
    print("|---|---|---|---|---|---|---|---|")
    for model, rows in outputs(folder):
        texts = [text for text, _ in rows]
        ours = score(rows, [by_holdfast(text) for text in texts])
        fence = score(rows, [by_fence(text) for text in texts])
        other = score(rows, others[model]) if model in others else None
        better = max(fence.accuracy, other.accuracy if other else 0)
        met &= ours.share >= EACH and ours.accuracy >= better and not ours.altered and not ours.invented
        total.with_keys, total.recovered = total.with_keys + ours.with_keys, total.recovered + ours.recovered
        shares = " | ".join([f"{ours.share:.4f}", f"{fence.share:.3f}", f"{other.share:.3f}" if other else "-"])
        accuracies = [f"{ours.accuracy:.4f}", f"{fence.accuracy:.4f}", f"{other.accuracy:.4f}" if other else "-"]
        print(f"| {model} | {shares} | {' | '.join(accuracies)} | {ours.altered} |")
    print(f"\nall: {total.recovered} of {total.with_keys} recovered, {total.share:.4f}")
    return met and total.share >= OVERALL


def speed(folder: Path) -> bool:
    """Print what a repair costs; return whether the bars are met."""
    valid = json.dumps({"reasoning": "x" * 960, "answer": "42"})
    plain = _microseconds(lambda: repair(valid))
    shaped = _microseconds(lambda: repair(valid, WANTED))
    print(f"\nvalid, {len(valid)} characters: {plain:.1f} us, with a shape {shaped:.1f} us")
    texts = [text for _, rows in outputs(folder) for text, _ in rows[:50]]
    costs = sorted(_microseconds(lambda text=text: repair(text, WANTED), 3) for text in texts)  # type: ignore[misc]
    size = sum(map(len, texts)) / len(texts)
    p50, p99 = costs[len(costs) // 2], costs[len(costs) * 99 // 100]
    print(f"outputs, {size:.0f} characters: p50 {p50:.0f} us, p99 {p99:.0f} us, most {costs[-1]:.0f} us")
    return shaped < 5 and p50 < 1000


def _microseconds(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter_ns()
        run()
        best = min(best, time.perf_counter_ns() - start)
    return best / 1000


def hostile() -> None:
    """Print how long a megabyte takes that was made to take long."""
    size = 2**20 - 100
    kinds = {
        "brackets": "[" * size,
        "objects": '{"a":' * (size // 5),
        "braces": "{" * size,
        "quotes": '{"a": "' + '"' * size,
        "backslashes": '{"a": "' + "\\" * size,
        "quotes and commas": '{"a": "' + '", ' * (size // 3),
        "keys in a string": '{"a": "' + ' x"answer": ' * (size // 12),
        "newlines in a string": '{"a": "' + "\n" * size + '"}',
        "spaces after quotes": '{"a": "' + ('x"' + " " * 1000) * (size // 1002),
        "comments": "[" + "/*" * (size // 2),
        "comments after quotes": '{"a": "' + '"/*' * (size // 3),
        "slashes after quotes": '{"a": "' + 'x"//' * (size // 4),
        "comments after commas": '{"a": "' + '",//' * (size // 4),
        "blocks after commas": '{"a": "' + '",/*' * (size // 4),
        "escaped keys": '{"a": "' + '"\\"' * (size // 3),
        "seams": '{"a": "' + '"+' * (size // 2),
        "cut keys": '{"' * (size // 2),
        "single quotes": "{'a': '" + "'" * (size - 7),
        "members": "{" + ",".join(f"\"{i}\": '{i}'" for i in range(60_000)) + "}",
        "text without quotes": '{"answer": ' + "(" * size,
        "lines": '{"answer": "' + "a line of text\n" * 40_000 + '"}',
        "code": "x = {a[1]}\n" * (size // 11),
        "objects of numbers": ('x {"a":[' + "1," * 450 + "1]}\n") * (size // 912),
        "commands of LaTeX": ('x {"a":"' + "\\times" * 150 + '"}\n') * (size // 912),
        "values": "[1]" * (size // 3),
        "cut objects": '{"a": "b' * (size // 8),
        "numbers": "[" + "1," * (size // 2) + "]",
    }
    print()
    for name, text in kinds.items():
        start = time.perf_counter()
        result = repair(text, WANTED)
        seconds = time.perf_counter() - start
        assert isinstance(result, Refused) or replay(text, result.ledger) == result.text
        print(f"1 MB of {name}: {seconds * 1000:.0f} ms, {getattr(result, 'reason', 'repaired')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json-repair", default=sys.executable, metavar="PYTHON")
    args = parser.parse_args()
    folder = Path(os.environ.get("HOLDFAST_DATA", "")) / "outputs"
    if not folder.is_dir():
        sys.exit("set HOLDFAST_DATA to the folder that has outputs/")
    met = table(folder, args.json_repair)
    met &= speed(folder)
    hostile()
    sys.exit(0 if met else "a bar is missed")


if __name__ == "__main__":
    main()
