"""What the commands for keys and data work with: the master key, the audit trail, the log as it can be read here."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from holdfast.cli.state_directory import Failure, StateDirectory, operator
from holdfast.clock import SystemClock
from holdfast.errors import PrivacyError
from holdfast.privacy import ciphers
from holdfast.privacy.audit import Trail
from holdfast.privacy.master import MasterKey
from holdfast.privacy.settings import PrivacySettings
from holdfast.privacy.signing import Signer

T = TypeVar("T")


def privacy(state: StateDirectory) -> PrivacySettings:
    """Return the table [privacy]. Raises Failure if it is not valid."""
    try:
        return msgspec.convert(state.privacy, PrivacySettings)
    except (msgspec.ValidationError, ValueError) as error:
        raise Failure(f"[privacy] of the configuration: {error}. See holdfast check.") from error


def master_key(state: StateDirectory) -> MasterKey:
    """Return the master key of an installation, made where it keeps its own and has none. Raises PrivacyError."""
    return MasterKey.load(privacy(state).master_key, state.base, state.path)


def trail(state: StateDirectory) -> Trail:
    """Return the audit trail of an installation, to be signed where that can be done. Raises PrivacyError."""
    signer = Signer.of(master_key(state)) if ciphers.available() else None
    return Trail(state.path, signer, SystemClock())


def record(state: StateDirectory, action: str, **details: Any) -> None:
    """Write into the audit trail that whoever runs this command is about to do something.

    Raises:
        Failure: it can't be written. Then it must not be done.
    """
    try:
        trail(state).append(operator(), action, **details)
    except PrivacyError as error:
        raise Failure(
            f"Nothing was done, because it could not be written into the audit trail. {error.message}"
        ) from error


def recorder(
    state: StateDirectory, action: str, facts: Callable[[T], Mapping[str, Any]], **more: Any
) -> Callable[[T], None]:
    """Return what records that something is about to be done to a thing: what `facts` tells of it, and `more`."""
    return lambda thing: record(state, action, **facts(thing), **more)
