import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main
from holdfast.cli.state_directory import find
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.signing import Signer
from trails import TickingClock


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trail() -> Trail:
    """A trail of four entries in the default place, signed by the master key there."""
    state = find(None, None)
    trail = Trail(state.path, Signer.of(state.master()), TickingClock())
    trail.append("account:anna", "sign_in")
    trail.append("account:anna", "key.create", key="hf_ab12cd34", tenant="acme", features=["answer", "sum"])
    trail.append("os:root", "config.start", config="ab" * 16)
    return trail


def run(*arguments: str, code: int = 0, input: bytes | None = None) -> Result:
    result = CliRunner().invoke(main, ["audit", *arguments], input=input)
    assert result.exit_code == code, result.output
    return result


def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json", *arguments).stdout.splitlines()]


def lines_of(trail: Trail) -> list[bytes]:
    return trail.path.read_bytes().splitlines(keepends=True)


# --- list -------------------------------------------------------------------------------------------------------------


def test_the_list_says_who_did_what_newest_first(trail):
    assert [line.split("\t") for line in run("list").stdout.splitlines()[:4]] == [
        ["time", "entry", "actor", "action", "details"],
        ["2025-10-09 08:53:24", "4", "os:root", "config.start", "config=" + "ab" * 16],
        [
            *("2025-10-09 08:53:23", "3", "account:anna", "key.create"),
            'key=hf_ab12cd34 tenant=acme features=["answer","sum"]',
        ],
        ["2025-10-09 08:53:22", "2", "account:anna", "sign_in", ""],
    ]


def test_the_list_can_be_narrowed(trail):
    assert [entry["n"] for entry in listed("--actor", "account:anna")] == [3, 2]
    assert [entry["n"] for entry in listed("--action", "sign_in")] == [2]
    assert [entry["n"] for entry in listed("--since", "2025-10-09T08:53:23Z")] == [4, 3]
    assert [entry["n"] for entry in listed("--limit", "1")] == [4]


def test_json_holds_all_of_an_entry(trail):
    (entry,) = listed("--limit", "1")
    assert list(entry) == ["n", "at", "actor", "action", "details", "prev", "hash"]
    assert entry["prev"] == listed("--limit", "2")[1]["hash"]


def test_an_entry_can_not_control_the_terminal(trail):
    trail.append("account:\x1b[2J\n\x07eve", "sign_in_failed", account="\x1b]0;owned\x07")
    told = run("list", "--limit", "1").stdout
    assert "\x1b" not in told
    assert len(told.splitlines()) == 2


def test_an_unknown_action_is_refused_with_those_there_are(trail):
    told = run("list", "--action", "sign-in", code=2).stderr
    assert "'sign_in'" in told


def test_nothing_found_is_said(trail):
    assert run("list", "--actor", "nobody").stderr == "No entries.\n"
    assert listed("--actor", "nobody") == []


# --- verify -----------------------------------------------------------------------------------------------------------


def test_a_sound_trail_is_said_to_be_sound_and_by_whom_it_is_signed(trail):
    result = run("verify")
    key = trail.verify().key
    assert result.stdout == f"4 entries, nothing was changed. The head is signed with the key {key}.\n"
    assert result.stderr == ""
    assert json.loads(run("verify", "--json").stdout) == {
        "ok": True,
        "entries": 4,
        "key": key,
        "findings": [],
        "warnings": [],
    }


def test_all_that_is_wrong_is_told_with_its_line(trail):
    lines = lines_of(trail)
    lines[2] = lines[2].replace(b"acme", b"evil")
    trail.path.write_bytes(b"".join([lines[0], *lines[2:]]))
    told = run("verify", code=1)
    assert [line.partition(":")[0] for line in told.stdout.splitlines()] == ["line 2", "line 3"]
    assert "2 entries as written; something was changed" in told.stderr
    report = json.loads(run("verify", "--json", code=1).stdout)
    assert (report["ok"], [finding["line"] for finding in report["findings"]]) == (False, [2, 3])


