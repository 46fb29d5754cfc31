"""Whether the gateway would get its master key, before it starts."""

from collections.abc import Sequence
from contextlib import closing

from holdfast.clock import SystemClock
from holdfast.config import Configuration
from holdfast.errors import PrivacyError, Problem
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.connection import needs_master
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE, MASTER_FILE, MasterKey, MasterKeySettings
from holdfast.privacy.settings import PrivacySettings


def master_problems(configuration: Configuration) -> Sequence[Problem]:
    """Return what is wrong with the master key, and with sealing at all. Makes nothing.

    Runs the command of a master key. That of the state directory is made at the first start, so it may be missing.
    """
    settings = configuration.config.privacy
    try:
        settings.sealing()
    except ValueError as error:
        return (_problem(configuration, "seal", str(error)),)
    if not ciphers.available():
        return ()
    try:
        _load(settings, configuration)
    except PrivacyError as error:
        return (_problem(configuration, *_place(settings.master_key), error.message),)
    return ()


def _load(settings: PrivacySettings, configuration: Configuration) -> None:
    directory = (configuration.base / configuration.config.log.path).parent
    keyring = directory / KEYRING_FILE
    if settings.master_key is None and not (directory / MASTER_FILE).exists() and not needs_master(keyring):
        return
    master = MasterKey.load(settings.master_key, configuration.base, directory, create=False)
    if keyring.exists():
        with closing(Keyring(keyring, master, SystemClock(), read_only=True)):
            return


def _place(settings: MasterKeySettings | None) -> tuple[str, ...]:
    if settings is None:
        return ("master_key",)
    return ("master_key", next(form for form in ("file", "env", "command") if getattr(settings, form) is not None))


def _problem(configuration: Configuration, *at_and_message: str) -> Problem:
    from holdfast.config.locate import Lines  # loaded only where there is a mistake to report

    *at, message = at_and_message
    place = ("privacy", *at)
    line = Lines(configuration.files[configuration.path.name]).of(place)
    return Problem(str(configuration.path), line, ".".join(place), message)
