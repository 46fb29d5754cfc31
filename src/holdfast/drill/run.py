"""The drill itself: every feature through every fault, streamed and not, each on a stage of its own."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from holdfast.config import Configuration
from holdfast.drill.faults import FAULTS, Fault, Mode
from holdfast.drill.observation import Observation, call
from holdfast.drill.skipping import LoopClock, SkippingLoop
from holdfast.drill.speeds import USUAL, Speed, recent
from holdfast.drill.stage import Stage, stage
from holdfast.drill.targets import Target
from holdfast.drill.verdict import Expected, Verdict, judge, judge_hang_up, worst
from holdfast.events import Attempt, Call
from holdfast.http.base import HttpRequest
from holdfast.http.pool import PooledTransport
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

PATIENCE_SECONDS = 5.0
"""How long after its deadline a call is still waited for."""
MEETINGS = 8
"""How often a scene is played until its fault is met: among equal models, chance decides who is asked first."""
QUESTION = "When does the next ferry leave?"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One call: when it was made, in seconds since the first of its row, what was seen of it, and its attempts.

    `repairs` is how many changes its answer needed to meet the contract.
    """

    at: float
    seen: Observation
    verdict: Verdict
    attempts: tuple[Attempt, ...] = ()
    repairs: int = 0


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A feature under a fault. `deadline` in seconds; `met` says whether the model that the fault befalls was asked."""

    target: Target
    fault: Fault
    mode: Mode
    deadline: float
    runs: tuple[Run, ...]
    met: bool = True

    @property
    def shown(self) -> Run:
        """The call that stands for the row: the worst, and of these the slowest."""
        end = self.runs[worst([run.verdict for run in self.runs])].verdict.end
        return max((run for run in self.runs if run.verdict.end == end), key=lambda run: run.seen.took)

    @property
    def verdict(self) -> Verdict:
        """The worst of its calls."""
        return self.shown.verdict


class Drill(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `seconds` is how long the calls would have taken their users, `took` how long the drill did."""

    configuration: Configuration
    targets: Sequence[Target]
    speeds: Mapping[str, Speed]
    rows: Sequence[Row]
    seconds: float
    took: float


Progress = Callable[[Row], None]


def scenes(targets: Sequence[Target], faults: Sequence[Fault]) -> list[tuple[Target, Fault, Mode]]:
    """Return what will be played, in order."""
    played = [(target, fault) for target in targets for fault in faults if target.takes(fault)]
    return [(target, fault, mode) for target, fault in played for mode in fault.modes]


def run(
    configuration: Configuration,
    chosen: Sequence[Target],
    faults: Sequence[Fault],
    progress: Progress = lambda _: None,
) -> Drill:
    """Drill a configuration. Its secrets, its log and its models' addresses are left alone.

    Raises:
        ConfigError, LogError: the configuration asks for something that is not there.
    """
    known = recent(configuration.base / configuration.config.log.path)
    speeds = {name: known.get(name, USUAL) for name in configuration.config.models}
    with asyncio.Runner(loop_factory=SkippingLoop) as runner, tempfile.TemporaryDirectory() as directory:
        loop = runner.get_loop()
        assert isinstance(loop, SkippingLoop)
        began = loop.time()
        drilling = _run(configuration, scenes(chosen, faults), speeds, Path(directory), progress, LoopClock(loop))
        rows = runner.run(drilling)
        seconds = loop.time() - began
        took = seconds - loop.skipped
    return Drill(configuration=configuration, targets=chosen, speeds=speeds, rows=rows, seconds=seconds, took=took)


async def _run(
    configuration: Configuration,
    scenes: Sequence[tuple[Target, Fault, Mode]],
    speeds: Mapping[str, Speed],
    directory: Path,
    progress: Progress,
    clock: LoopClock,
) -> list[Row]:
    rows = []
    for target, fault, mode in scenes:
        for _ in range(MEETINGS):
            row = await _scene(configuration, target, fault, mode, speeds, directory / "log.db", clock)
            if row.met:
                break
        rows.append(row)
        progress(row)
    return rows