def test_without_the_master_key_it_is_said_which_key_to_compare(trail, home):
    copy = home / "copy"
    copy.mkdir()
    for path in (trail.path, trail.head_path):
        (copy / path.name).write_bytes(path.read_bytes())
    result = run("verify", "--state", "copy")
    assert f"compare the key with yours: {trail.verify().key}" in result.stderr
    assert sorted(os.listdir(copy)) == ["audit.head", "audit.jsonl"]


def test_a_master_key_that_is_configured_and_not_there_is_a_warning(trail, home):
    (home / "holdfast.toml").write_text('[privacy]\nmaster_key = { env = "NO_SUCH_KEY" }\n')
    told = run("verify").stderr
    assert "The environment variable NO_SUCH_KEY of the master key is not set" in told
    assert "The master key is not at hand" in told


def test_a_place_of_the_master_key_that_is_none_is_an_error(trail, home):
    (home / "holdfast.toml").write_text('[privacy]\nmaster_key = { enf = "KEY" }\n')
    assert "[privacy] master_key" in run("verify", code=2).stderr


def test_a_trail_rolled_back_with_its_head_is_found_by_a_head_kept_elsewhere(trail, home):
    earlier = trail.path.read_bytes(), trail.head_path.read_bytes()
    trail.append("os:root", "erase", subject="cd" * 16)
    head = run("head").stdout_bytes
    (home / "heads.jsonl").write_bytes(earlier[1] + head)
    assert run("verify", "--head", "heads.jsonl").exit_code == 0
    trail.path.write_bytes(earlier[0])
    trail.head_path.write_bytes(earlier[1])
    assert run("verify").exit_code == 0
    assert "it was rolled back" in run("verify", "--head", "heads.jsonl", code=1).stdout
    assert "it was rolled back" in run("verify", "--head", "-", input=head, code=1).stdout


def test_a_file_without_heads_is_refused(trail, home):
    (home / "heads.jsonl").write_text("{}\n")
    assert (
        "heads.jsonl:1: this is not what holdfast audit head printed"
        in run("verify", "--head", "heads.jsonl", code=2).stderr
    )


def test_a_trail_that_is_not_signed_is_told_as_a_warning(home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ciphers, "available", lambda: False)
    find(None, None).trail().append("os:root", "export")
    result = run("verify")
    assert result.stdout == "1 entry, nothing was changed.\n"
    assert "Heads are not signed" in result.stderr
    assert sorted(os.listdir(home / ".holdfast")) == ["audit.head", "audit.jsonl"]


def test_without_the_extra_every_command_works_and_says_what_it_can_not_do(trail):
    program = "import sys; sys.modules['cryptography'] = None; from holdfast.cli import main; main()"
    for command in ("list", "head", "verify"):
        arguments = [sys.executable, "-c", program, "audit", command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert ("The signature was not checked" in done.stderr) == (command == "verify")


# --- head -------------------------------------------------------------------------------------------------------------


def test_the_head_is_a_line_of_json(trail):
    told = run("head").stdout
    assert told.endswith("}\n")
    assert (json.loads(told)["entries"], json.loads(told)["key"]) == (4, trail.verify().key)


def test_a_head_that_is_damaged_or_gone_is_not_to_be_kept(trail):
    trail.head_path.write_bytes(b"{}\n")
    assert "it is no head: see holdfast audit verify" in run("head", code=2).stderr
    trail.head_path.unlink()
    assert "There is no head at" in run("head", code=2).stderr


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "verify", "head"])
def test_a_directory_that_is_not_there_is_said_to_be_missing_and_not_made(home, command):
    assert "There is no state directory at" in run(command, code=2).stderr
    assert list(home.iterdir()) == []


def test_a_directory_without_a_trail_has_nothing_to_verify(home):
    (home / ".holdfast").mkdir()
    assert "there is no audit trail here" in run("verify", code=2).stderr
    assert run("list").stderr == "No entries.\n"
    assert list((home / ".holdfast").iterdir()) == []


def test_the_trail_is_the_one_beside_the_log_of_the_configuration(trail, home):
    (home / "other.toml").write_text('[log]\npath = "elsewhere/log.db"\n')
    trail.path.parent.rename(home / "elsewhere")
    assert len(listed("--config", "other.toml")) == 4
    assert len(listed("--state", "elsewhere")) == 4
