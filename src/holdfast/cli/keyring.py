"""`holdfast keyring`: the master key, changed."""

import shlex
from contextlib import closing
from pathlib import Path

import click
import msgspec

from holdfast.cli.listing import print_json
from holdfast.cli.state_directory import Failure, StateDirectory, failures, json_option, operator, state_options
from holdfast.clock import SystemClock
from holdfast.errors import PrivacyError
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE, MasterKey, MasterKeySettings
from holdfast.privacy.signing import Signer
from holdfast.state.holders import RUNNING, living


@click.group()
def command() -> None:
    """The keys that seal what people say, and the master key that wraps them."""


@command.command()
@click.option("--new-file", type=click.Path(path_type=Path, dir_okay=False), help="The file with the new master key.")
@click.option("--new-env", metavar="NAME", help="The environment variable with it.")
@click.option("--new-command", metavar="COMMAND", help='What prints it, as in "kms decrypt new.enc".')
@json_option
@state_options
def rewrap(
    state: StateDirectory, new_file: Path | None, new_env: str | None, new_command: str | None, as_json: bool
) -> None:
    """Change the master key: wrap all keys by another one. What is sealed stays as it is.

    The gateway must be stopped. The present master key is that of the configuration; name the new one there
    afterwards. What is cut off is finished by running it again, before that. The audit trail will tell, and goes on
    signed by the new key, for which the present one vouches.
    """
    settings = _settings(new_file, new_env, new_command)
    if not ciphers.available():
        raise Failure('Keys are wrapped with a package that is missing: pip install "holdfast[custody]".')
    with failures():
        _refuse_while_running(state.existing())
        present, new = state.master(create=False), MasterKey.load(settings, state.base, state.path)
        if present.fingerprint == new.fingerprint:
            raise Failure(
                "The new master key is the one in use. If a change of it was cut off, let [privacy] master_key name "
                "the old one, and run it again."
            )
        count = _change(state, present, new)
    if as_json:
        print_json([{"keys": count, "fingerprint": new.fingerprint, "public_key": Signer.of(new).public}])
    else:
        click.echo(f"{count} {'key is' if count == 1 else 'keys are'} wrapped by the new master key now.")
        click.echo(f"Before you start the gateway: [privacy] master_key = {_named(settings)}", err=True)


def _settings(file: Path | None, env: str | None, command: str | None) -> MasterKeySettings:
    try:
        words = None if command is None else tuple(shlex.split(command))
        return MasterKeySettings(file=None if file is None else str(file.absolute()), env=env, command=words)
    except ValueError as error:
        raise click.UsageError("Say where the new master key is: --new-file, --new-env or --new-command.") from error


def _named(settings: MasterKeySettings) -> str:
    """Return the settings as the configuration has them."""
    named = {name: value for name in settings.__struct_fields__ if (value := getattr(settings, name)) is not None}
    return ", ".join([f"{{ {name} = {msgspec.json.encode(value).decode()} }}" for name, value in named.items()])


def _refuse_while_running(state: StateDirectory) -> None:
    try:
        running = living(state.path / RUNNING)
    except OSError as error:
        raise Failure(f"Whether the gateway runs can't be told: {error}.") from error
    if running:
        raise Failure("The gateway runs, and would go on with the present master key: stop it first.")


def _change(state: StateDirectory, present: MasterKey, new: MasterKey) -> int:
    """Do what is left to be done, and return how many keys there are. Raises PrivacyError."""
    path, clock = state.path / KEYRING_FILE, SystemClock()
    trail = Trail(state.path, Signer.of(present), clock)
    with closing(Keyring(path, None, clock)) as keyring:
        done = keyring.fingerprint == new.fingerprint
    if not done:
        with closing(Keyring(path, present, clock)) as keyring:
            trail.append(operator(), "keyring.rewrap", present=present.fingerprint, new=new.fingerprint)
            keyring.rewrap(new)
    with closing(Keyring(path, new, clock)) as keyring:
        try:
            keyring.scrub()
            trail.succeed(operator(), Signer.of(new))
        except PrivacyError as error:
            raise Failure(
                f"The keys are wrapped by the new master key, but something is left to be done. {error.message} "
                "Run it again, before the configuration names the new one."
            ) from error
        return keyring.count
