import base64
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.clock import SystemClock, UlidFactory
from holdfast.errors import PrivacyError
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.custody import open_custody
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.settings import PrivacySettings
from holdfast.privacy.subjects import SubjectHasher
from holdfast.state.holders import Holder
from log_samples import make_call

STATE = Path(".holdfast")
NEW = ("keyring", "rewrap", "--new-file", "new.key")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_key("new.key")
    return tmp_path


def make_key(name: str) -> None:
    Path(name).write_bytes(base64.b64encode(os.urandom(32)))
    Path(name).chmod(0o600)


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result


def configure(master: str) -> None:
    Path("holdfast.toml").write_text(f"[privacy]\nmaster_key = {master}\n")


def seal(*numbers: int) -> None:
    """Log sealed calls of Ada, with the master key of the state directory."""
    keeping = open_custody(PrivacySettings(), Path(), STATE, SystemClock())
    with closing(SqliteLog(STATE / "log.db", sealer=keeping.sealer)) as log:
        log.append([make_call(number, subject=SubjectHasher.load(STATE).hash("ada")) for number in numbers])
    keeping.keyring.close()


def exported() -> list[dict[str, Any]]:
    run("export", "--subject", "ada", "--output", "out.jsonl", "--force")
    return [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]


def audited() -> list[str]:
    return [entry.action for entry in Trail(STATE, None, SystemClock()).entries()][::-1]


def test_what_was_sealed_before_is_opened_with_the_new_key_alone() -> None:
    seal(1, 2)
    told = run(*NEW)
    assert told.stdout == "1 key is wrapped by the new master key now.\n"
    line = told.stderr.partition("master_key = ")[2]
    assert "not by this one" in run("export", "--subject", "ada", "--output", "out.jsonl", code=2).stderr
    configure(line)
    (STATE / "master.key").unlink()
    assert [bool(call["request"] and call["reply"]) for call in exported()] == [True, True]


def test_the_trail_stays_right_and_tells_of_it() -> None:
    seal(1)
    exported()
    configure(run(*NEW).stderr.partition("master_key = ")[2])
    exported()
    assert "nothing was changed" in run("audit", "verify").stdout
    assert audited() == ["audit.signed", "export", "keyring.rewrap", "audit.succeeded", "export"]


@pytest.mark.parametrize("how", ["env", "command"])
def test_the_new_key_may_come_from_the_environment_or_a_command(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(1)
    monkeypatch.setenv("NEW_KEY", Path("new.key").read_text())
    told = run("keyring", "rewrap", f"--new-{how}", {"env": "NEW_KEY", "command": "cat 'new.key'"}[how])
    configure(told.stderr.partition("master_key = ")[2])
    assert len(exported()) == 1


def test_as_json_it_tells_the_key_that_signs_now() -> None:
    seal(1)
    told = json.loads(run(*NEW, "--json").stdout)
    configure('{ file = "new.key" }')
    assert (told["keys"], len(told["fingerprint"])) == (1, 16)
    assert f"signed with the key {told['public_key']}" in run("audit", "verify").stdout


def test_it_may_be_changed_again_and_certificates_of_before_are_still_known() -> None:
    seal(1)
    run("erase", "--subject", "ada", "--output", "certificate.json")
    run(*NEW)
    configure('{ file = "new.key" }')
    make_key("newer.key")
    run("keyring", "rewrap", "--new-file", "newer.key")
    configure('{ file = "newer.key" }')
    told = run("erase", "--verify", "certificate.json")
    assert ("is as it was issued" in told.stdout, told.stderr) == (True, "")
    assert run("audit", "verify").exit_code == 0


def interrupted(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a change that something cuts off."""

    def end(*_: object) -> None:
        raise PrivacyError("cut off")

    owner, name = {"scrub": (Keyring, "scrub"), "trail": (Trail, "succeed"), "keys": (Keyring, "_plain")}[where]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, end)
        assert "cut off" in run(*NEW, code=2).stderr


@pytest.mark.parametrize("where", ["keys", "scrub", "trail"])
def test_what_is_cut_off_is_finished_by_running_it_again(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(1)
    interrupted(where, monkeypatch)
    run(*NEW)
    run(*NEW)  # there is nothing left to be done
    configure('{ file = "new.key" }')
    assert len(exported()) == 1
    assert "nothing was changed" in run("audit", "verify").stdout
    assert audited().count("audit.succeeded") == 1


def test_what_is_cut_off_is_not_finished_with_a_key_that_was_never_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    seal(1)
    interrupted("trail", monkeypatch)
    make_key("other.key")
    configure('{ file = "other.key" }')
    assert "not with the present one" in run(*NEW, code=2).stderr


def test_while_the_gateway_runs_nothing_is_changed() -> None:
    seal(1)
    presence = Holder.create(STATE / "running", UlidFactory(SystemClock()))
    assert "stop it first" in run(*NEW, code=2).stderr
    presence.close(remove=True)
    run(*NEW)


def test_what_can_not_be_recorded_is_not_done() -> None:
    seal(1)
    (STATE / "audit.jsonl").mkdir()
    assert "audit" in run(*NEW, code=2).stderr
    (STATE / "audit.jsonl").rmdir()
    assert len(exported()) == 1


@pytest.mark.parametrize(
    ("prepare", "arguments", "said"),
    [
        (None, (), "Say where the new master key is"),
        (None, ("--new-env", "A", "--new-file", "b"), "Say where the new master key is"),
        (None, ("--new-command", "cat 'x"), "Say where the new master key is"),
        (None, ("--new-command", ""), "Say where the new master key is"),
        (None, ("--new-file", "none.key"), "there is no master key"),
        (None, ("--new-env", "NO_SUCH_KEY"), "is not set"),
        (lambda: Path("new.key").chmod(0o644), ("--new-file", "new.key"), "chmod 600"),
        (None, ("--new-file", str(STATE / "master.key")), "is the one in use"),
        (lambda: (STATE / "master.key").unlink(), ("--new-file", "new.key"), "the master key is gone"),
    ],
)
def test_what_makes_no_sense_is_refused(
    prepare: Callable[[], Any] | None, arguments: tuple[str, ...], said: str
) -> None:
    seal(1)
    if prepare is not None:
        prepare()
    assert said in " ".join(run("keyring", "rewrap", *arguments, code=2).stderr.split())


def test_without_a_state_it_says_so() -> None:
    assert "no state directory" in run(*NEW, code=2).stderr
