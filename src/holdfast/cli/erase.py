"""`holdfast erase`: all data of a subject, everywhere, with a certificate of it."""

import sys
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from rich.console import Console
from rich.status import Status

from holdfast.cli.files import replacing
from holdfast.cli.listing import NONE, console, print_json
from holdfast.cli.output import force_option, refuse_existing
from holdfast.cli.state_directory import Failure, StateDirectory, failures, json_option, state_options
from holdfast.cli.subjects import Asked, Subjects, chosen, record_subjects, subject_hashes, tenant_options
from holdfast.cli.table import Column, Table
from holdfast.clock import SystemClock
from holdfast.errors import PrivacyError
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.erasure.certificate import Certificate, Erased, verify_certificate
from holdfast.privacy.erasure.erase import certificate, erase
from holdfast.privacy.erasure.registry import Registry, Store
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import KEYRING_FILE
from holdfast.privacy.signing import Signer
from holdfast.state.holders import RUNNING, living

WRONG = 1
PATIENCE_SECONDS = 3.0


@click.command()
@click.option("--subject", help="Whose data: the name the application sent, or its hash.")
@tenant_options
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the certificate to this file.")
@force_option
@click.option(
    "--verify",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check the certificate in this file instead, and whether it is about --subject.",
)
@json_option
@state_options
def command(
    state: StateDirectory,
    subject: str | None,
    asked: Asked,
    output: Path | None,
    force: bool,
    verify: Path | None,
    as_json: bool,
) -> None:
    """Destroy the key of a subject, and delete what is left of it wherever there is any: in the log, and in the memory
    of running workers. Then certify what was found where.

    Works while the gateway serves. What is cut off is finished by running it again, or by the gateway. It can't be
    undone. Exits with 1 where something could not be reached yet. The audit trail will tell.
    """
    if verify is not None:
        about = None if subject is None else subject_hashes(subject, asked.named or None, state.existing())
        _verify(verify, subject, about, state, as_json)
    elif subject is None:
        raise click.UsageError("Missing option '--subject'.")
    else:
        refuse_existing(output, force=force)
        _erase(state, chosen(subject, asked, state.existing()), output, as_json)


def _erase(state: StateDirectory, subjects: Subjects, output: Path | None, as_json: bool) -> None:
    problem = None
    with failures(), ExitStack() as opened:
        record_subjects(state, "erase", subjects)
        signer = Signer.of(state.master()) if ciphers.available() else None
        keyring = opened.enter_context(closing(Keyring(state.path / KEYRING_FILE, None, SystemClock())))
        status = opened.enter_context(Console(stderr=True).status("Destroying the key"))
        stores = [_Shown(store, status) for store in _stores(state, keyring, opened)]
        try:
            certified = erase(
                subjects,
                Registry(stores),
                keyring,
                signer=signer,
                living=lambda: _living(state),
                patience=PATIENCE_SECONDS,
                pause=lambda seconds: _wait(status, seconds),
            )
        except PrivacyError as error:
            problem, certified = error.message, certificate(subjects, keyring, signer)
    _hand_out(certified, subjects, output, as_json)
    if problem is not None:
        again = "" if output is None else " Then replace the certificate with --force."
        click.echo(f"Error: {problem}{again}", err=True)
        sys.exit(WRONG)


def _stores(state: StateDirectory, keyring: Keyring, opened: ExitStack) -> Sequence[Store]:
    """Return what can hold something of a subject, apart from the memory of workers."""
    if not state.log.exists():
        return ()
    return (opened.enter_context(closing(SqliteLog(state.log, "sync", erased_at=keyring.erasures.at))),)


def _living(state: StateDirectory) -> Collection[str]:
    try:
        return living(state.path / RUNNING)
    except OSError as error:
        raise PrivacyError(f"The running workers can't be told: {error}.") from error


class _Shown:
    """A store that says what it is busy with."""

    def __init__(self, store: Store, status: Status) -> None:
        self.name = store.name
        self.export = store.export
        self._store = store
        self._status = status

    def erase(self, subject: str) -> int:
        self._status.update(f"Erasing from the {self.name}")
        return self._store.erase(subject)


def _wait(status: Status, seconds: float) -> None:
    status.update("Waiting for the running workers to confirm")
    time.sleep(seconds)


# --- the certificate --------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What one erasure found in one store."""

    erased: Erased
    tenant: str | None
    store: str
    number: int


def _hand_out(certified: Certificate, subjects: Subjects, output: Path | None, as_json: bool) -> None:
    if output is not None:
        with replacing(output) as file:
            file.write(certified.json())
    if as_json:
        print_json([msgspec.to_builtins(certified)])
        return
    rows = [
        _Found(erased, subjects[erased.subject], store, count)
        for erased in certified.erasures
        for store, count in erased.found.items()
        if count or erased.key is not None
    ]
    if rows:
        _table().print(console(), rows)
    else:
        click.echo("Nothing of this subject was found.")
    if certified.earlier:
        click.echo(f"It was erased before: {_short(certified.earlier[-1].began)}.", err=True)
    if output is not None:
        click.echo(f"The certificate is in {output}.", err=True)


def _table() -> Table[_Found]:
    subject = Column[_Found]("subject", lambda found: found.erased.subject, floor=8, enough=12)
    tenant = Column[_Found]("tenant", lambda found: found.tenant or NONE, floor=8)
    store = Column[_Found]("where", lambda found: found.store)
    count = Column[_Found]("found", lambda found: str(found.number), right=True)
    key = Column[_Found]("key destroyed", lambda found: str(found.erased.key or NONE), right=True)
    ended = Column[_Found]("erased", lambda found: _short(found.erased.ended or "not finished"))
    layouts = ((subject, tenant, store, count, key, ended), (tenant, store, count, key, ended), (store, count, ended))
    return Table(layouts, least=2)


def _short(time: str) -> str:
    return time[:19].replace("T", " ")


def _verify(
    file: Path, subject: str | None, about: Collection[str] | None, state: StateDirectory, as_json: bool
) -> None:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file} can't be read: {error.strerror or error}.") from error
    known = _keys(state)
    try:
        certified = verify_certificate(data, None)
        if known and certified.public_key not in known:
            raise PrivacyError(
                f"The certificate was signed with the key {certified.public_key}, of another installation."
            )
        if about is not None and not any(erased.subject in about for erased in certified.erasures):
            raise PrivacyError("The certificate is about other subjects.")
    except PrivacyError as error:
        if as_json:
            print_json([{"ok": False, "message": error.message}])
        else:
            click.echo(f"{file}: {error.message}")
        sys.exit(WRONG)
    if as_json:
        print_json([{"ok": True, "known": bool(known), **msgspec.to_builtins(certified)}])
        return
    click.echo(f"{file} is as it was issued at {certified.issued}, signed with the key {certified.public_key}.")
    if about is not None:
        click.echo(f"It is about {subject}.")
    if not known:
        click.echo("Whether that is the key of the installation can't be told here: compare it.", err=True)


def _keys(state: StateDirectory) -> Collection[str]:
    """Return the public keys of the installation, present and past; none where its master key is not at hand."""
    try:
        return Trail(state.path, Signer.of(state.master(create=False)), SystemClock()).signing_keys()
    except PrivacyError:
        return ()
