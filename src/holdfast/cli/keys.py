"""`holdfast keys`: who may call, for how much, and what they have spent."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
import msgspec

from holdfast.cli.custody import recorder
from holdfast.cli.key_table import (
    SPEND_BY,
    Row,
    Use,
    key_facts,
    key_json,
    overlap_told,
    print_keys,
    print_spend,
    print_uses,
    spend_json,
    summed,
    use_json,
)
from holdfast.cli.listing import console, print_json
from holdfast.cli.output import creating
from holdfast.cli.parameters import DURATION, EXPIRY, MOMENT, NAMES, limit
from holdfast.cli.state_directory import Failure, StateDirectory, failures, json_option, state_options
from holdfast.clock import SystemClock
from holdfast.log.sqlite import SqliteLog
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import ID_LENGTH, ROLES, Key, Keys, microseconds
from holdfast.state.limits import BudgetSettings, Limit, Meter, Scope
from holdfast.state.spending import Spending
from holdfast.state.usage import used

CLOCK = SystemClock()

_output = click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the token into this new file, for its owner alone, instead of printing it.",
)


@click.group()
def command() -> None:
    """Create, list, rotate and revoke the keys that callers bring, and see what they spend.

    As long as no key was ever made, the gateway serves this machine only, and asks nobody for one.
    """


@command.command()
@click.option("--tenant", required=True, help="Whose key it is: calls, spend and subjects are kept apart by tenant.")
@click.option("--role", type=click.Choice(ROLES), default="app", show_default=True, help="What it may do.")
@click.option("--features", type=NAMES, multiple=True, help="The only features and models it may call. Default: all.")
@click.option("--budget", type=limit("nanousd"), multiple=True, help='Money it may spend: "50usd/day".')
@click.option("--requests", type=limit("requests"), multiple=True, help='Attempts that reach a model: "600/min".')
@click.option("--tokens", type=limit("tokens"), multiple=True, help='Input and output tokens: "200k/min".')
@click.option("--expires", type=EXPIRY, help='When it ends: "90d" from now, or a date. Default: never.')
@_output
@json_option
@state_options
def create(
    state: StateDirectory,
    tenant: str,
    role: str,
    features: tuple[tuple[str, ...], ...],
    budget: tuple[Limit, ...],
    requests: tuple[Limit, ...],
    tokens: tuple[Limit, ...],
    expires: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Make a key and print its token, which can't be had again: only a hash of it is kept.

    Limits hold for the minute, hour, day or month of the calendar (UTC), or in total where none is given: 600/min,
    2000/h, 50usd/day, 1M/month, 5usd. Each option may be repeated; all limits hold together.
    """
    named = tuple([name for names in features for name in names])
    with _opened(state, new=True) as keys, _handing_over(state, output, as_json) as hand_over:
        token, key = keys.create(
            tenant=tenant,
            role=role,
            features=named,
            limits=(*budget, *requests, *tokens),
            expires_us=expires,
            before=recorder(state, "key.create", key_facts),
        )
        hand_over(token, key)
    _warn_of_unknown(key.features, state.names)


@command.command("list")
@click.option("--tenant", help="The keys of this tenant.")
@json_option
@state_options
def show_all(state: StateDirectory, tenant: str | None, as_json: bool) -> None:
    """List the keys, oldest first, with what was spent of each limit in the window that is now.

    Times are UTC. A key that was rotated shares the limits of the one whose place it takes.
    """
    found = [row for row in _rows(state) if tenant in (None, row.key.tenant)]
    if as_json:
        print_json(map(key_json, found))
    elif found:
        print_keys(console(), found)
    else:
        click.echo("No keys. Create one with: holdfast keys create --tenant NAME", err=True)


@command.command()
@click.argument("id")
@click.option(
    "--overlap", type=DURATION, default="24h", show_default=True, help="How long the old key goes on being valid."
)
@_output
@json_option
@state_options
def rotate(state: StateDirectory, id: str, overlap: float, output: Path | None, as_json: bool) -> None:
    """Make a key that takes the place of another, with the same rights, and print its token.

    Both are valid until the overlap ends, so that no call fails while callers change over.
    """
    with _opened(state) as keys, _handing_over(state, output, as_json) as hand_over:
        replaced = {"replaces": id[:ID_LENGTH], "overlap_s": float(overlap)}
        token, key = keys.rotate(id, overlap_s=overlap, before=recorder(state, "key.rotate", key_facts, **replaced))
        hand_over(token, key)


@command.command()
@click.argument("id")
@json_option
@state_options
def revoke(state: StateDirectory, id: str, as_json: bool) -> None:
    """Make a key invalid, within a second on all workers. Calls under way go on to their end.

    A key whose place it took is still valid while their overlap lasts. Then it is named.
    """
    with _opened(state) as keys:
        key = keys.revoke(id, before=recorder(state, "key.revoke", key_facts))
        older = _predecessors(key, keys.all())
    if as_json:
        print_json([key_json(row) for row in _rows(state) if row.key.id == key.id])
    else:
        click.echo(f"{key.id} of {key.tenant} is revoked.")
    for predecessor in older:
        click.echo(f"{overlap_told(predecessor)}: holdfast keys revoke {predecessor.id}", err=True)


@command.command()
@click.option("--tenant", help="The limits of this tenant, of its keys and of no feature.")
@json_option
@state_options
def limits(state: StateDirectory, tenant: str | None, as_json: bool) -> None:
    """Show what is used of every limit in the window that is now: of tenants, features and valid keys. Times are UTC.

    What is under way counts with the most that it may use.
    """
    found = _uses(state, tenant)
    if as_json:
        print_json(map(use_json, found))
    elif found:
        print_uses(console(), found)
    else:
        click.echo("No limits. They are set with keys create, and in [tenants.NAME] and [features.NAME].", err=True)


