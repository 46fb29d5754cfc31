"""Outputs of real models, played back through a gateway whose feature wants `{"reasoning": string, "answer": string}`.

    HOLDFAST_DATA=.../data python benchmarks/contracts.py outputs [--json-repair PYTHON]

A real gateway process stands before a real `holdfast simulate`, whose models answer each question with what was
recorded. Every question is asked twice of each model, for a whole answer and for a stream that is held until it is
valid, with `retries = 0`: what the caller gets is what the repair alone could make of it.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
from load import wire
from processes import Failed, await_answer, free_port, running
from repair import EACH, KEYS, OVERALL, by_fence, by_json_repair, outputs, prompts, read_rows, score
from report import Table
from resilience import Finding
from rounds import ENDPOINT, GATEWAY_CORE, LOAD_CORE
from verbatim import Origin, origin

from holdfast.contracts.answer import Met, meet
from holdfast.contracts.load import make_contract
from holdfast.contracts.streaming.watch import Watch

SCHEMA = {
    "type": "object",
    "properties": {key: {"type": "string"} for key in KEYS},
    "required": list(KEYS),
}
AT_ONCE = 8
CHARACTERS_A_TOKEN = 4
REFUSED = "contract_violated"
MOST_IN_A_PIECE = 12


@dataclass(frozen=True)
class Got:
    """What a caller got: an answer, or an error's code. `call` is its id."""

    text: str | None
    error: str | None
    call: str


@dataclass
class Played:
    """What became of the outputs of one model."""

    name: str
    rows: list[tuple[str, str]]
    whole: list[Got]
    streamed: list[Got]
    given_up: int = 0
    """Streams that were ended before their output was."""
    unsaid: int = 0
    """Characters that were never waited for."""
    told: int = 0
    """Tokens that the gateway's log says were saved."""
    origins: Counter[Origin | None] = field(default_factory=Counter)


# --- what runs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(home: Path, folder: Path, models: Sequence[str]) -> Iterator[int]:
    """Run a gateway before simulated models that answer as recorded; give its port."""
    simulated, port = free_port(), free_port()
    corpus = [f"--corpus={folder}/gsm-{name}.jsonl.gz" for name in ("questions", *models)]
    (home / "answer.json").write_text(json.dumps(SCHEMA))
    (home / "holdfast.toml").write_text(configuration(home, simulated, models))
    simulate = [sys.executable, "-m", "holdfast", "simulate", "--port", str(simulated), *corpus]
    serve = [sys.executable, "-m", "holdfast", "serve", "--config", "holdfast.toml", "--port", str(port)]
    with (
        running(simulate, core=LOAD_CORE, log=home / "simulate.out", cwd=home) as process,
        running(serve, core=GATEWAY_CORE, log=home / "serve.out", cwd=home) as gateway,
    ):
        question = {"model": "warm", "messages": [{"role": "user", "content": next(iter(prompts(folder).values()))}]}
        message = wire(ENDPOINT, (), json.dumps(question).encode())
        await_answer(gateway, port, message)
        yield port
        if process.poll() is not None or gateway.poll() is not None:
            raise Failed(f"a process ended early: {(home / 'serve.out').read_text()[-500:]}")


def configuration(home: Path, simulated: int, models: Sequence[str]) -> str:
    tables = [f'[log]\npath = "{home}/log.db"\n']
    for number, name in enumerate(models):
        tables.append(
            f'[models.model-{number}]\nprovider = "openai"\nname = "gsm-{name}"\nbreaker = false\n'
            f'base_url = "http://127.0.0.1:{simulated}/v1"\n'
        )
        tables.append(
            f'[features.feature-{number}]\nmodels = ["model-{number}"]\ncontract = "answer.json"\n'
            'retries = 0\nstream = "hold"\n'
        )
    return "\n".join([*tables, '[features.warm]\nmodels = ["model-0"]\n'])


async def ask_all(port: int, folder: Path, models: Sequence[str]) -> list[Played]:
    """Ask every model every question, whole and streamed."""
    questions = prompts(folder)
    played = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for number, (name, rows) in enumerate(outputs(folder)):
            assert name == models[number]
            ids = recorded_ids(folder, name)
            asked = [questions[id] for id in ids]
            whole = await _each(partial(_whole, session, f"feature-{number}"), asked)
            streamed = await _each(partial(_streamed, session, f"feature-{number}"), asked)
            played.append(Played(name, rows, whole, streamed))
            print(f"{name}: asked", file=sys.stderr, flush=True)
    return played


