"""The fault table: its rows, the cases they make of wires, and what a gateway between callers and providers made of it.

All cases of a module are played at once, so that their silences overlap; then its tests look at what was seen. Each
case has a feature and models of its own, so none disturbs another.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from acceptance.gateways import Gateway
from acceptance.resilience.caller import Caller, Told
from holdfast.providers.simulated import Record, RunningSimulator

TEXT = (
    "Kelp  anchors where\n\nwater moves — 海藻は三十メートル 🌊 deep, naïve and   slow: every strand "
    "leans\twith the tide, none leaves.\n- a small grip,\n- kept well,\n\nis worth more than strength spent late."
)
"""What every simulated model says unless a row says otherwise: what is hard at seams, and no white space at the end."""
FIRST_TOKEN, IDLE, ANSWER = 0.3, 0.25, 0.6
"""The timeouts where a model falls silent, in seconds..."""
PATIENCE = (1.0, 0.5, 1.5)
"""...and elsewhere, where a busy machine shall not look like silence."""
DEADLINE = 3.0
SILENCES = ("stall", "ttft", "tps", "trickle")
PRICE = (2, 10)
"""US dollars for a million tokens of every model, in and out."""
LATE = 0.05
"""Seconds that a call may end after its deadline..."""
SLACK = 0.8
"""...and what a busy machine may take beyond that."""
AT_ONCE = 12
"""Cases that are played at once."""
WIRES = ("openai", "anthropic", "google")
PAIRS = tuple((*pair, "openai") for pair in itertools.product(WIRES, WIRES))
"""Every wire as the primary's and as the fallback's, for a caller who speaks OpenAI..."""
ALL = (*PAIRS, *[(primary, fallback, "anthropic") for primary, fallback in zip(WIRES, WIRES[::-1], strict=True)])
"""...and for one who speaks Anthropic each of them once."""
FEW = (("openai", "google", "openai"), ("anthropic", "openai", "anthropic"), ("google", "anthropic", "openai"))
"""Each wire once in every place that it can have."""
SOME = tuple((primary, fallback, caller) for primary, fallback, _ in FEW for caller in ("openai", "anthropic"))
"""The same for both callers."""
WHOLE, STREAM = (False,), (True,)


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """One fault. `primary` and `fallback` say how these models behave, in the words of a simulator's script.

    `feature`, `model` and `next` hold settings of the feature, the primary and the fallback, as TOML; `fields` and
    `headers` are the caller's. `play` is what the caller does, if not one call; `expect` is for the test.
    """

    name: str
    primary: Any = ""
    fallback: Any = ""
    feature: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)
    next: Mapping[str, str] = field(default_factory=dict)
    alone: bool = False
    """There is no fallback."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    wires: tuple[tuple[str, str, str], ...] = ALL
    streamed: tuple[bool, ...] = (False, True)
    play: "Callable[[Stage], Awaitable[None]] | None" = None
    expect: Any = None


@dataclass(frozen=True, repr=False)
class Case:
    """A row over the wires of its primary, its fallback and its caller. `key` names its feature."""

    key: str
    row: Row
    primary: str
    fallback: str
    caller: str
    streamed: bool

    def __str__(self) -> str:
        way = "stream" if self.streamed else "whole"
        return f"{self.row.name}, {self.primary} then {self.fallback}, {way} to {self.caller}"

    @property
    def feature(self) -> dict[str, str]:
        """The settings of the case's feature."""
        silent = any(word in f"{self.row.primary} {self.row.fallback}" for word in SILENCES)
        first_token, idle, answer = (FIRST_TOKEN, IDLE, ANSWER) if silent else PATIENCE
        timeouts = f'connect = "1s", first_token = "{first_token}s", idle = "{idle}s", answer = "{answer}s"'
        names = ", ".join([f'"{name}"' for name, _, _ in self.models])
        own = {"models": f"[{names}]", "deadline": f'"{DEADLINE}s"', "timeouts": f"{{ {timeouts} }}"}
        return own | dict(self.row.feature)

    @property
    def models(self) -> list[tuple[str, str, Mapping[str, str]]]:
        """The case's models: name, wire and settings."""
        first = (f"{self.key}-primary", self.primary, self.row.model)
        return [first] if self.row.alone else [first, (f"{self.key}-fallback", self.fallback, self.row.next)]

    def tables(self, simulator: RunningSimulator) -> str:
        """Return what the gateway's configuration says of the case."""
        said = []
        for name, wire, settings in self.models:
            price = f"{{ input = {PRICE[0]}, output = {PRICE[1]} }}"
            address = {"provider": f'"{wire}"', "base_url": f'"{simulator.url(wire)}"', "price": price}
            said.append(_table(f"models.{name}", address | settings))
        return "".join([*said, _table(f"features.{self.key}", self.feature)])

    def behaviours(self) -> dict[str, Any]:
        """Return what a simulator's script says of the case."""
        return dict(zip([name for name, _, _ in self.models], [self.row.primary, self.row.fallback], strict=False))


