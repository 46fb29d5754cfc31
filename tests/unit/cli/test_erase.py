import asyncio
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import erase, main
from holdfast.clock import SystemClock, UlidFactory
from holdfast.log.base import Filter
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.custody import open_custody
from holdfast.privacy.erasure.erase import Follower
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.settings import PrivacySettings
from holdfast.privacy.subjects import SubjectHasher
from holdfast.state.holders import Holder
from holdfast.state.keys import Keys
from log_samples import make_call
from state_directories import STATE, log_calls


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["erase", *arguments])
    assert result.exit_code == code, result.output
    return result


def logged() -> list[str]:
    with closing(SqliteLog.read(STATE / "log.db")) as log:
        return [call.id for batch in log.scan(Filter()) for call in batch]


def make_key(tenant: str) -> None:
    keys = Keys(STATE / "state.db", SystemClock())
    keys.create(tenant=tenant, role="app")
    keys.close()


def hash_of(name: str, tenant: str | None = None) -> str:
    return SubjectHasher.load(STATE).hash(name, tenant)


def audited() -> list[tuple[str, dict[str, Any]]]:
    entries = list(Trail(STATE, None, SystemClock()).entries())[::-1]
    return [(entry.action, entry.details) for entry in entries if not entry.action.startswith("audit.")]


# --- what it reaches --------------------------------------------------------------------------------------------------


def test_the_calls_of_a_subject_are_gone_and_those_of_others_stay() -> None:
    log_calls(make_call(1, subject=hash_of("ada")), make_call(2, subject=hash_of("bob")), make_call(3))
    header, row = [line.split("\t") for line in run("--subject", "ada").stdout.splitlines()]
    assert header == ["subject", "tenant", "where", "found", "key destroyed", "erased"]
    assert row[:4] == [hash_of("ada"), "-", "log", "1"]
    assert int(row[4]) > 0
    assert logged() == [make_call(3).id, make_call(2).id]


def test_what_was_never_sealed_is_erased_too() -> None:
    log_calls(make_call(1, subject=hash_of("ada")), seal=False)
    assert run("--subject", "ada").stdout.splitlines()[1].split("\t")[2:5] == ["log", "1", "-"]
    assert logged() == []


def log_ada_everywhere() -> None:
    """Ada has called without a key, and at two tenants; Bob at one."""
    make_key("acme")
    make_key("globex")
    log_calls(
        make_call(1, subject=hash_of("ada")),
        make_call(2, subject=hash_of("ada", "acme"), tenant="acme"),
        make_call(3, subject=hash_of("ada", "globex"), tenant="globex"),
        make_call(4, subject=hash_of("bob", "globex"), tenant="globex"),
    )


def erased(*arguments: str) -> list[str]:
    """Erase, and return the tenants that the certificate is about."""
    rows = [line.split("\t") for line in run(*arguments).stdout.splitlines()[1:]]
    assert [row[2:4] for row in rows] == [["log", "1"]] * len(rows)
    return [row[1] for row in rows]


def test_a_name_at_more_than_one_tenant_is_refused_until_it_is_said_who_is_meant() -> None:
    log_ada_everywhere()
    told = run("--subject", "ada", code=2).stderr
    assert "more than one tenant: (calls without a key), acme, globex." in " ".join(told.split())
    assert all(option in told for option in ("--tenant", "--no-tenant", "--all-tenants"))
    assert len(logged()) == 4
    assert audited() == []


@pytest.mark.parametrize(
    ("options", "tenants"),
    [
        (("--all-tenants",), ["-", "acme", "globex"]),
        (("--tenant", "acme"), ["acme"]),
        (("--no-tenant",), ["-"]),
        (("--tenant", "globex", "--tenant", "acme", "--tenant", "acme"), ["globex", "acme"]),
        (("--tenant", "acme", "--no-tenant"), ["-", "acme"]),
    ],
)
def test_the_subjects_of_the_tenants_that_were_named_are_erased(options: tuple[str, ...], tenants: list[str]) -> None:
    log_ada_everywhere()
    assert erased("--subject", "ada", *options) == tenants
    assert len(logged()) == 4 - len(tenants)