def recorded_ids(folder: Path, name: str) -> list[str]:
    """Return the questions of a model's outputs, in their order."""
    return [row["id"] for row in read_rows(folder / f"gsm-{name}.jsonl.gz")]


async def _each(ask: Callable[[str], Awaitable[Got]], prompts: Sequence[str]) -> list[Got]:
    found: dict[int, Got] = {}
    left = iter(enumerate(prompts))

    async def worker() -> None:
        for number, prompt in left:
            found[number] = await ask(prompt)

    await asyncio.gather(*[worker() for _ in range(AT_ONCE)])
    return [found[number] for number in range(len(prompts))]


async def _whole(session: aiohttp.ClientSession, feature: str, prompt: str) -> Got:
    body = {"model": feature, "messages": [{"role": "user", "content": prompt}]}
    async with session.post(ENDPOINT, json=body) as response:
        told = await response.json(content_type=None)
        call = response.headers["x-holdfast-call"]
    if "error" in told:
        return Got(None, str(told["error"]["code"]), call)
    return Got(told["choices"][0]["message"]["content"], None, call)


async def _streamed(session: aiohttp.ClientSession, feature: str, prompt: str) -> Got:
    body = {"model": feature, "messages": [{"role": "user", "content": prompt}], "stream": True}
    said, finish, error = [], None, None
    async with session.post(ENDPOINT, json=body) as response:
        call = response.headers["x-holdfast-call"]
        raw = await response.read()
    if not raw.startswith(b"data: "):
        return Got(None, str(json.loads(raw)["error"]["code"]), call)
    for line in raw.splitlines():
        if not line.startswith(b"data: {"):
            continue
        event: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            error = str(event["error"]["code"])
        for choice in event.get("choices", ()):
            said.append(choice["delta"].get("content") or "")
            finish = choice["finish_reason"] or finish
    if error is None and finish is None:
        error = "no end"
    return Got(None if error else "".join(said), error, call)


# --- what came of it --------------------------------------------------------------------------------------------------


def examine(port: int, one: Played) -> None:
    """Look into the log for how much was heard of the streams that failed, and find the strings that were recovered."""
    for (output, _), got in zip(one.rows, one.streamed, strict=True):
        if got.text is None:
            call = _logged(port, got.call)
            heard = "".join(part["text"] for part in call["reply"]["choices"][0]["parts"]) if "reply" in call else ""
            one.given_up += len(heard) < len(output)
            one.unsaid += len(output) - len(heard)
            one.told += sum(attempt["saved_tokens"] for attempt in call["attempts"])
    for (output, _), got in zip(one.rows, one.whole, strict=True):
        if got.text is not None:
            value = json.loads(got.text)
            one.origins.update(origin(value[key], key, output) for key in KEYS)


