"""Which persons a command is about: a subject's name stands for another person at every tenant."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

import click

from holdfast.cli.custody import opened_log, record, tenants
from holdfast.cli.state_directory import Failure, StateDirectory, failures
from holdfast.clock import SystemClock
from holdfast.errors import LogError
from holdfast.log.base import Filter
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE
from holdfast.privacy.subjects import SubjectHasher

F = TypeVar("F", bound=Callable[..., Any])

MOST_ITEMS = 100
"""The longest list that an entry of the trail holds."""

_HASH = re.compile(r"[0-9a-f]{32}")

Tenants = Sequence[str | None]
"""None is that of calls which were made without a key."""
Subjects = Mapping[str, str | None]
"""Hashes of subjects, each with its tenant."""


class Asked(NamedTuple):
    """Of which tenants, as the options of a command say it; of none of them: of the only one that has something."""

    tenants: tuple[str, ...]
    no_tenant: bool
    all_tenants: bool

    @property
    def named(self) -> Tenants:
        return (None, *self.tenants) if self.no_tenant else self.tenants


def tenant_options(command: F) -> F:
    """Give a command the options that say at which tenants a subject is meant, as its argument `asked`."""

    @click.option(
        "--tenant",
        "tenants",
        multiple=True,
        help="The subject of this tenant; may be repeated. Needed where several tenants know one of this name.",
    )
    @click.option("--no-tenant", is_flag=True, help="The subject of calls that were made without a key.")
    @click.option("--all-tenants", is_flag=True, help="The subjects of this name at every tenant, and at none.")
    @functools.wraps(command)
    def wrapped(*arguments: Any, tenants: tuple[str, ...], no_tenant: bool, all_tenants: bool, **options: Any) -> Any:
        asked = Asked(tuple(dict.fromkeys(tenants)), no_tenant, all_tenants)
        if all_tenants and asked.named:
            raise click.UsageError("Either --all-tenants, or the tenants by name.")
        return command(*arguments, asked=asked, **options)

    return wrapped  # type: ignore[return-value]  # it takes three options, of which it makes one argument


def chosen(name: str, asked: Asked, state: StateDirectory) -> Subjects:
    """Return which subjects a command is about. Without tenants it is that of the only one that has something of it.

    Where none has anything, it is that of each: what they send right now is meant too.

    Raises:
        Failure: more than one tenant has something of a subject of this name; a tenant that was named is not known; or
            as `subject_hashes`.
    """
    if asked.named:
        named = subject_hashes(name, asked.named, state)
        _refuse_unknown_tenants(name, asked.tenants, named, state)
        return named
    if asked.all_tenants:
        return subject_hashes(name, None, state)
    candidates = subject_hashes(name, None, state)
    found = _kept(candidates, state)
    if len(found) > 1:
        raise Failure(
            f"There is something of a subject {name} at more than one tenant: {_listed(found.values())}. "
            "These may be different persons. Say which with --tenant (may be repeated) or --no-tenant, or "
            "--all-tenants."
        )
    return found or candidates


def subject_hashes(name: str, at: Tenants | None, state: StateDirectory) -> Subjects:
    """Return the hashes that stand for a subject: at these tenants, else at each that is known.

    What looks like a hash stands for itself too.

    Raises:
        Failure: the key that makes hashes of names can't be read.
    """
    own: dict[str, str | None] = {name: at[0] if at else None} if _HASH.fullmatch(name) else {}
    try:
        hasher = SubjectHasher.read(state.path)
    except LogError as error:
        if own:
            return own
        raise Failure(f"{error.message} Without it, give the hash of the subject.") from error
    return own | {hasher.hash(name, whose): whose for whose in at or (None, *tenants(state))}


def record_subjects(state: StateDirectory, action: str, subjects: Subjects) -> None:
    """As `record`, of what is about to be done to subjects, in as many entries as it takes. Raises Failure."""
    hashes = list(subjects)
    for first in range(0, len(hashes), MOST_ITEMS):
        some = hashes[first : first + MOST_ITEMS]
        named = sorted({whose for hash in some if (whose := subjects[hash]) is not None})
        record(state, action, subjects=some, tenants=named)


def _refuse_unknown_tenants(name: str, asked: Sequence[str], subjects: Subjects, state: StateDirectory) -> None:
    """Raise Failure if a tenant never had a key, an account or a call, and there is nothing of its subject either."""
    known = tenants(state)
    unknown = [whose for whose in asked if whose not in known]
    if not unknown or set(unknown) <= set(_kept(subjects, state).values()):
        return
    near = get_close_matches(unknown[0], known, n=1)
    told = f"No key, account or call was ever of the tenant {unknown[0]!r}"
    told += f": did you mean {near[0]}?" if near else "."
    told += f" Known tenants: {', '.join(known)}." if known else " No tenant is known here: see --no-tenant."
    elsewhere = _kept(subject_hashes(name, None, state), state)
    if elsewhere:
        told += f" There is something of a subject {name} at: {_listed(elsewhere.values())}."
    raise Failure(told)


def _listed(tenants: Iterable[str | None]) -> str:
    return ", ".join([whose or "(calls without a key)" for whose in tenants])


def _kept(subjects: Subjects, state: StateDirectory) -> Subjects:
    """Return those of which there is something: calls, a key, or an erasure that is not finished."""
    with failures(), ExitStack() as opened:
        log = opened.enter_context(opened_log(state)) if state.log.exists() else None
        path = state.path / KEYRING_FILE
        reader = Keyring(path, None, SystemClock(), read_only=True) if path.exists() else None
        keyring = reader and opened.enter_context(closing(reader))

        def keeps(hash: str) -> bool:
            if keyring is not None and (keyring.holds(hash) or keyring.erasures.unfinished(hash)):
                return True
            return log is not None and any(log.scan(Filter(subject=hash, limit=1)))

        return {hash: whose for hash, whose in subjects.items() if keeps(hash)}
