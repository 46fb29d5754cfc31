import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.clock import SystemClock
from holdfast.privacy.audit.trail import Trail
from holdfast.state.accounts import Account, Accounts

PASSWORD = "correct horse battery"
STATE = Path(".holdfast/state.db")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, input: str | bytes = "", code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["accounts", *arguments], input=input)
    assert result.exit_code == code, result.output
    return result


def create(name: str = "anna", *options: str, password: str = PASSWORD) -> Result:
    return run("create", name, "--role", "admin", "--password-stdin", *options, input=password + "\n")


def verified(name: str, password: str) -> Account | None:
    accounts = Accounts(STATE, SystemClock())
    try:
        return accounts.verify(name, password)
    finally:
        accounts.close()


def audited() -> list[tuple[str, dict[str, Any]]]:
    entries = list(Trail(Path(".holdfast"), None, SystemClock()).entries())[::-1]
    return [(entry.action, entry.details) for entry in entries if not entry.action.startswith("audit.")]


def test_an_account_is_made_with_the_password_of_the_standard_input() -> None:
    assert create().stdout == "anna (admin) may sign in over HTTP (POST /api/session).\n"
    account = verified("anna", PASSWORD)
    assert account is not None
    assert (account.role, account.tenant) == ("admin", None)
    assert verified("anna", PASSWORD + " ") is None


def test_a_line_may_end_as_on_any_system() -> None:
    create("anna", password=PASSWORD + "\r")
    assert verified("anna", PASSWORD) is not None


def test_an_account_of_a_tenant_says_so() -> None:
    made = run(
        *("create", "bob", "--role", "reviewer", "--tenant", "acme", "--password-stdin", "--json"), input=PASSWORD
    )
    told = json.loads(made.stdout)
    assert told.pop("created").endswith("Z")
    assert told == {"name": "bob", "role": "reviewer", "tenant": "acme"}


def test_a_password_is_never_an_argument() -> None:
    assert "No such option" in run("create", "anna", "--role", "admin", "--password", PASSWORD, code=2).stderr


def test_without_a_terminal_the_password_must_come_from_the_standard_input() -> None:
    assert "--password-stdin" in run("create", "anna", "--role", "admin", input=f"{PASSWORD}\n" * 2, code=2).stderr
    assert not STATE.exists()


@pytest.mark.parametrize(
    ("arguments", "input", "said"),
    [
        (("anna", "--role", "admin"), b"short\n", "a password has 12 to 256 characters, this one has 5"),
        (("anna", "--role", "admin"), b"", "this one has 0"),
        (("anna", "--role", "admin"), b"\xff" * 20, "not UTF-8"),
        (("anna", "--role", "admin"), b"x" * 100_000, "12 to 256 characters"),
        (("anna", "--role", "developer"), PASSWORD.encode(), "one tenant: name it"),
        (("anna", "--role", "boss"), PASSWORD.encode(), "'boss' is not one of"),
        (("an na", "--role", "admin"), PASSWORD.encode(), "account 'an na': expected up to 64 letters"),
        (("anna", "--role", "admin", "--tenant", "a/b"), PASSWORD.encode(), "tenant 'a/b': expected up to 64 letters"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_no_account(
    arguments: tuple[str, ...], input: bytes, said: str
) -> None:
    assert said in " ".join(run("create", *arguments, "--password-stdin", input=input, code=2).stderr.split())
    (STATE.parent).mkdir(exist_ok=True)
    assert run("list").stdout == ""
    assert audited() == []


def test_there_is_one_account_of_a_name() -> None:
    create()
    result = run("create", "anna", "--role", "auditor", "--password-stdin", input="another password", code=2)
    assert "account anna: there is one of this name already" in result.stderr
    assert verified("anna", PASSWORD) is not None
    assert [action for action, _ in audited()] == ["account.create"]


def test_a_new_password_signs_out() -> None:
    create()
    accounts = Accounts(STATE, SystemClock())
    [anna] = accounts.all()
    token = accounts.open_session(anna, 60.0)
    run("password", "anna", "--password-stdin", input="another password\n")
    assert accounts.session(token) is None
    accounts.close()
    assert verified("anna", PASSWORD) is None
    assert verified("anna", "another password") is not None


def test_a_removed_account_is_gone() -> None:
    create()
    assert json.loads(run("remove", "anna", "--json").stdout)["name"] == "anna"
    assert verified("anna", PASSWORD) is None
    assert "No accounts" in run("list").stderr


def test_the_list_is_by_name() -> None:
    create("bob", "--tenant", "acme")
    create("anna")
    header, *rows = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert header == ["name", "role", "tenant", "created"]
    assert [row[:3] for row in rows] == [["anna", "admin", "-"], ["bob", "admin", "acme"]]
    assert [json.loads(line)["name"] for line in run("list", "--json").stdout.splitlines()] == ["anna", "bob"]


@pytest.mark.parametrize("arguments", [("password", "anna", "--password-stdin"), ("remove", "anna")])
def test_an_unknown_account_is_refused_with_the_nearest(arguments: tuple[str, ...]) -> None:
    assert "no state directory" in run(*arguments, input=PASSWORD, code=2).stderr
    create("anne")
    assert "anne" in run(*arguments, input=PASSWORD, code=2).stderr


def test_what_is_done_to_an_account_stands_in_the_trail_without_its_password() -> None:
    create("anna", "--tenant", "acme")
    run("password", "anna", "--password-stdin", input="another password\n")
    run("remove", "anna")
    facts = {"name": "anna", "role": "admin", "tenant": "acme"}
    assert audited() == [("account.create", facts), ("account.password", facts), ("account.remove", facts)]
    everything = b"".join([path.read_bytes() for path in STATE.parent.iterdir()])
    assert PASSWORD.encode() not in everything


def test_what_can_not_be_recorded_is_not_done() -> None:
    create()
    Path(".holdfast/audit.jsonl").unlink()
    Path(".holdfast/audit.jsonl").mkdir()
    for arguments in (
        ("create", "bob", "--role", "admin", "--password-stdin"),
        ("password", "anna", "--password-stdin"),
        ("remove", "anna"),
    ):
        assert "Nothing was done" in run(*arguments, input="another password", code=2).stderr
    assert verified("anna", PASSWORD) is not None
    assert verified("bob", "another password") is None


def test_on_a_terminal_the_password_is_asked_for_twice_and_never_shown(home: Path) -> None:
    terminal, theirs = pty.openpty()
    command = [sys.executable, "-m", "holdfast", "accounts", "create", "anna", "--role", "admin"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, start_new_session=True)
    os.close(theirs)
    seen = _until(terminal, b"Password of anna:")
    os.write(terminal, PASSWORD.encode() + b"\n")
    seen += _until(terminal, b"Repeat for confirmation:")
    os.write(terminal, PASSWORD.encode() + b"\n")
    seen += _until(terminal, b"may sign in")
    assert process.wait(10) == 0
    os.close(terminal)
    assert PASSWORD.encode() not in seen
    assert verified("anna", PASSWORD) is not None


def _until(terminal: int, text: bytes) -> bytes:
    seen, patience = b"", time.monotonic() + 20
    while text not in seen:
        assert select.select([terminal], [], [], max(0.0, patience - time.monotonic()))[0], seen
        seen += os.read(terminal, 4096)
    return seen