def _logged(port: int, call: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/api/calls/{call}", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _values(got: Sequence[Got]) -> list[Any]:
    """Decode answers strictly, as an application would."""
    return [None if one.text is None else json.loads(one.text) for one in got]


def table(played: Sequence[Played], others: dict[str, list[Any]]) -> tuple[Table, list[Finding]]:
    rows, ours_total, short, worse, altered, invented = [], [0, 0], [], [], 0, 0
    for one in played:
        texts = [text for text, _ in one.rows]
        ours, fence = score(one.rows, _values(one.whole)), score(one.rows, [by_fence(text) for text in texts])
        other = score(one.rows, others[one.name]) if one.name in others else None
        ours_total = [ours_total[0] + ours.recovered, ours_total[1] + ours.with_keys]
        short += [one.name] if ours.share < EACH else []
        worse += [one.name] if ours.accuracy < max(fence.accuracy, other.accuracy if other else 0) else []
        altered += one.origins[None]
        invented += ours.invented
        rows.append(
            (
                one.name,
                f"{ours.recovered} of {ours.with_keys}",
                f"{ours.share:.4f}",
                f"{fence.share:.3f}",
                f"{other.share:.3f}" if other else "-",
                f"{ours.accuracy:.4f}",
                f"{fence.accuracy:.4f}",
                f"{other.accuracy:.4f}" if other else "-",
            )
        )
    share = ours_total[0] / ours_total[1]
    rows.append(("all", f"{ours_total[0]:,} of {ours_total[1]:,}", f"{share:.4f}", "", "", "", "", ""))
    heads = ("", "recovered", "share", "fence", "json_repair", "right", "fence", "json_repair")
    findings = [
        Finding("recovered, of all outputs with both keys", f"{share:.4f}", f">= {OVERALL}", share >= OVERALL),
        Finding("models below .99", ", ".join(short) or "none", "none", not short),
        Finding(
            "models whose answers are right less often than by fence or json_repair",
            ", ".join(worse) or "none",
            "none",
            not worse,
        ),
        Finding("strings that differ from what the model wrote", str(altered), "0", not altered),
        Finding("answers where the output holds none", str(invented), "0", not invented),
    ]
    return Table("Recovered without asking again, through the gateway", heads, tuple(rows)), findings


def streams(played: Sequence[Played]) -> list[Finding]:
    pairs = [(whole, streamed) for one in played for whole, streamed in zip(one.whole, one.streamed, strict=True)]
    lost = sum(whole.text is not None and streamed.text is None for whole, streamed in pairs)
    differ = sum(whole.text != streamed.text or whole.error != streamed.error for whole, streamed in pairs)
    codes = Counter(got.error for pair in pairs for got in pair if got.error)
    strange = {code: count for code, count in codes.items() if code != REFUSED}
    failed = sum(streamed.text is None for _, streamed in pairs)
    early, unsaid = sum(one.given_up for one in played), sum(one.unsaid for one in played)
    told = sum(one.told for one in played)
    return [
        Finding("streams given up whose whole answer is accepted", str(lost), "0", not lost),
        Finding("streams that end otherwise than the whole answer", str(differ), "0", not differ),
        Finding("calls, each whole and streamed", f"{len(pairs):,}"),
        Finding("answers refused", f"{failed:,}"),
        Finding("errors but for contract_violated", str(strange or "none"), "none", not strange),
        Finding("streams given up before their end", f"{early:,}"),
        Finding(
            "tokens that were not waited for, at 4 characters each / as the log says, by the usual length",
            f"{unsaid // CHARACTERS_A_TOKEN:,} / {told:,}",
        ),
    ]


def origins(played: Sequence[Played]) -> Table:
    total: Counter[Origin | None] = sum((one.origins for one in played), Counter())
    rows = tuple((name or "**not there**", f"{count:,}") for name, count in total.most_common())
    return Table("How the recovered strings stand in what the models wrote", ("", "strings"), rows)


def pieces(folder: Path, seed: int = 1) -> list[Finding]:
    """Feed the outputs to the stream check in pieces of chance lengths; compare with the check of the whole."""
    chance, contract = random.Random(seed), make_contract(SCHEMA)
    count = wrong = strict_wrong = objected = 0
    for _, rows in outputs(folder):
        for text, _ in rows:
            count += 1
            objections = [_objects(Watch(contract, strict=strict), text, chance) for strict in (False, True)]
            objected += objections[0]
            wrong += objections[0] and isinstance(meet(contract, text), Met)
            strict_wrong += objections[1] and contract.check(text).ok
    return [
        Finding("outputs fed to the stream check in pieces of chance lengths", f"{count:,}, {objected:,} given up"),
        Finding("of these accepted by the whole check", str(wrong), "0", not wrong),
        Finding("passed on as they come: objected to and valid as they are", str(strict_wrong), "0", not strict_wrong),
    ]


def _objects(watch: Watch, text: str, chance: random.Random) -> bool:
    at = 0
    while at < len(text):
        size = chance.randint(1, MOST_IN_A_PIECE)
        if watch.feed(text[at : at + size]) is not None:
            return True
        at += size
    return False


def measure(home: Path, python: str) -> tuple[list[Table], list[Finding]]:
    folder = Path(os.environ.get("HOLDFAST_DATA", "")) / "outputs"
    if not folder.is_dir():
        raise Failed("set HOLDFAST_DATA to the folder that has outputs/")
    models = [name for name, _ in outputs(folder)]
    with served(home, folder, models) as port:
        played = asyncio.run(ask_all(port, folder, models))
        for one in played:
            examine(port, one)
    recovered, findings = table(played, by_json_repair(python, folder))
    return [recovered, origins(played)], [*findings, *streams(played), *pieces(folder)]