def test_a_name_that_one_tenant_knows_is_the_subject_of_that_one_alone() -> None:
    log_ada_everywhere()
    assert erased("--subject", "bob") == ["globex"]
    assert audited() == [("erase", {"subjects": [hash_of("bob", "globex")], "tenants": ["globex"]})]


@pytest.mark.parametrize("tenant", ["acm", "nosuch"])
def test_a_tenant_that_nobody_knows_is_refused_and_nothing_is_certified(tenant: str) -> None:
    log_ada_everywhere()
    told = " ".join(run("--subject", "bob", "--tenant", tenant, "--tenant", "acme", code=2).stderr.split())
    assert f"No key, account or call was ever of the tenant '{tenant}'" in told
    assert ("did you mean acme?" in told) == (tenant == "acm")
    assert "Known tenants: acme, globex." in told
    assert "There is something of a subject bob at: globex." in told
    assert (len(logged()), audited()) == (4, [])


def test_where_there_are_no_tenants_it_says_so() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    told = " ".join(run("--subject", "ada", "--tenant", "acme", code=2).stderr.split())
    assert "No tenant is known here: see --no-tenant." in told
    assert "There is something of a subject ada at: (calls without a key)." in told


def test_a_tenant_of_which_there_is_nothing_but_the_subject_is_no_mistake() -> None:
    log_calls(make_call(1, subject=hash_of("ada", "gone"), tenant=None))
    assert erased("--subject", "ada", "--tenant", "gone") == ["gone"]


def test_a_file_that_is_there_is_replaced_only_by_force() -> None:
    Path("certificate.json").write_text("another certificate")
    log_calls(make_call(1, subject=hash_of("ada")))
    told = run("--subject", "ada", "--output", "certificate.json", code=2).stderr
    assert "certificate.json exists already" in told
    assert "--force" in told
    assert (len(logged()), audited(), Path("certificate.json").read_text()) == (1, [], "another certificate")
    run("--subject", "ada", "--output", "certificate.json", "--force")
    assert json.loads(Path("certificate.json").read_text())["format"] == "holdfast.erasure/1"


def test_a_key_that_is_left_of_a_subject_counts_though_its_calls_are_gone() -> None:
    log_ada_everywhere()
    with closing(SqliteLog(STATE / "log.db")) as log:
        log.erase(hash_of("ada"))
    assert "(calls without a key), acme, globex." in " ".join(run("--subject", "ada", code=2).stderr.split())


def test_an_erasure_that_was_cut_off_counts_though_nothing_else_is_left() -> None:
    make_key("globex")
    log_calls(make_call(1, subject=hash_of("ada", "acme"), tenant="acme"))
    with closing(Keyring(STATE / "keyring.db", None, SystemClock())) as keyring:
        keyring.erasures.begin(hash_of("ada", "globex"))
    assert "acme, globex" in run("--subject", "ada", code=2).stderr
    run("--subject", "ada", "--tenant", "acme")
    certified = json.loads(run("--subject", "ada", "--json").stdout)
    assert [one["subject"] for one in certified["erasures"]] == [hash_of("ada", "globex")]


def test_tenants_by_name_and_all_of_them_exclude_each_other() -> None:
    log_ada_everywhere()
    assert "Either --all-tenants" in run("--subject", "ada", "--all-tenants", "--no-tenant", code=2).stderr
    assert "Either --all-tenants" in run("--subject", "ada", "--all-tenants", "--tenant", "acme", code=2).stderr


def test_a_tenant_that_only_the_log_knows_is_known_too() -> None:
    log_calls(make_call(1, subject=hash_of("ada", "acme"), tenant="acme"))
    assert not (STATE / "state.db").exists()
    run("--subject", "ada")
    assert logged() == []


