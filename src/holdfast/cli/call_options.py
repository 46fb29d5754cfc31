"""What the commands about calls are told: where the log is, and which calls."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import structs

from holdfast.cli.parameters import MOMENT, TAG
from holdfast.cli.state_directory import Failure, StateDirectory, find
from holdfast.cli.subjects import subject_hashes
from holdfast.cli.timeline import COLOURS
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog

F = TypeVar("F", bound=Callable[..., Any])

_FILTERS = (
    click.option("--name", help="Calls to this feature or model."),
    click.option("--model", help="Calls that this model answered."),
    click.option("--outcome", type=click.Choice(list(COLOURS)), help="Calls that ended like this."),
    click.option("--error", metavar="CODE", help="Calls with this error, such as timeout."),
    click.option("--session", help="Calls of this session."),
    click.option("--tenant", help="Calls made with a key of this tenant."),
    click.option("--key", help="Calls made with this key: its id."),
    click.option("--subject", help="Calls of this subject: the name the application sent, or its hash."),
    click.option("--tag", type=TAG, help="Calls with this tag."),
    click.option("--contract", help="Calls whose answer had to meet this contract."),
    click.option("--repaired", is_flag=True, default=None, help="Calls whose answer needed repairs."),
    click.option("--replayed", is_flag=True, default=None, help="Calls whose answer was that of another, given again."),
    click.option("--since", type=MOMENT, help='Calls that arrived since: "1h" ago, or an ISO time.'),
    click.option("--until", type=MOMENT, help="Calls that arrived before."),
)
_NAMES = (
    *("name", "model", "outcome", "error", "session", "tenant", "key", "subject", "tag", "contract"),
    *("repaired", "replayed", "since", "until"),
)


def filter_options(command: F) -> F:
    """Give a command the options that say which calls, as its argument `wanted`: see `filter_of`."""

    @functools.wraps(command)
    def filtered(*arguments: Any, **options: Any) -> Any:
        wanted = {name: options.pop(name) for name in _NAMES}
        return command(*arguments, wanted=_with_outer(wanted), **options)

    for option in reversed(_FILTERS):
        filtered = option(filtered)
    return filtered  # type: ignore[return-value]  # it takes the options, which click gives it


def place_options(command: F) -> F:
    """Give a command the options --log and --state, and what they name, or those of the group, as `state`."""

    @click.option("--log", type=click.Path(path_type=Path), help="The log file, if it is not that of ./holdfast.toml.")
    @click.option("--state", "directory", type=click.Path(path_type=Path), help="The folder of the log instead.")
    @functools.wraps(command)
    def placed(*arguments: Any, log: Path | None, directory: Path | None, **options: Any) -> Any:
        place = _with_outer({"config": options.pop("file", None), "directory": directory, "log": log})
        return command(*arguments, state=_state(**place), **options)

    return placed  # type: ignore[return-value]  # it takes the options, which click gives it


def _with_outer(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, with those of the group where the command within it is not given them."""
    given = click.get_current_context().meta.setdefault(__name__, {})  # which contexts within share
    given.update({name: value for name, value in options.items() if value is not None})
    return {name: given.get(name) for name in options}


def _state(config: Path | None, directory: Path | None, log: Path | None) -> StateDirectory:
    state = find(config, directory)
    return state if log is None else structs.replace(state, path=log.parent, log=log)


def filter_of(wanted: Mapping[str, Any], state: StateDirectory, log: SqliteLog, limit: int | None = None) -> Filter:
    """Return the filter for calls. Raises Failure."""
    options = dict(wanted)
    if options["subject"] is not None:
        options["subject"] = _subject(options["subject"], options["tenant"], state, log)
    return Filter(since_us=options.pop("since"), until_us=options.pop("until"), limit=limit, **options)


def _subject(name: str, tenant: str | None, state: StateDirectory, log: SqliteLog) -> str:
    """Return the hash under which the log has calls of a subject."""
    hashes = subject_hashes(name, None if tenant is None else (tenant,), state)
    found = {hash: whose for hash, whose in hashes.items() if any(log.scan(Filter(subject=hash, limit=1)))}
    if len(found) > 1:
        named = ", ".join(sorted([whose or "(none)" for whose in found.values()]))
        raise Failure(f"There are calls of a subject {name} at more than one tenant: {named}. Name one with --tenant.")
    return next(iter(found or hashes))
