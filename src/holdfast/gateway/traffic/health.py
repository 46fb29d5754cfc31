"""What the gateway knows of a model while it runs: how it is, how fast, and how much it has to do."""

from collections.abc import Mapping
from random import Random
from typing import Self

from holdfast.clock import Clock, SystemClock
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.admission import Gate, Refusals, SharedGate
from holdfast.gateway.traffic.breaker import Breaker, Unbreakable
from holdfast.gateway.traffic.budget import Budget
from holdfast.gateway.traffic.cells import HEDGES, INSIDE, OUTSTANDING, RETRIES
from holdfast.gateway.traffic.latency import Latency
from holdfast.providers.base import ModelSettings
from holdfast.state.board import Board, Row


class Health:
    """The state of one model, in one worker. What is in its row is shared by all of them; the rest is its own."""

    def __init__(
        self,
        row: Row,
        clock: Clock,
        name: str,
        settings: ModelSettings,
        gateway: GatewaySettings,
        random: Random | None = None,
    ) -> None:
        self._settings = (settings, *_relevant(gateway))
        self._row = row
        self._own = row.own
        self.breaker = (Breaker if settings.breaker else Unbreakable)(row, clock, random)
        self.first_token = Latency()
        """Of streams: from the start of the attempt."""
        self.answer = Latency()
        """Of whole answers."""
        self.retries = Budget(gateway.retry_share)
        # Of the calls that were not hedged, so that it stays below the share of all.
        self.hedges = Budget(gateway.hedge_share / (1 + gateway.hedge_share))
        self.gate: Gate | None = None
        """Where calls wait for a place, if the model has a limit."""
        if settings.concurrency is not None:
            # Others count in the cell too: those of the other workers, and the gate of the settings before a reload.
            self.gate = SharedGate(
                settings.concurrency, gateway.queue, clock, row, INSIDE, alone=False, of=f"the model {name}"
            )
        self.prefill: bool | None = None
        """False once the model has refused to continue an answer."""
        self.alternatives: int | None = None
        """How many alternatives to a token the model tells with their probabilities, once that is known; 0 for none."""
        self.several: bool | None = None
        """Whether the model gives several answers to one request, once that is known."""

    @classmethod
    def private(cls, clock: Clock | None = None) -> Self:
        """Return the health of a model that no other worker knows, without limits."""
        settings = ModelSettings(provider="openai")
        return cls(Row.private(), clock or SystemClock(), "private", settings, GatewaySettings())

    def fits(self, settings: ModelSettings, gateway: GatewaySettings) -> bool:
        """Whether it was made for these settings."""
        return self._settings == (settings, *_relevant(gateway))

    @property
    def busy(self) -> bool:
        """Whether it has all the calls that it may have."""
        return self.gate is not None and self.gate.full

    def seen(self, *, streamed: bool) -> Latency:
        """Return how long callers waited lately: for the first token of a stream, or for a whole answer."""
        return self.first_token if streamed else self.answer

    def count(self, *, hedges: bool) -> None:
        """Pay a call into the budgets: for retries, and for hedges where they may be made."""
        self.retries.count()
        if hedges:
            self.hedges.count()

    def begin(self) -> None:
        """Count an attempt as under way. Must be followed by one `end`."""
        self._own[OUTSTANDING] += 1

    def end(self) -> None:
        """Count it no more."""
        self._own[OUTSTANDING] -= 1

    def outstanding(self) -> int:
        """Return how many attempts are under way, over all workers."""
        return self._row.total(OUTSTANDING)

    def retry(self) -> bool:
        """Whether the budget allows to try this model again; if so, that is counted."""
        return self._spend(self.retries, RETRIES)

    def hedge(self) -> bool:
        """Whether the budget allows to start another model because this one is late; if so, that is counted."""
        return self._spend(self.hedges, HEDGES)

    @property
    def retried(self) -> int:
        """How often `retry` was allowed, over all workers."""
        return self._row.total(RETRIES)

    @property
    def hedged(self) -> int:
        """How often `hedge` was allowed, over all workers."""
        return self._row.total(HEDGES)

    def _spend(self, budget: Budget, cell: int) -> bool:
        if not budget.spend():
            return False
        self._own[cell] += 1
        return True


def _relevant(gateway: GatewaySettings) -> tuple[float, float, int]:
    return gateway.retry_share, gateway.hedge_share, gateway.queue


class Register:
    """Keeps the health of models over reloads, as long as their settings stay the same.

    A model with new settings gets a new one, which has the row of the old one: so what is under way still counts, and
    a breaker that is open stays so until a probe has seen what the new settings are worth.
    """

    def __init__(self, board: Board, clock: Clock, random: Random | None = None) -> None:
        self._board = board
        self._clock = clock
        self._random = random
        self._kept: Mapping[str, Health] = {}

    def health(self, name: str, settings: ModelSettings, gateway: GatewaySettings) -> Health:
        """Return the health of a model, which is not kept yet: the configuration may still turn out to be wrong."""
        kept = self._kept.get(name)
        if kept is not None and kept.fits(settings, gateway):
            return kept
        return Health(self._board.row(name), self._clock, name, settings, gateway, self._random)

    def refusals(self) -> Refusals:
        """Return the count of the calls that the gateway turns away."""
        return Refusals(self._board.row("/gateway"))  # which no model can be called

    def keep(self, healths: Mapping[str, Health]) -> None:
        """Keep these for the next reload, and no others."""
        self._kept = healths
