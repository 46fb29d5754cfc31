"""What commands need to act on keys and data: an entry in the audit trail first, and the log as it can be read here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, TypeVar

import click

from holdfast.cli.state_directory import Failure, StateDirectory, failures, operator
from holdfast.clock import SystemClock
from holdfast.errors import PrivacyError
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.connection import needs_master
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE
from holdfast.privacy.sealing.sealer import Sealer
from holdfast.state.accounts import Accounts
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import Keys

T = TypeVar("T")


def record(state: StateDirectory, action: str, **details: Any) -> None:
    """Write into the audit trail that whoever runs this command is about to do something.

    Raises:
        Failure: it can't be written. Then it must not be done.
    """
    try:
        state.trail().append(operator(), action, **details)
    except PrivacyError as error:
        raise Failure(
            f"Nothing was done, because it could not be written into the audit trail. {error.message}"
        ) from error


def recorder(
    state: StateDirectory, action: str, facts: Callable[[T], Mapping[str, Any]], **more: Any
) -> Callable[[T], None]:
    """Return what records that something is about to be done to a thing: what `facts` tells of it, and `more`."""
    return lambda thing: record(state, action, **facts(thing), **more)


def masks(state: StateDirectory) -> bool:
    """Whether bodies are masked unless they are asked for in plain: once a key or an account was ever made."""
    path = state.path / STATE_FILE
    if not path.exists():
        return False
    with failures(), closing(Keys(path, SystemClock(), read_only=True)) as keys:
        return keys.version() > 0


def tenants(state: StateDirectory) -> Sequence[str]:
    """Return the tenants that ever had a key or made a call, and those of accounts."""
    found: set[str | None] = set()
    path = state.path / STATE_FILE
    if path.exists():
        with failures(), ExitStack() as opened:
            keys = opened.enter_context(closing(Keys(path, SystemClock(), read_only=True)))
            accounts = opened.enter_context(closing(Accounts(path, SystemClock(), read_only=True)))
            found |= {key.tenant for key in keys.all()} | {account.tenant for account in accounts.all()}
    if state.log.exists():
        with opened_log(state) as log:
            found |= {spend.tenant for spend in log.spend(in_total=True)}
    return sorted([tenant for tenant in found if tenant])


@contextmanager
def opened_log(state: StateDirectory, *, bodies: bool = False, all_bodies: bool = False) -> Iterator[SqliteLog]:
    """Open the log to read. Whatever is wrong with it ends the command with exit code 2.

    With `bodies`, those that are sealed are opened if their keys can be had; with `all_bodies` that must be.
    """
    if not state.log.exists():
        raise Failure(
            f"There is no log at {state.log.absolute()} (started in another folder?). "
            "Name one with --log, or start the gateway, which makes it."
        )
    with failures(), ExitStack() as opened:
        sealer = _sealer(state, opened, required=all_bodies) if bodies or all_bodies else None
        yield opened.enter_context(closing(SqliteLog.read(state.log, sealer)))


def _sealer(state: StateDirectory, opened: ExitStack, *, required: bool) -> Sealer | None:
    path = state.path / KEYRING_FILE
    if not needs_master(path):
        return None  # nothing was ever sealed
    if not ciphers.available() and not required:
        click.echo('What is sealed stays closed: opening it needs pip install "holdfast[custody]".', err=True)
        return None
    try:
        keyring = Keyring(path, state.master(create=False), SystemClock(), read_only=True)
    except PrivacyError as error:
        if required:
            raise
        click.echo(f"What is sealed stays closed: {error.message}", err=True)
        return None
    opened.callback(keyring.close)
    return Sealer(keyring)
