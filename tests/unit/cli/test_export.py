import fcntl
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.clock import SystemClock
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.subjects import SubjectHasher
from holdfast.state.keys import Keys
from log_samples import make_call
from state_directories import STATE, log_calls


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["export", *arguments])
    assert result.exit_code == code, result.output
    return result


def make_key(tenant: str) -> None:
    keys = Keys(STATE / "state.db", SystemClock())
    keys.create(tenant=tenant, role="app")
    keys.close()


def hash_of(name: str, tenant: str | None = None) -> str:
    return SubjectHasher.load(STATE).hash(name, tenant)


def exported(name: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def audited() -> list[tuple[str, dict[str, Any]]]:
    entries = list(Trail(STATE, None, SystemClock()).entries())[::-1]
    return [(entry.action, entry.details) for entry in entries if not entry.action.startswith("audit.")]


@pytest.mark.parametrize("seal", [True, False])
def test_a_person_gets_all_of_their_calls_with_what_was_said(seal: bool) -> None:
    ada, bob = hash_of("ada"), hash_of("bob")
    log_calls(make_call(1, subject=ada), make_call(2, subject=bob), make_call(3, subject=ada), seal=seal)
    result = run("--subject", "ada", "--output", "out.jsonl")
    assert result.stdout == "Written to out.jsonl: 2 in the log.\n"
    assert [call["id"] for call in exported()] == [make_call(3).id, make_call(1).id]
    assert {call["found_in"] for call in exported()} == {"log"}
    assert all(call["request"]["messages"] and call["reply"]["choices"] for call in exported())


def test_a_name_at_more_than_one_tenant_is_exported_for_those_that_are_named() -> None:
    make_key("acme")
    make_key("globex")
    subjects = {tenant: hash_of("ada", tenant) for tenant in (None, "acme", "globex")}
    log_calls(*[make_call(n, subject=subject, tenant=tenant) for n, (tenant, subject) in enumerate(subjects.items())])
    told = " ".join(run("--subject", "ada", "--output", "out.jsonl", code=2).stderr.split())
    assert "more than one tenant: (calls without a key), acme, globex." in told
    assert (Path("out.jsonl").exists(), audited()) == (False, [])
    told = json.loads(run("--subject", "ada", "--all-tenants", "--output", "out.jsonl", "--json").stdout)
    assert told == {"output": "out.jsonl", "found": {"log": 3}}
    assert sorted([call["tenant"] or "" for call in exported()]) == ["", "acme", "globex"]
    run("--subject", "ada", "--tenant", "acme", "--output", "out.jsonl", "--force")
    assert [call["tenant"] for call in exported()] == ["acme"]
    run("--subject", "ada", "--no-tenant", "--tenant", "acme", "--output", "out.jsonl", "--force")
    assert [call["tenant"] for call in exported()] == [None, "acme"]
    assert audited()[-1] == ("export", {"subjects": [hash_of("ada"), hash_of("ada", "acme")], "tenants": ["acme"]})


def test_a_subject_may_be_named_by_its_hash() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    run("--subject", hash_of("ada"), "--output", "out.jsonl")
    assert len(exported()) == 1


def test_a_name_that_looks_like_a_hash_is_a_name_too() -> None:
    name = "ab" * 16
    log_calls(make_call(1, subject=hash_of(name)))
    run("--subject", name, "--output", "out.jsonl")
    assert len(exported()) == 1


def test_what_was_erased_stays_closed_where_an_older_keyring_and_log_were_put_back(tmp_path: Path) -> None:
    call = make_call(1, subject=hash_of("ada"))
    log_calls(call)
    shutil.copytree(STATE, tmp_path / "backup")
    erased = CliRunner().invoke(main, ["erase", "--subject", "ada"])
    assert erased.exit_code == 0, erased.output
    for file in ("keyring.db", "log.db"):
        (STATE / f"{file}-wal").unlink(missing_ok=True)
        (STATE / f"{file}-shm").unlink(missing_ok=True)
        shutil.copy(tmp_path / "backup" / file, STATE / file)
    run("--subject", "ada", "--output", "out.jsonl")
    [found] = exported()
    assert (found["id"], "request" in found, "reply" in found) == (call.id, False, False)
    shown = CliRunner().invoke(main, ["calls", "show", call.id, "--plain"])
    assert (shown.exit_code, "erased" in shown.output) == (0, True), shown.output


def test_a_tenant_that_nobody_knows_is_refused() -> None:
    make_key("acme")
    log_calls(make_call(1, subject=hash_of("ada", "acme"), tenant="acme"))
    told = " ".join(run("--subject", "ada", "--tenant", "nosuch", "--output", "out.jsonl", code=2).stderr.split())
    assert "ever of the tenant 'nosuch'. Known tenants: acme." in told
    assert "There is something of a subject ada at: acme." in told
    assert (Path("out.jsonl").exists(), audited()) == (False, [])


def test_a_file_that_is_there_is_kept_unless_it_is_forced() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    Path("out.jsonl").symlink_to("nowhere")
    assert "exists already" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    assert (Path("out.jsonl").is_symlink(), audited()) == (True, [])


def test_the_file_is_for_its_owner_alone_and_replaces_what_was_there_by_force(home: Path) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    (home / "out.jsonl").write_text("old\n")
    (home / "out.jsonl").chmod(0o644)
    (home / "out.jsonl.part").write_text("left behind by one that was killed\n")
    (home / "out.jsonl.part").chmod(0o644)
    run("--subject", "ada", "--output", "out.jsonl", "--force")
    assert len(exported()) == 1
    assert stat.S_IMODE((home / "out.jsonl").stat().st_mode) == 0o600
    assert not (home / "out.jsonl.part").exists()


def test_two_exports_do_not_write_one_file(home: Path) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    with (home / "out.jsonl.part").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "another command is writing it" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    assert not (home / "out.jsonl").exists()


def test_a_subject_that_has_nothing_gets_an_empty_file() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    assert run("--subject", "eve", "--output", "out.jsonl").stdout == "Written to out.jsonl: nothing was found.\n"
    assert exported() == []


def test_it_stands_in_the_trail_by_hash() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    run("--subject", "ada", "--output", "out.jsonl")
    assert audited() == [("export", {"subjects": [hash_of("ada")], "tenants": []})]
    assert "ada" not in (STATE / "audit.jsonl").read_text()


def test_what_can_not_be_recorded_is_not_exported(home: Path) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    (STATE / "audit.jsonl").mkdir()
    assert "Nothing was done" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    assert not (home / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "out.jsonl"), "Missing option '--subject'"),
        (("--subject", "ada"), "Missing option '--output'"),
        (("--subject", "ada", "--output", "no/such/folder/out.jsonl"), "can't be written"),
        (("--subject", "ada", "--output", "."), "is a directory"),
    ],
)
def test_what_can_not_be_done_is_refused(arguments: tuple[str, ...], said: str) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    assert said in " ".join(run(*arguments, code=2).stderr.split())


def test_without_the_master_key_nothing_is_exported(home: Path) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    (STATE / "master.key").unlink()
    assert "the master key is gone" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    assert not (home / "out.jsonl").exists()


def test_without_a_log_or_a_key_of_subjects_it_says_so(home: Path) -> None:
    assert "no state directory" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    STATE.mkdir()
    assert "give the hash of the subject" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
    hash_of("ada")
    assert "There is no log" in run("--subject", "ada", "--output", "out.jsonl", code=2).stderr
