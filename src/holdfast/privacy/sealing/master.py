"""The master key: 32 random bytes, from which other keys are derived, and under which data keys are wrapped."""

import base64
import hmac
import os
import signal
import stat
import subprocess
import threading
from binascii import Error as NotBase64
from contextlib import suppress
from pathlib import Path
from typing import Self

from holdfast.errors import PrivacyError
from holdfast.privacy.files import create_once
from holdfast.privacy.sealing.connection import needs_master
from holdfast.settings import Settings

MASTER_FILE = "master.key"
KEYRING_FILE = "keyring.db"
KEY_BYTES = 32
COMMAND_SECONDS = 30.0
_LONGEST = 4096
_SALT = b"holdfast"
_MAKE_ONE = "make one with: head -c 32 /dev/urandom | base64"


class MasterKeySettings(Settings, frozen=True, kw_only=True):
    """Where the master key comes from: exactly one of these. It is 32 bytes, written in base64 or as 64 hexadecimal
    digits; a file or a command may also give the bytes themselves."""

    file: str | None = None
    """A file that only its owner can read, relative to the folder of `holdfast.toml`."""
    env: str | None = None
    """The name of an environment variable."""
    command: tuple[str, ...] | None = None
    """A program and its arguments, such as that of a key management service, which prints the key. It runs at start,
    without a shell, in the folder of `holdfast.toml`, for at most 30 seconds."""

    def __post_init__(self) -> None:
        if sum(form is not None for form in (self.file, self.env, self.command)) != 1:
            raise ValueError('expected { file = "PATH" }, { env = "NAME" } or { command = ["PROGRAM", "ARGUMENT"] }')
        if self.command == ():
            raise ValueError("expected a program in `command`")


class MasterKey:
    """A master key of 32 bytes. Nothing shows it: only what is derived from it can be had.

    Raises:
        PrivacyError: it has another length.
    """

    __slots__ = ("_secret",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise PrivacyError(f"The master key has {len(key)} bytes instead of {KEY_BYTES}: {_MAKE_ONE}")
        self._secret = hmac.digest(_SALT, key, "sha256")

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes that tell nothing of those for any other purpose (HKDF-SHA256, RFC 5869)."""
        return hmac.digest(self._secret, purpose.encode() + b"\x01", "sha256")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits by which two master keys can be told apart."""
        return self.derive("fingerprint")[:8].hex()

    def __repr__(self) -> str:
        return "MasterKey(...)"

    @classmethod
    def load(cls, settings: MasterKeySettings | None, base: Path, directory: Path, *, create: bool = True) -> Self:
        """Return the master key of the settings; without any, that of the state directory, where `create` makes one.

        `base` is the folder of the configuration. Blocks while a command runs.

        Raises:
            PrivacyError: there is none, it is not a key, its file is open to others, or the command failed.
        """
        if settings is None:
            return cls(_own(directory, create=create))
        if settings.file is not None:
            return cls(_from_file(base / settings.file))
        if settings.env is not None:
            return cls(_from_env(settings.env))
        return cls(_from_command(settings.command or (), base))


# --- places -----------------------------------------------------------------------------------------------------------


def _own(directory: Path, *, create: bool) -> bytes:
    """Return the key in the state directory. It is never made anew where a keyring needs another one."""
    path = directory / MASTER_FILE
    in_use = needs_master(directory / KEYRING_FILE)  # asked first: whoever makes both makes the key first
    if not path.exists() and create and not in_use:
        try:
            create_once(path, base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
        except OSError as error:
            raise PrivacyError(f"{path}: the master key can't be made: {error.strerror or error}.") from error
    if not path.exists() and in_use:
        raise PrivacyError(
            f"{path}: the master key is gone, and {KEYRING_FILE} beside it needs it: restore it from its backup, or "
            f"say in [privacy] master_key where it is. If it is lost, so is what is sealed; move {KEYRING_FILE} away "
            "to begin anew."
        )
    return _from_file(path)


def _from_file(path: Path) -> bytes:
    try:
        with open(path, "rb", buffering=0, opener=_at_once) as file:
            _check_access(os.fstat(file.fileno()).st_mode, path)
            return _decoded(file.read(_LONGEST), f"{path}")
    except FileNotFoundError as error:
        make = f"(umask 077 && head -c 32 /dev/urandom | base64 > '{path}')"
        raise PrivacyError(f"{path}: there is no master key. To make one: {make}") from error
    except OSError as error:
        raise PrivacyError(f"{path}: the master key can't be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise PrivacyError(f"{str(path)!r}: the master key can't be read: {error}.") from error


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe that nobody writes to must not hold up the start."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_access(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise PrivacyError(f"{path}: the master key is not in a file there; what prints it can be given as `command`.")
    if mode & 0o077:
        raise PrivacyError(
            f"{path}: others than its owner may use the master key (mode {stat.S_IMODE(mode):04o}): chmod 600 '{path}'"
            " (a mounted secret: give it the mode 0400)."
        )


def _from_env(name: str) -> bytes:
    value = os.environ.get(name)
    if value is None:
        raise PrivacyError(f"The environment variable {name} of the master key is not set.")
    return _decoded(value.encode("utf-8", "surrogateescape"), f"The environment variable {name}")


def _from_command(command: tuple[str, ...], base: Path) -> bytes:
    """Run a program and take what it prints. What it says besides is dropped: it could hold the key."""
    place = f"The command {command[0]!r} of the master key"
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own program, without a shell
            command,
            cwd=base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PrivacyError(f"{place} can't be run: {error}.") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(COMMAND_SECONDS, end)
    timer.start()
    with process:
        try:
            printed = process.stdout.read(_LONGEST + 1) if process.stdout else b""
            if len(printed) > _LONGEST:
                _kill(process)
            status = process.wait()
        finally:
            timer.cancel()
            _kill(process)
    if late.is_set():
        raise PrivacyError(f"{place} took more than {COMMAND_SECONDS:g} seconds: run it by hand to see why.")
    if status and len(printed) <= _LONGEST:
        raise PrivacyError(f"{place} failed with status {status}: run it by hand to see what it says.")
    return _decoded(printed, f"What the command {command[0]!r} printed")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


# --- forms ------------------------------------------------------------------------------------------------------------


def _decoded(written: bytes, place: str) -> bytes:
    """Return the 32 bytes of a key however they are written. What is wrong with them is told without showing any."""
    key = _plain(written)
    if key is None:
        raise PrivacyError(f"{place} is not a master key of {KEY_BYTES} bytes in base64 or hexadecimal: {_MAKE_ONE}")
    if len(set(key)) < KEY_BYTES // 2:
        raise PrivacyError(f"{place} is a master key that is not random: {_MAKE_ONE}")
    return key


def _plain(written: bytes) -> bytes | None:
    if len(written) == KEY_BYTES and not written.isascii():  # 32 characters of text are a password, not a key
        return written
    text = written.strip()
    try:
        if len(text) == 2 * KEY_BYTES:
            key = bytes.fromhex(text.decode())
        else:
            padding = b"=" * (-len(text) % 4)
            key = base64.b64decode(text.translate(_URL_SAFE) + padding, validate=True)
    except (NotBase64, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


_URL_SAFE = bytes.maketrans(b"-_", b"+/")
