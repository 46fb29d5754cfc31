"""Erasing a subject: its key first, then whatever is left in any store, then what workers hold in memory.

Every step is recorded in the keyring, and can be done twice. So whatever ends an erasure in the middle, running it
again finishes it, and so does a gateway.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.database import translated
from holdfast.errors import PrivacyError, StoreError
from holdfast.privacy.erasure.certificate import Certificate, Signs, issue
from holdfast.privacy.erasure.registry import Registry
from holdfast.privacy.sealing.connection import KEYRING
from holdfast.privacy.sealing.erasures import Erasure
from holdfast.privacy.sealing.keyring import Keyring

LOCK_FILE = "erasure.lock"
PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.05

Living = Callable[[], Collection[str]]
"""Returns the ids of the workers that run. Each of them has a `Follower`."""


def nobody() -> Collection[str]:
    """Return no worker."""
    return ()


def erase(
    subjects: Iterable[str],
    registry: Registry,
    keyring: Keyring,
    *,
    signer: Signs | None = None,
    living: Living = nobody,
    patience: float = PATIENCE_SECONDS,
    pause: Callable[[float], None] = time.sleep,
) -> Certificate:
    """Erase subjects (keyed hashes), and certify it. Blocks.

    From the first moment nothing can be opened that was sealed for them. Waits up to `patience` seconds until the
    workers have confirmed that nothing is left in their memory. Two erasures never run at once: one waits.

    Raises:
        PrivacyError: the erasure is recorded, but a store or a worker could not be reached. All others were. Run it
            again; a gateway that runs also goes on with it.
    """
    wanted = tuple(dict.fromkeys(subjects))
    with _alone(keyring, wait=True):
        begun = [keyring.erasures.begin(subject) for subject in wanted]
        problems = _advance(begun, registry, keyring)
        problems += _unconfirmed(begun, keyring, living, patience, pause)
        _close(begun, registry, keyring, living)
    if problems:
        raise PrivacyError(
            "\n".join([*problems, "The erasure is recorded and not finished: run it again, or let the gateway go on."])
        )
    return _certificate([erasure for one in begun for erasure in _until(one, keyring)], keyring, signer)


def finish(registry: Registry, keyring: Keyring, *, living: Living = nobody) -> int:
    """Go on with erasures that something ended in the middle, and return how many are finished now. Blocks, shortly.

    Does nothing while another process erases. What waits for workers is left for the next time.

    Raises:
        PrivacyError: a store could not be reached. All others were.
    """
    if not keyring.erasures.pending():
        return 0
    with _alone(keyring, wait=False) as alone:
        if not alone:
            return 0
        pending = keyring.erasures.pending()
        problems = _advance(pending, registry, keyring)
        finished = _close(pending, registry, keyring, living)
    if problems:
        raise PrivacyError("\n".join(problems))
    return finished


def certificate(subjects: Iterable[str], keyring: Keyring, signer: Signs | None) -> Certificate:
    """Certify the last erasure of each of these subjects (keyed hashes), and name those before. Raises PrivacyError."""
    unique = dict.fromkeys(subjects)
    return _certificate([erasure for subject in unique for erasure in keyring.erasures.of(subject)], keyring, signer)


def _until(last: Erasure, keyring: Keyring) -> Sequence[Erasure]:
    """Return an erasure and those of the same subject before it, as they are now."""
    return [erasure for erasure in keyring.erasures.of(last.subject) if erasure.n <= last.n]


def _certificate(erasures: Sequence[Erasure], keyring: Keyring, signer: Signs | None) -> Certificate:
    return issue(sorted(erasures, key=lambda erasure: erasure.n), keyring.now_us(), signer)


class Follower:
    """Lets a worker forget erased subjects: `forget` drops what is in its memory of one, and returns how much it was.

    `worker` is the id by which others know that it lives, from before its first call on: no erasure ends without it.
    """

    def __init__(self, keyring: Keyring, worker: str, forget: Callable[[str], int]) -> None:
        self._keyring = keyring
        self._worker = worker
        self._forget = forget
        self._last: int | None = None

    async def poll(self) -> None:
        """Forget who was erased since the last time, and confirm it. `forget` is called on the event loop.

        Raises:
            PrivacyError: the keyring can't be used.
        """
        news = await asyncio.to_thread(self._news)
        counts = [(erasure.n, self._forget(erasure.subject)) for erasure in news]
        if counts:
            await asyncio.to_thread(self._confirm, counts)

    def _news(self) -> Sequence[Erasure]:
        self._keyring.refresh()
        erasures = self._keyring.erasures
        if self._last is None:
            pending = erasures.pending()  # what is not among them ended before this worker lived
            self._last = pending[0].n - 1 if pending else erasures.last
        return erasures.since(self._last) if erasures.last > self._last else ()

    def _confirm(self, counts: Sequence[tuple[int, int]]) -> None:
        for n, found in counts:
            self._keyring.erasures.confirm(n, self._worker, found)
            self._last = n


# --- steps ------------------------------------------------------------------------------------------------------------


def _advance(erasures: Sequence[Erasure], registry: Registry, keyring: Keyring) -> list[str]:
    """Do what is left to be done with the keyring and the stores, and return what could not be done."""
    problems = []
    record = keyring.erasures
    if unscrubbed := [erasure.n for erasure in erasures if erasure.scrubbed_us is None]:
        try:
            keyring.scrub()
            for n in unscrubbed:
                record.scrubbed(n)
        except StoreError as error:
            problems.append(error.message)
    for erasure in erasures:
        for store in registry:
            if store.name in erasure.reached:
                continue
            try:
                record.reaching(erasure.n, store.name)
                record.reached(erasure.n, store.name, store.erase(erasure.subject))
            except StoreError as error:
                problems.append(error.message)
    return problems


def _unconfirmed(
    erasures: Sequence[Erasure], keyring: Keyring, living: Living, patience: float, pause: Callable[[float], None]
) -> list[str]:
    """Wait for the workers, and return who has not confirmed."""
    rounds = round(patience / _PAUSE_SECONDS)
    while (missing := _missing(erasures, keyring, living)) and rounds > 0:
        pause(_PAUSE_SECONDS)
        rounds -= 1
    return [f"The worker {worker} has not confirmed that it dropped what it had in memory." for worker in missing]


def _missing(erasures: Sequence[Erasure], keyring: Keyring, living: Living) -> list[str]:
    """Return the workers that run and have not confirmed all of these erasures."""
    confirmed = [keyring.erasures.confirmed(erasure.n) for erasure in erasures]
    return [worker for worker in sorted(living()) if not all(worker in workers for workers in confirmed)]


def _close(erasures: Sequence[Erasure], registry: Registry, keyring: Keyring, living: Living) -> int:
    """Record those as done that have reached everything, and return how many."""
    record = keyring.erasures
    known = {erasure.n: erasure for begun in erasures for erasure in record.of(begun.subject)}
    current = [known[begun.n] for begun in erasures]
    ready = [
        erasure
        for erasure in current
        if erasure.scrubbed_us is not None
        and erasure.reached.issuperset(registry.names)
        and not _missing([erasure], keyring, living)
    ]
    for erasure in ready:
        record.done(erasure.n)
    return len(ready)


@contextmanager
def _alone(keyring: Keyring, *, wait: bool) -> Iterator[bool]:
    """Keep other erasures out, in this process and others. False where one runs and it was not to be waited for."""
    path = keyring.path.with_name(LOCK_FILE)
    with translated(path, KEYRING):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _locked(descriptor, path, wait=wait)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path, *, wait: bool) -> bool:
    with translated(path, KEYRING):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
    return True