def test_with_a_tenant_it_is_the_subject_of_that_one() -> None:
    make_key("acme")
    log_calls(
        make_call(1, subject=hash_of("ada")), make_call(2, subject=hash_of("ada", "acme"), tenant="acme"), make_call(3)
    )
    run("--subject", "ada", "--tenant", "acme")
    assert logged() == [make_call(3).id, make_call(1).id]


def test_a_subject_may_be_named_by_its_hash() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    run("--subject", hash_of("ada"))
    assert logged() == []


def test_a_subject_of_whom_nothing_is_kept_is_certified_too() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    assert run("--subject", "eve").stdout == "Nothing of this subject was found.\n"
    certified = json.loads(run("--subject", "eve", "--json").stdout)
    assert [erased["found"] for erased in certified["erasures"]] == [{"log": 0}]
    assert [erased["found"] for erased in certified["earlier"]] == [{"log": 0}]


def test_a_subject_that_nobody_knows_is_erased_at_every_tenant() -> None:
    make_key("acme")
    log_calls(make_call(1, subject=hash_of("ada")))
    certified = json.loads(run("--subject", "eve", "--json").stdout)
    assert [one["subject"] for one in certified["erasures"]] == [hash_of("eve"), hash_of("eve", "acme")]


def test_who_was_erased_before_is_told_so() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    assert run("--subject", "ada").stderr == ""
    told = run("--subject", "ada")
    assert told.stdout == "Nothing of this subject was found.\n"
    assert told.stderr.startswith("It was erased before: ")


def test_where_there_is_no_log_yet_the_key_is_destroyed_all_the_same() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    (STATE / "log.db").unlink()
    assert json.loads(run("--subject", "ada", "--json").stdout)["erasures"][0]["key"] == 1


# --- workers ----------------------------------------------------------------------------------------------------------


@contextmanager
def worker(*, follows: bool) -> Iterator[str]:
    """A worker that runs, and has two answers of everybody in its memory."""
    presence = Holder.create(STATE / "running", UlidFactory(SystemClock()))
    stopped = threading.Event()

    def follow() -> None:
        with closing(Keyring(STATE / "keyring.db", None, SystemClock())) as keyring:
            follower = Follower(keyring, presence.id, lambda _: 2)
            while not stopped.wait(0.01):
                asyncio.run(follower.poll())

    thread = threading.Thread(target=follow)
    try:
        if follows:
            thread.start()
        yield presence.id
    finally:
        stopped.set()
        if follows:
            thread.join()
        presence.close(remove=True)


def test_running_workers_confirm_what_they_had_in_memory() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    with worker(follows=True):
        result = run("--subject", "ada")
    assert [line.split("\t")[2:4] for line in result.stdout.splitlines()[1:]] == [["log", "1"], ["replay", "2"]]


def test_a_worker_that_does_not_confirm_is_named_and_the_rest_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "PATIENCE_SECONDS", 0.1)
    log_calls(make_call(1, subject=hash_of("ada")))
    with worker(follows=False) as id:
        result = run("--subject", "ada", "--output", "certificate.json", code=1)
    assert f"The worker {id} has not confirmed" in result.stderr
    assert "run it again" in result.stderr
    assert "replace the certificate with --force" in result.stderr
    assert "not finished" in result.stdout
    assert json.loads(Path("certificate.json").read_text())["erasures"][0]["ended"] is None
    assert logged() == []
    run("--subject", "ada", "--output", "certificate.json", "--force")
    [erased] = json.loads(Path("certificate.json").read_text())["erasures"]
    assert erased["ended"] is not None
    assert erased["found"] == {"log": 1}


def test_one_that_has_died_is_not_waited_for() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    with worker(follows=False):
        pass
    run("--subject", "ada")


# --- the certificate --------------------------------------------------------------------------------------------------


def certify(name: str = "certificate.json") -> Path:
    log_calls(make_call(1, subject=hash_of("ada")))
    run("--subject", "ada", "--output", name)
    return Path(name)


