"""What `holdfast calls` shows of what was asked and answered."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from msgspec import structs

import strategies
from holdfast.chat import Choice, Message, Reply, Request, Text
from holdfast.cli import main
from holdfast.cli.listing import console
from holdfast.cli.masks import mask_call
from holdfast.cli.timeline import render_call
from holdfast.clock import SystemClock
from holdfast.events import Call, Repair
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.custody import open_custody
from holdfast.privacy.masking import mask
from holdfast.privacy.settings import PrivacySettings
from holdfast.privacy.subjects import SubjectHasher
from holdfast.state.keys import Keys
from log_samples import ATTEMPT, make_call

STATE = Path(".holdfast")
QUESTION, ANSWER = "Where does Ada Lovelace live?", "In Marylebone, at 12 St James Square."
TALK: dict[str, Any] = {
    "request": Request(model="answer", messages=(Message(role="user", parts=(Text(text=QUESTION),)),)),
    "reply": Reply(id="r", model="gpt", choices=(Choice(parts=(Text(text=ANSWER),)),)),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["calls", *arguments])
    assert result.exit_code == code, result.output
    return result


def log_calls(*calls: Call) -> None:
    keeping = open_custody(PrivacySettings(), Path(), STATE, SystemClock())
    log = SqliteLog(STATE / "log.db", sealer=keeping.sealer)
    log.append(calls)
    log.close()
    keeping.keyring.close()


def make_key(tenant: str = "acme") -> None:
    with closing(Keys(STATE / "state.db", SystemClock())) as keys:
        keys.create(tenant=tenant, role="app")


def hash_of(name: str, tenant: str | None = None) -> str:
    return SubjectHasher.load(STATE).hash(name, tenant)


def audited() -> list[tuple[str, dict[str, Any]]]:
    entries = list(Trail(STATE, None, SystemClock()).entries())[::-1]
    return [(entry.action, entry.details) for entry in entries if not entry.action.startswith("audit.")]


# --- show -------------------------------------------------------------------------------------------------------------


def test_while_there_are_no_keys_bodies_are_shown_as_they_are() -> None:
    log_calls(make_call(1, **TALK))
    for options in ((), ("--json",)):
        assert QUESTION in run("show", make_call(1).id, *options).stdout
        assert ANSWER in run("show", make_call(1).id, *options).stdout
    assert audited() == []


def test_once_there_is_a_key_words_are_masked() -> None:
    log_calls(
        make_call(
            1,
            **TALK,
            message="Ada is unknown",
            attempts=(structs.replace(ATTEMPT, message="no Ada"),),
            repairs=1,
            ledger=(Repair(kind="escape", offset=1, before="Ada", after="Lovelace"),),
        )
    )
    make_key()
    for options in ((), ("--json",)):
        shown = run("show", make_call(1).id, *options).stdout
        assert mask(QUESTION) in shown
        assert mask(ANSWER) in shown
        assert "Ada" not in shown
        assert "Lovelace" not in shown
        assert "Marylebone" not in shown
    assert "escape" in run("show", make_call(1).id).stdout
    assert audited() == []


def test_what_is_masked_says_once_how_it_is_shown() -> None:
    log_calls(make_call(1, **TALK), make_call(2, request=None, reply=None))
    told = "What was said is masked; --plain shows it, and is audited.\n"
    show, search = ("show", make_call(1).id), ("search", "Lovelace")
    for command in (show, search):
        assert "masked" not in run(*command).stderr  # while there are no keys
    make_key()
    for command in (show, search):
        assert run(*command).stderr.count(told) == 1
        assert "masked" not in run(*command, "--json").stderr
        assert "masked" not in run(*command, "--plain").stderr
    assert "masked" not in run("show", make_call(2).id).stderr
    assert "masked" not in run("search", "nowhere").stderr


def test_once_there_was_a_key_words_stay_masked() -> None:
    log_calls(make_call(1, **TALK))
    make_key()
    with closing(Keys(STATE / "state.db", SystemClock())) as keys:
        keys.revoke(keys.all()[0].id)
    assert QUESTION not in run("show", make_call(1).id).stdout


def test_plain_words_are_shown_to_who_asks_for_them_and_the_trail_tells() -> None:
    subject = hash_of("ada", "acme")
    log_calls(make_call(1, **TALK, subject=subject, tenant="acme"))
    make_key()
    assert QUESTION in run("show", make_call(1).id, "--plain").stdout
    assert QUESTION in run("show", make_call(1).id, "--plain", "--json").stdout
    facts = {"call": make_call(1).id, "tenant": "acme", "subject": subject}
    assert audited() == [("bodies.read", facts)] * 2


def test_what_can_not_be_recorded_is_not_shown() -> None:
    log_calls(make_call(1, **TALK))
    make_key()
    (STATE / "audit.jsonl").mkdir()
    result = run("show", make_call(1).id, "--plain", code=2)
    assert "Nothing was done" in result.stderr
    assert result.stdout == ""


def test_the_messages_of_listed_calls_are_masked_too() -> None:
    log_calls(make_call(1, request=None, reply=None, message="Ada is unknown", store="all"))
    make_key()
    assert "Ada" not in run("--json").stdout


def test_without_the_master_key_what_is_sealed_stays_closed() -> None:
    log_calls(make_call(1, **TALK))
    (STATE / "master.key").rename("elsewhere")
    result = run("show", make_call(1).id)
    assert "What is sealed stays closed: " in result.stderr
    assert "is sealed, and can't be opened here" in result.stdout


def test_what_was_erased_is_said_to_be() -> None:
    log_calls(make_call(1, **TALK, subject="ab" * 16))
    keeping = open_custody(PrivacySettings(), Path(), STATE, SystemClock())
    keeping.keyring.destroy("ab" * 16)
    keeping.keyring.close()
    assert "was erased: its key is destroyed" in run("show", make_call(1).id).stdout


def test_the_master_key_is_that_of_the_configuration(home: Path) -> None:
    (home / "etc").mkdir()
    (home / "etc/holdfast.toml").write_text('[log]\npath = "../.holdfast/log.db"\n[privacy.master_key]\nfile = "m"\n')
    log_calls(make_call(1, **TALK))
    (STATE / "master.key").rename("etc/m")
    assert QUESTION in run("--config", "etc/holdfast.toml", "show", make_call(1).id).stdout


def test_the_state_directory_may_be_named(home: Path) -> None:
    log_calls(make_call(1, **TALK))
    STATE.rename("other")
    for arguments in (("show", make_call(1).id, "--state", "other"), ("--state", "other", "show", make_call(1).id)):
        assert QUESTION in run(*arguments).stdout
    assert len(run("--state", "other", "--json").stdout.splitlines()) == 1


@given(strategies.requests(), strategies.replies())
def test_every_call_can_be_masked_and_shown(request: Request, reply: Reply) -> None:
    render(mask_call(make_call(request=request, reply=reply)))


@given(strategies.embedding_requests(), strategies.embedding_replies())
def test_every_call_for_vectors_can_be_masked_and_shown(request: Any, reply: Any) -> None:
    render(mask_call(make_call(kind="embeddings", request=request, reply=reply)))


def render(call: Call) -> None:
    terminal = console()
    with terminal.capture():
        render_call(terminal, call)


# --- which calls ------------------------------------------------------------------------------------------------------


def test_calls_are_found_by_tenant_and_key() -> None:
    log_calls(make_call(1, tenant="acme", key="hf_a"), make_call(2, tenant="globex", key="hf_b"), make_call(3))
    assert ids("--tenant", "acme") == [make_call(1).id]
    assert ids("--key", "hf_b") == [make_call(2).id]


def test_a_subject_is_found_by_its_name_at_the_tenant_that_has_calls_of_it() -> None:
    make_key("acme")
    make_key("globex")
    log_calls(make_call(1, subject=hash_of("ada", "globex"), tenant="globex"), make_call(2))
    assert ids("--subject", "ada") == [make_call(1).id]
    assert ids("--subject", "ada", "--tenant", "acme") == []
    assert ids("--subject", "eve") == []


def test_a_subject_that_several_tenants_have_is_to_be_named_with_its_tenant() -> None:
    make_key("acme")
    log_calls(make_call(1, subject=hash_of("ada", "acme"), tenant="acme"), make_call(2, subject=hash_of("ada")))
    assert "more than one tenant: (none), acme. Name one with --tenant" in run("--subject", "ada", code=2).stderr
    assert ids("--subject", "ada", "--tenant", "acme") == [make_call(1).id]


def ids(*options: str) -> list[str]:
    return [json.loads(line)["id"] for line in run("--json", *options).stdout.splitlines()]


# --- search -----------------------------------------------------------------------------------------------------------


def found(*arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *matches, told = [json.loads(line) for line in run("search", *arguments, "--json").stdout.splitlines()]
    return matches, told


def test_a_search_finds_calls_and_where_in_them() -> None:
    log_calls(make_call(1, **TALK), make_call(2))
    result = run("search", "marylebone")
    assert make_call(1).id in result.stdout
    assert make_call(2).id not in result.stdout
    assert f"/reply/choices/0/parts/0/text: {ANSWER}" in result.stdout
    assert result.stderr == "Found in 1 of the 2 calls that were looked at.\n"


def test_as_json_a_search_ends_with_how_far_it_looked() -> None:
    log_calls(make_call(1, **TALK), make_call(2))
    matches, told = found("marylebone")
    assert [match["id"] for match in matches] == [make_call(1).id]
    assert matches[0]["places"] == [{"pointer": "/reply/choices/0/parts/0/text", "excerpt": ANSWER}]
    assert told == {"looked": 2, "withheld": 0, "next": None}


def test_once_there_is_a_key_what_stands_around_the_text_is_masked_unless_asked_for() -> None:
    log_calls(make_call(1, **TALK))
    make_key()
    assert mask(ANSWER) in run("search", "marylebone").stdout
    assert ANSWER not in run("search", "marylebone").stdout + run("search", "marylebone", "--json").stdout
    assert ANSWER in run("search", "marylebone", "--plain").stdout
    assert ANSWER in run("search", "marylebone", "--plain", "--json").stdout


def test_every_search_stands_in_the_trail_and_what_was_sought_by_hash() -> None:
    log_calls(make_call(1, **TALK))
    make_key()
    run("search", "marylebone")
    run("search", "marylebone", "--tenant", "acme", "--plain")
    run("search", "nothing at all")
    assert audited() == [
        ("bodies.search", {"tenant": None, "wanted": hash_of("marylebone"), "plain": False}),
        ("bodies.search", {"tenant": "acme", "wanted": hash_of("marylebone", "acme"), "plain": True}),
        ("bodies.search", {"tenant": None, "wanted": hash_of("nothing at all"), "plain": False}),
    ]
    assert "marylebone" not in (STATE / "audit.jsonl").read_text()


def test_a_search_that_can_not_be_recorded_is_not_made() -> None:
    log_calls(make_call(1, **TALK))
    (STATE / "audit.jsonl").mkdir()
    result = run("search", "marylebone", code=2)
    assert "Nothing was done" in result.stderr
    assert result.stdout == ""


def test_a_search_looks_at_the_calls_that_are_asked_for_and_goes_on_where_one_ended() -> None:
    log_calls(*[make_call(n, **TALK, name="answer" if n % 2 else "other") for n in range(6)])
    matches, told = found("marylebone", "--name", "answer", "--limit", "2")
    assert [match["id"] for match in matches] == [make_call(5).id, make_call(3).id]
    rest, end = found("marylebone", "--name", "answer", "--limit", "2", "--before", told["next"])
    assert [match["id"] for match in rest] == [make_call(1).id]
    assert end["next"] is None
    assert (
        f"go on with --before {told['next']}\n"
        in run("search", "marylebone", *("--name", "answer"), "--limit=2").stderr
    )
    assert [match["id"] for match in _of_the_group("--name", "other")] == [make_call(n).id for n in (4, 2, 0)]


def _of_the_group(*options: str) -> list[dict[str, Any]]:
    lines = run(*options, "--json", "search", "marylebone").stdout.splitlines()
    return [json.loads(line) for line in lines[:-1]]


def test_without_the_master_key_no_search_can_be_recorded_and_none_is_made() -> None:
    log_calls(make_call(1, **TALK))
    (STATE / "master.key").rename("elsewhere")
    assert "the master key is gone" in run("search", "marylebone", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("",), "is empty"), ((), "Missing argument"), (("x", "--before", "none"), "no call 'none' to go on from")],
)
def test_a_search_that_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str) -> None:
    log_calls(make_call(1, **TALK))
    assert said in " ".join(run("search", *arguments, code=2).stderr.split())
