"""Which state directory a command works on: that of the configuration, or the one it is told."""

import functools
import os
import pwd
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from holdfast.clock import SystemClock
from holdfast.errors import StoreError
from holdfast.log.base import LogSettings
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE, MasterKey, MasterKeySettings
from holdfast.privacy.signing import Signer

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = Path("holdfast.toml")


class Failure(click.ClickException):
    """The command can't do its work."""

    exit_code = 2


class StateDirectory(msgspec.Struct, frozen=True):
    """The folder that holds the log, the keys, the accounts, the budgets, the keyring and the audit trail."""

    path: Path
    log: Path
    """The file of the log."""
    base: Path
    """What the files that the configuration names are relative to."""
    privacy: dict[str, Any] = {}
    """The table [privacy], unchecked."""
    names: frozenset[str] = frozenset()
    """The features and models of the configuration; none where there is no configuration."""
    tenants: dict[str, Any] = {}
    """The table [tenants], unchecked."""
    features: dict[str, Any] = {}
    """The table [features], unchecked."""

    def existing(self) -> "StateDirectory":
        """Return itself. Raises Failure if there is no such folder."""
        if not self.path.is_dir():
            raise Failure(
                f"There is no state directory at {self.path.absolute()} (started in another folder?). "
                "Name one with --state, or a configuration with --config."
            )
        return self

    def master(self, *, create: bool = True) -> MasterKey:
        """Return the master key of the installation, made where `create` says so and none is configured.

        Raises:
            PrivacyError: it is not there, or is none.
            Failure: [privacy] says something else than where it is.
        """
        try:
            settings = msgspec.convert(self.privacy.get("master_key"), MasterKeySettings | None)
        except msgspec.ValidationError as error:
            raise Failure(f"[privacy] master_key: {error}") from error
        return MasterKey.load(settings, self.base, self.path, create=create)

    def trail(self) -> Trail:
        """Return the audit trail to add to. Raises as `master` does: what can't be signed must not be added.

        A master key that is not that of the keyring is refused too, as its signature would look like an intruder's.
        """
        if not ciphers.available():
            return Trail(self.path, None, SystemClock())
        master, keyring = self.master(), self.path / KEYRING_FILE
        if keyring.exists():
            Keyring(keyring, master, SystemClock(), read_only=True).close()
        return Trail(self.path, Signer.of(master), SystemClock())


def find(config: Path | None, state: Path | None) -> StateDirectory:
    """Return the state directory `state`, else that of the file `config`, else of ./holdfast.toml, else .holdfast.

    Only what is needed is read of the configuration, so that mistakes elsewhere in it stop no command.

    Raises:
        Failure: the configuration can't be read.
    """
    file = CONFIG if config is None else config
    document = _read(file) if config is not None or file.is_file() else {}
    log = file.parent / str(_table(document, "log").get("path", LogSettings().path))
    if state is not None:
        log = state / log.name
    features = _table(document, "features")
    return StateDirectory(
        path=log.parent,
        log=log,
        base=file.parent,
        privacy=_table(document, "privacy"),
        names=frozenset((*features, *_table(document, "models"))),
        tenants=_table(document, "tenants"),
        features=features,
    )


def state_options(command: F) -> F:
    """Give a command the options --config and --state, and what they name as its argument `state`."""

    @click.option("--config", type=click.Path(path_type=Path), help="The configuration. Default: ./holdfast.toml.")
    @click.option(
        "--state", type=click.Path(path_type=Path), help="The state directory. Default: that of the configuration."
    )
    @functools.wraps(command)
    def found(*arguments: Any, config: Path | None, state: Path | None, **options: Any) -> Any:
        return command(*arguments, state=find(config, state), **options)

    return found  # type: ignore[return-value]  # it takes two options more, which click gives it


def json_option(command: F) -> F:
    """Give a command the option --json, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


@contextmanager
def failures() -> Iterator[None]:
    """End the command with exit code 2 and the message of whatever is wrong with a file of the state directory."""
    try:
        yield
    except StoreError as error:
        raise Failure(error.message) from error


def operator() -> str:
    """Return who runs the command, as the audit trail names them: "os:anna", by the account of the machine.

    No variable of the environment has a say in it.
    """
    try:
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:{os.getuid()}"  # an account without a name


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise Failure(f"{file} can't be read: {error}. Mend it, or name another with --config.") from error


def _table(document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    return table if isinstance(table, dict) else {}
