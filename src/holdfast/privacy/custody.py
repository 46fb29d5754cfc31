"""What a process needs to keep data private, put together from the settings."""

from pathlib import Path
from typing import NamedTuple

from holdfast.clock import Clock
from holdfast.errors import PrivacyError
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE, MasterKey
from holdfast.privacy.sealing.sealer import Sealer
from holdfast.privacy.settings import PrivacySettings


class Custody(NamedTuple):
    """The keyring of a state directory, and what was made of it."""

    keyring: Keyring
    sealer: Sealer | None
    """None without the extra. `Sealer.sealing` says whether it seals, or only opens what was sealed before."""
    master: MasterKey | None
    """None without the extra."""


def open_custody(settings: PrivacySettings, base: Path, directory: Path, clock: Clock) -> Custody:
    """Open the keyring of a state directory, made where there is none. `base` is the folder of the configuration.

    Blocks while the command of a master key runs. The keyring is to be closed.

    Raises:
        ValueError: `seal` is asked for, and the extra is not installed.
        PrivacyError: the master key or the keyring can't be used; or bodies were sealed here before, and the extra is
            not installed any more.
    """
    sealing = settings.sealing()
    if ciphers.available():
        master = MasterKey.load(settings.master_key, base, directory)
        keyring = Keyring(directory / KEYRING_FILE, master, clock)
        return Custody(keyring, Sealer(keyring, sealing=sealing), master)
    keyring = Keyring(directory / KEYRING_FILE, None, clock)
    if settings.seal is None and keyring.in_use:
        keyring.close()
        raise PrivacyError(
            f"{keyring.path}: what is written here was sealed until now, which needs a package that is missing: "
            'pip install "holdfast[custody]", or say [privacy] seal = false to go on without.'
        )
    return Custody(keyring, None, None)
