"""Who may call, what they may spend, and whose data it is: what a process needs of it, put together."""

import asyncio
import functools
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final, TypeVar

from holdfast.clock import Clock, NewId, SystemClock
from holdfast.config import Configuration
from holdfast.database import translated
from holdfast.errors import ConfigError, Problem, StateError
from holdfast.gateway.access import Access
from holdfast.gateway.spending.budgets import Budgets
from holdfast.jobs import Jobs
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.custody import Custody as Keeping
from holdfast.privacy.custody import open_custody
from holdfast.privacy.erasure.erase import Follower, finish
from holdfast.privacy.erasure.registry import Registry
from holdfast.privacy.signing import Signer
from holdfast.state.accounts import Accounts
from holdfast.state.files import STATE, STATE_FILE
from holdfast.state.holders import RUNNING, Holder, living
from holdfast.state.keys import Keys
from holdfast.state.spending import Spending

T = TypeVar("T", Keys, Accounts, Spending)

POLL_SECONDS: Final = 0.25
"""Within which a worker learns of keys and erasures."""
MAKING_SECONDS: Final = 0.5
"""How long it may take between the entry in the audit trail of a key that is made, and the key."""
FINISH_SECONDS: Final = 5.0
"""How often a gateway looks for erasures that something ended in the middle."""


class Custody:
    """The keys, limits and secrets of a state directory, open in this process until it is left.

    Raises:
        StateError, PrivacyError: a file of it can't be used.
        ConfigError: sealing is asked for, and its extra is not installed.
    """

    keys: Keys
    accounts: Accounts
    trail: Trail
    budgets: Budgets
    keeping: Keeping

    def __init__(self, configuration: Configuration, directory: Path, clock: Clock, new_id: NewId) -> None:
        self._configuration = configuration
        self._directory = directory
        self._clock = clock
        self._new_id = new_id
        self._jobs = Jobs()
        self._known: tuple[int | None, Access] = None, Access((), {}, clock)
        """What keys and sessions there are, and the version of the state that tells so: replaced together."""

    async def open(self, opened: AsyncExitStack) -> None:
        """Open everything; `opened` closes it."""
        directory, clock = self._directory, self._clock
        path = directory / STATE_FILE
        self.keys = await _opened(opened, lambda: Keys(path, clock))
        self.accounts = await _opened(opened, lambda: Accounts(path, clock))
        spending = await _opened(opened, lambda: Spending(path))
        self.budgets = Budgets(spending, clock)
        opened.push_async_callback(self.budgets.close)
        self.keeping = await asyncio.to_thread(self._keep)
        opened.callback(self.keeping.keyring.close)
        master = self.keeping.master
        self.trail = Trail(directory, None if master is None else Signer.of(master), clock)
        with translated(directory, STATE):
            self._presence = Holder.create(directory / RUNNING, self._new_id)
        opened.callback(functools.partial(self._presence.close, remove=True))
        await self.refresh()
        if self.access().open:
            await asyncio.to_thread(self._check_never_guarded)

    def _check_never_guarded(self) -> None:
        """Refuse to serve everyone where keys were made, and the file that held them is gone. Raises StateError."""
        made = any(True for action in ("key.create", "account.create") for _ in self.trail.entries(action=action))
        ends = time.monotonic() + MAKING_SECONDS
        while made and self.keys.version() == 0:  # one that is made just now is recorded before it is there
            if time.monotonic() > ends:
                raise StateError(
                    f"{self._directory / STATE_FILE}: by the audit trail there were keys or accounts, and there are "
                    "none in this file: everyone would be let in, and nobody knows what was spent. Restore it from "
                    "its backup; or make a key to begin anew (holdfast keys create)."
                )
            time.sleep(POLL_SECONDS / 10)

    def _keep(self) -> Keeping:
        configuration = self._configuration
        try:
            return open_custody(configuration.config.privacy, configuration.base, self._directory, self._clock)
        except ValueError as error:
            raise ConfigError([Problem(str(configuration.path), 0, "privacy.seal", str(error))]) from error

    def start(self, opened: AsyncExitStack, log: SqliteLog, forget: Callable[[str], int]) -> None:
        """Follow changes of keys, erasures and limits in the background; `forget` drops what is in memory of a
        subject. `opened` ends it."""
        follower = Follower(self.keeping.keyring, self._presence.id, forget)
        registry = Registry([log])
        self._jobs.every(POLL_SECONDS, "looking for changes of keys", self.refresh)
        self._jobs.every(POLL_SECONDS, "looking for erasures", follower.poll)
        self._jobs.every(FINISH_SECONDS, "finishing erasures", functools.partial(self._finish, registry))
        self._jobs.every(0.0, "tending limits", self.budgets.work)
        opened.push_async_callback(self._jobs.aclose)

    async def _finish(self, registry: Registry) -> None:
        alive = functools.partial(living, self._directory / RUNNING)
        await asyncio.to_thread(finish, registry, self.keeping.keyring, living=alive)

    async def record(self, action: str, **details: Any) -> None:
        """Have the audit trail say that the gateway does something. Raises PrivacyError: then it may not."""
        await asyncio.to_thread(self.trail.append, "gateway", action, **details)

    def access(self) -> Access:
        """Return what keys and sessions there are."""
        return self._known[1]

    async def refresh(self) -> None:
        """Look for changes of keys and sessions. Raises StateError: what was known stays in force."""
        self._known = await asyncio.to_thread(self._look)

    def _look(self) -> tuple[int | None, Access]:
        known, version = self._known, self.keys.version()
        if version == known[0]:
            return known
        return version, Access(self.keys.all(), self.accounts.sessions(), self._clock, open=version == 0)


def record_reload(running: Configuration, *, before: str, after: str) -> None:
    """Have the audit trail say that a gateway takes another configuration; `running` is the one that it began with.

    Raises:
        PrivacyError, ValueError: it can't be said.
    """
    directory = (running.base / running.config.log.path).parent
    keeping = open_custody(running.config.privacy, running.base, directory, SystemClock())
    with closing(keeping.keyring):
        signer = None if keeping.master is None else Signer.of(keeping.master)
        Trail(directory, signer, SystemClock()).append("gateway", "config.reload", config=after, before=before)


async def _opened(opened: AsyncExitStack, make: Callable[[], T]) -> T:
    made = await asyncio.to_thread(make)
    opened.callback(made.close)
    return made