def _table(name: str, settings: Mapping[str, str]) -> str:
    return "\n".join([f"[{name}]", *[f"{key} = {value}" for key, value in settings.items()], "", ""])


_keys = map("c{}".format, itertools.count(1))


def each(*rows: Row) -> pytest.MarkDecorator:
    """Give a test every case of some rows."""
    cases = [
        Case(next(_keys), row, *wires, streamed) for row in rows for wires in row.wires for streamed in row.streamed
    ]
    return pytest.mark.parametrize("case", cases, ids=str)


@dataclass(repr=False)
class Stage:
    """Where a case is played, and what was seen: `told` what the caller was told, call by call, `notes` a row's own."""

    case: Case
    gateway: Gateway
    simulator: RunningSimulator
    session: aiohttp.ClientSession
    told: list[Told] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    def caller(self, **headers: str) -> Caller:
        """Return a caller of the case's feature, whose calls the log files under the case."""
        case = self.case
        named = {"x-holdfast-session": case.key, **case.row.headers, **headers}
        return Caller(self.session, self.gateway.url, case.caller, case.key, named, case.row.fields)

    async def ask(self, **headers: str) -> Told:
        """Make a call."""
        told = await self.caller(**headers).ask(self.case.streamed)
        self.told.append(told)
        return told

    @property
    def primary(self) -> list[Record]:
        """What reached the primary."""
        return self.simulator.received(f"{self.case.key}-primary")

    @property
    def fallback(self) -> list[Record]:
        """What reached the fallback."""
        return self.simulator.received(f"{self.case.key}-fallback")

    @property
    def requests(self) -> list[Record]:
        """What reached either, in order."""
        return sorted([*self.primary, *self.fallback], key=lambda record: record.at)

    async def logged(self, calls: int = 1, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Return the case's calls as the log shows them, oldest first, as soon as there are so many."""
        patience = time.monotonic() + seconds
        while len(found := await self._get("", session=self.case.key, limit="500")) < calls:
            assert time.monotonic() < patience, f"the log holds {len(found)} of {calls} calls"
            await asyncio.sleep(0.02)
        return [await self._get(f"/{call['id']}") for call in reversed(found)]

    async def _get(self, path: str, **query: str) -> Any:
        async with self.session.get(f"{self.gateway.url}/api/calls{path}", params=query) as response:
            shown = await response.json()
        return shown if path else shown["calls"]


async def once(stage: Stage) -> None:
    """What most callers do."""
    await stage.ask()


async def play(stages: Iterable[Stage]) -> None:
    """Play all cases, some at once, and read what the log holds of them."""
    places = asyncio.Semaphore(AT_ONCE)

    async def run(stage: Stage) -> None:
        async with places:
            try:
                await (stage.case.row.play or once)(stage)
                stage.log = await stage.logged(max(1, len(stage.told)))
            except Exception as error:  # noqa: BLE001 - raised again in the test of the case
                stage.error = error

    await asyncio.gather(*[run(stage) for stage in stages])