@command.command()
@click.option(
    "--by", type=NAMES, default="tenant,feature,model,day", show_default=True, help="What sums are kept apart by."
)
@click.option(
    "--since", type=MOMENT, default="7d", show_default=True, help='From the day of "7d" ago, or of an ISO time.'
)
@click.option("--tenant", help="What this tenant spent.")
@click.option("--key", help="What calls with this key spent.")
@json_option
@state_options
def spend(
    state: StateDirectory, by: tuple[str, ...], since: int, tenant: str | None, key: str | None, as_json: bool
) -> None:
    """Show what was spent, from the log: the attempts of all calls, whole days, UTC.

    Calls that were erased or never kept count too.
    """
    if unknown := [name for name in by if name not in SPEND_BY]:
        raise Failure(f"--by {unknown[0]!r}: expected some of {', '.join(SPEND_BY)}, with commas between them.")
    by = tuple(dict.fromkeys(by))
    if not state.log.exists():
        raise Failure(f"There is no log at {state.log.absolute()}: it is made when the gateway starts.")
    with failures(), closing(SqliteLog.read(state.log)) as log:
        found = summed(log.spend(since, tenant=tenant, key=key), by)
    if as_json:
        print_json(map(spend_json, found))
    elif found:
        print_spend(console(), found, by)
    else:
        click.echo("Nothing was spent.", err=True)


# --- the state --------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(state: StateDirectory, *, new: bool = False, read_only: bool = False) -> Iterator[Keys]:
    path = state.path / STATE_FILE
    if not new and not path.exists():
        raise Failure(f"There are no keys in {state.existing().path.absolute()}.")
    with failures(), closing(Keys(path, CLOCK, read_only=read_only)) as keys:
        yield keys


def _rows(state: StateDirectory) -> Sequence[Row]:
    """Return every key with what was spent of its limits."""
    if not (state.path / STATE_FILE).exists():
        return ()
    with _opened(state, read_only=True) as keys:
        found, windows = keys.all(), _windows(state)
    now = CLOCK.now()
    return [Row(key, _spent(key, windows, now), round(now * 1e6)) for key in found]


def _spent(key: Key, windows: Mapping[tuple[Meter, int], int], now: float) -> Mapping[Limit, int]:
    """Return what was spent of the limits of a key in the windows of this time."""
    return {limit: windows.get((limit.meter, limit.window.start(now)), 0) for limit in key.limits}


def _warn_of_unknown(features: Sequence[str], names: Collection[str]) -> None:
    """Say which of the features of a key the configuration does not have: it may be a slip, or yet to come."""
    for name in features if names else ():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            click.echo(f'The configuration has no feature and no model "{name}"{hint}.', err=True)


@contextmanager
def _handing_over(state: StateDirectory, output: Path | None, as_json: bool) -> Iterator[Callable[[str, Key], None]]:
    """Give what hands a token over: to a new file, or by itself on the standard output.

    The file is made before the key: what can't be handed over is not to be made.
    """
    with creating(output) if output is not None else nullcontext() as write:

        def hand_over(token: str, key: Key) -> None:
            if write is not None:
                write(token + "\n")
            if as_json:
                shown = {} if write is not None else {"token": token}
                print_json([shown | key_json(row) for row in _rows(state) if row.key.id == key.id])
                return
            if write is None:
                click.echo(token)
            place = "shown this once, so keep it now" if write is None else f"in {output}, and nowhere else"
            click.echo(
                f"Key {key.id} of {key.tenant} ({key.role}): {place}; callers send it as their API key "
                '(SDKs: api_key="...", HTTP: "Authorization: Bearer ...").',
                err=True,
            )

        yield hand_over


def _predecessors(key: Key, keys: Sequence[Key]) -> list[Key]:
    """Return the keys whose place it took, one after the other, that are still valid."""
    replaced = {old.successor: old for old in keys if old.successor is not None}
    found: list[Key] = []
    while (old := replaced.get(found[-1].id if found else key.id)) is not None:
        found.append(old)
    now_us = microseconds(CLOCK)
    return [old for old in found if old.standing(now_us) == "valid"]


def _uses(state: StateDirectory, tenant: str | None) -> Sequence[Use]:
    """Return every limit that holds, with what is used of it."""
    rows = [row for row in _rows(state) if row.state == "active" and tenant in (None, row.key.tenant)]
    own = [limit for row in rows for limit in row.key.limits]
    configured = [*_configured("tenant", state.tenants), *_configured("feature", state.features)]
    shared = [limit for limit in configured if tenant is None or (limit.scope, limit.of) == ("tenant", tenant)]
    windows, now = _windows(state), CLOCK.now()
    return [
        Use(limit, windows.get((limit.meter, limit.window.start(now)), 0), round(now * 1e6))
        for limit in dict.fromkeys([*shared, *own])
    ]


def _configured(scope: Scope, tables: Mapping[str, Any]) -> Iterator[Limit]:
    """Return the limits of tenants or features. Raises Failure where they make no sense."""
    for name, table in tables.items():
        given = {key: table.get(key) for key in BudgetSettings.__struct_fields__} if isinstance(table, dict) else {}
        try:
            yield from msgspec.convert(given, BudgetSettings).limits(scope, name)
        except msgspec.ValidationError as error:
            raise Failure(f"[{scope}s.{name}] {error}: see holdfast check.") from error


def _windows(state: StateDirectory) -> Mapping[tuple[Meter, int], int]:
    path = state.path / STATE_FILE
    if not path.exists():
        return {}
    with failures(), closing(Spending(path, read_only=True)) as spending:
        return used(spending)
