"""`holdfast accounts`: who may sign in over HTTP."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from holdfast.cli.custody import recorder
from holdfast.cli.listing import NONE, console, print_json
from holdfast.cli.state_directory import Failure, StateDirectory, failures, json_option, state_options
from holdfast.cli.table import Column, Table
from holdfast.clock import SystemClock
from holdfast.log.view import iso
from holdfast.state.accounts import Account, Accounts
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import ROLES

_LONGEST_LINE = 4096
_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from a line of the standard input.")


@click.group()
def command() -> None:
    """Create, list and remove the accounts of people who sign in over HTTP (POST /api/session), and change their
    passwords.
    """


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it may do.")
@click.option("--tenant", help="Whose calls it sees. Only an auditor or an admin may do without: they see all.")
@_stdin
@json_option
@state_options
def create(
    state: StateDirectory, name: str, role: str, tenant: str | None, password_stdin: bool, as_json: bool
) -> None:
    """Make an account. Its password is asked for, never given as an argument, where others could see it."""
    password = _password(name, password_stdin)
    with _opened(state, new=True) as accounts:
        account = accounts.create(name, role, tenant, password, before=_recorded(state, "account.create"))
    _tell(account, "may sign in over HTTP (POST /api/session)", as_json)


@command.command("list")
@json_option
@state_options
def show_all(state: StateDirectory, as_json: bool) -> None:
    """List the accounts, by name. Times are UTC."""
    found: Sequence[Account] = ()
    if (state.existing().path / STATE_FILE).exists():
        with _opened(state, read_only=True) as accounts:
            found = accounts.all()
    if as_json:
        print_json(map(account_json, found))
    elif found:
        _print(found)
    else:
        click.echo("No accounts. Create one with: holdfast accounts create NAME --role admin", err=True)


@command.command()
@click.argument("name")
@_stdin
@json_option
@state_options
def password(state: StateDirectory, name: str, password_stdin: bool, as_json: bool) -> None:
    """Give an account a new password. Whoever is signed in to it is signed out."""
    new = _password(name, password_stdin)
    with _opened(state) as accounts:
        account = accounts.change_password(name, new, before=_recorded(state, "account.password"))
    _tell(account, "has a new password, and is signed out everywhere", as_json)


@command.command()
@click.argument("name")
@json_option
@state_options
def remove(state: StateDirectory, name: str, as_json: bool) -> None:
    """Remove an account. Whoever is signed in to it is signed out."""
    with _opened(state) as accounts:
        account = accounts.remove(name, before=_recorded(state, "account.remove"))
    _tell(account, "is removed", as_json)


def account_json(account: Account) -> dict[str, Any]:
    """Return an account as plain JSON values."""
    return {**_facts(account), "created": iso(account.created_us)}


def _facts(account: Account) -> dict[str, Any]:
    return {"name": account.name, "role": account.role, "tenant": account.tenant}


def _recorded(state: StateDirectory, action: str) -> Any:
    return recorder(state, action, _facts)


@contextmanager
def _opened(state: StateDirectory, *, new: bool = False, read_only: bool = False) -> Iterator[Accounts]:
    path = state.path / STATE_FILE
    if not new and not path.exists():
        raise Failure(f"There are no accounts in {state.existing().path.absolute()}.")
    with failures():
        accounts = Accounts(path, SystemClock(), read_only=read_only)
        try:
            yield accounts
        finally:
            accounts.close()


def _password(name: str, from_stdin: bool) -> str:
    if not from_stdin:
        if not sys.stdin.isatty():
            raise Failure("There is no terminal to ask for the password: give it with --password-stdin.")
        prompted: str = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
        return prompted
    try:
        line = sys.stdin.buffer.readline(_LONGEST_LINE).decode()
    except UnicodeDecodeError:
        raise Failure("The password on the standard input is not UTF-8.") from None
    return line.removesuffix("\n").removesuffix("\r")


def _tell(account: Account, what: str, as_json: bool) -> None:
    if as_json:
        print_json([account_json(account)])
    else:
        click.echo(f"{account.name} ({account.role}{f' of {account.tenant}' if account.tenant else ''}) {what}.")


def _print(found: Sequence[Account]) -> None:
    name = Column[Account]("name", lambda account: account.name, floor=12)
    role = Column[Account]("role", lambda account: account.role)
    tenant = Column[Account]("tenant", lambda account: account.tenant or NONE, floor=8)
    created = Column[Account]("created", lambda account: iso(account.created_us)[:16].replace("T", " "))
    Table([(name, role, tenant, created), (name, role, tenant)], least=1).print(console(), found)