async def _scene(
    configuration: Configuration,
    target: Target,
    fault: Fault,
    mode: Mode,
    speeds: Mapping[str, Speed],
    log: Path,
    clock: LoopClock,
) -> Row:
    async with stage(configuration, target, fault, speeds, log, clock) as set_:
        transport = PooledTransport()
        try:
            await _warm_up(set_, transport, target, mode)
            await set_.strike()
            calls = [_call(set_, transport, target, fault, mode, speeds, number) for number in range(fault.calls)]
            runs = await asyncio.gather(*calls)
        finally:
            await transport.aclose()
        asked = bool(set_.models[target.first].requests)
    runs = [_recorded(run, call) for run, call in _with_calls(log, runs)]
    met = asked or any(attempt.model == target.first for run in runs for attempt in run.attempts)
    return Row(target=target, fault=fault, mode=mode, deadline=_deadline(target, fault), runs=tuple(runs), met=met)


async def _call(
    set_: Stage,
    transport: PooledTransport,
    target: Target,
    fault: Fault,
    mode: Mode,
    speeds: Mapping[str, Speed],
    number: int,
) -> Run:
    at = fault.every * number
    await asyncio.sleep(at)
    deadline, stream = _deadline(target, fault), mode == "stream"
    leaves = None if fault.leaves is None else fault.leaves * _usual(speeds[target.first], target)
    sent = asyncio.get_running_loop().time()
    seen = await call(
        transport,
        _request(set_.url, target, fault, stream=stream, asked=f"{QUESTION} ({number + 1})"),
        stream=stream,
        patience=deadline + PATIENCE_SECONDS,
        leaves=leaves,
    )
    if leaves is None:
        answers = target.answers
        replies = (answers.reply, answers.reworded) if fault.reworded else (answers.reply,)
        verdict = judge(seen, Expected(deadline=deadline, replies=replies, contract=answers.contract))
    else:
        verdict = judge_hang_up(seen, await _hang_ups(set_, target, sent))
    return Run(at=at, seen=seen, verdict=verdict)


async def _warm_up(set_: Stage, transport: PooledTransport, target: Target, mode: Mode) -> None:
    """Let the gateway see what its models are like on a usual day."""
    stream = mode == "stream"
    for number in range(target.usual_calls):
        asked = f"Does the ferry run today? ({number + 1})"
        request = _request(set_.url, target, FAULTS[0], stream=stream, asked=asked)
        await call(transport, request, stream=stream, patience=target.deadline + PATIENCE_SECONDS)


async def _hang_ups(set_: Stage, target: Target, sent: float) -> list[float | None]:
    """Return when each model's connection ended, in seconds since the call was sent; wait a moment for those open."""
    await asyncio.sleep(PATIENCE_SECONDS)
    records = [record for name in target.models for record in set_.models[name].requests]
    ends = [record.hung_up_at or record.ended_at for record in records]
    return [None if end is None else end - sent for end in ends]


def _request(url: str, target: Target, fault: Fault, *, stream: bool, asked: str) -> HttpRequest:
    """Ask: every call something else, since the answer to the same question may be given again without a model."""
    body = {
        "model": target.name,
        "messages": [{"role": "user", "content": asked}],
        "stream": stream,
        "holdfast": {"variables": dict.fromkeys(target.variables, "the ferry")},
    }
    headers = [(b"content-type", b"application/json")]
    if fault.deadline is not None:
        headers.append((b"x-holdfast-deadline-ms", b"%d" % round(_deadline(target, fault) * 1000)))
    return HttpRequest("POST", f"{url}/v1/chat/completions", tuple(headers), msgspec.json.encode(body))


def _deadline(target: Target, fault: Fault) -> float:
    return target.deadline if fault.deadline is None else min(fault.deadline, target.deadline)


def _usual(speed: Speed, target: Target) -> float:
    """Return how long the answer usually takes, in seconds."""
    return speed.first_token + target.tokens / speed.tokens_per_second


def _recorded(run: Run, call: Call | None) -> Run:
    return run if call is None else msgspec.structs.replace(run, attempts=call.attempts, repairs=call.repairs)


def _with_calls(log: Path, runs: Sequence[Run]) -> list[tuple[Run, Call | None]]:
    """Return each call with what the drill's own log has of it."""
    reader = SqliteLog.read(log)
    try:
        # a caller who left early never heard the call's id: it is the only one of its scene
        newest = next((batch[0] for batch in reader.scan(Filter(limit=1))), None)
        found = [reader.get(run.seen.call) if run.seen.call is not None else newest for run in runs]
        return list(zip(runs, found, strict=True))
    finally:
        reader.close()