def test_the_certificate_is_written_for_its_owner_alone_and_can_be_verified() -> None:
    file = certify()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    certified = json.loads(file.read_text())
    assert (certified["format"], certified["erasures"][0]["found"]) == ("holdfast.erasure/1", {"log": 1})
    told = run("--verify", str(file))
    assert f"signed with the key {certified['public_key']}" in told.stdout
    assert told.stderr == ""
    assert json.loads(run("--verify", str(file), "--json").stdout) == {"ok": True, "known": True} | certified


def test_as_json_the_certificate_is_one_line_that_can_be_verified() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    printed = run("--subject", "ada", "--json").stdout
    assert printed.count("\n") == 1
    Path("certificate.json").write_text(printed)
    run("--verify", "certificate.json")


def test_a_certificate_that_was_changed_is_found() -> None:
    file = certify()
    file.write_text(file.read_text().replace('"log": 1', '"log": 2'))
    assert "changed after it was signed" in run("--verify", str(file), code=1).stdout
    told = json.loads(run("--verify", str(file), "--json", code=1).stdout)
    assert (told["ok"], "changed" in told["message"]) == (False, True)


def test_a_certificate_of_another_installation_is_found() -> None:
    file = certify()
    assert "was signed with the key" in run("--verify", str(file), "--state", _another(), code=1).stdout


def _another() -> str:
    keeping = open_custody(PrivacySettings(), Path(), Path("another"), SystemClock())
    keeping.keyring.close()
    return "another"


def test_without_the_installation_the_key_is_to_be_compared() -> None:
    file = certify()
    told = run("--verify", str(file), "--state", "elsewhere")
    assert "compare it" in told.stderr
    assert not Path("elsewhere").exists()


def test_a_certificate_can_be_asked_whether_it_is_about_a_subject() -> None:
    file = certify()
    assert "It is about ada.\n" in run("--verify", str(file), "--subject", "ada").stdout
    assert "It is about" not in run("--verify", str(file)).stdout
    assert "about other subjects" in run("--verify", str(file), "--subject", "bob", code=1).stdout
    run("--verify", str(file), "--subject", "ada", "--tenant", "globex", code=1)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": "other"}', b"[" * 100_000])
def test_what_is_no_certificate_is_said_to_be_none(home: Path, content: bytes) -> None:
    (home / "x.json").write_bytes(content)
    assert "not a certificate" in run("--verify", "x.json", code=1).stdout


def test_a_certificate_that_can_not_be_read_is_an_error() -> None:
    assert "can't be read" in run("--verify", "none.json", code=2).stderr


# --- the trail --------------------------------------------------------------------------------------------------------


def test_it_stands_in_the_trail_by_hash() -> None:
    make_key("acme")
    log_calls(make_call(1, subject=hash_of("ada")))
    run("--subject", "ada")
    assert audited() == [("erase", {"subjects": [hash_of("ada")], "tenants": []})]
    assert "ada" not in (STATE / "audit.jsonl").read_text()


def test_all_subjects_stand_in_the_trail_however_many_tenants_there_are() -> None:
    keys = Keys(STATE / "state.db", SystemClock())
    for n in range(101):
        keys.create(tenant=f"t{n}", role="app")
    keys.close()
    hash_of("ada")
    run("--subject", "ada")
    assert [len(details["subjects"]) for _, details in audited()] == [100, 2]


def test_what_can_not_be_recorded_is_not_erased() -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    (STATE / "audit.jsonl").mkdir()
    assert "Nothing was done" in run("--subject", "ada", code=2).stderr
    assert logged() == [make_call(1).id]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "Missing option '--subject'"), (("--subject",), "requires an argument"), (("ada",), "unexpected extra")],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str) -> None:
    log_calls(make_call(1, subject=hash_of("ada")))
    assert said in " ".join(run(*arguments, code=2).stderr.split())
    assert len(logged()) == 1


def test_without_a_state_or_a_key_of_subjects_it_says_so() -> None:
    assert "no state directory" in run("--subject", "ada", code=2).stderr
    STATE.mkdir()
    assert "give the hash of the subject" in run("--subject", "ada", code=2).stderr
