import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.chat import Choice, EmbeddingRequest, Image, Message, Reply, Request, Text, ToolCall, ToolResult
from holdfast.cli import main
from holdfast.cli.timeline import bar
from holdfast.events import Attempt
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.subjects import SubjectHasher
from log_samples import ATTEMPT, START_US, make_call

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def log(home: Path) -> SqliteLog:
    return SqliteLog(".holdfast/log.db")


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["calls", *arguments])
    assert result.exit_code == code, result.output
    return result


def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("--json", *arguments).stdout.splitlines()]


def ids(*arguments: str) -> list[str]:
    return [call["id"] for call in listed(*arguments)]


def id_of(n: int) -> str:
    return make_call(n).id


# --- which log --------------------------------------------------------------------------------------------------------


def test_a_missing_log_is_said_to_be_missing_and_not_made(home: Path) -> None:
    result = run(code=2)
    assert "There is no log at .holdfast/log.db" in result.stderr
    assert list(home.iterdir()) == []


def test_the_log_is_the_one_that_the_configuration_names(home: Path) -> None:
    (home / "holdfast.toml").write_text('[log]\npath = "elsewhere/calls.db"\n')
    SqliteLog("elsewhere/calls.db").append([make_call()])
    assert ids() == [id_of(0)]


def test_an_option_names_another_log(log: SqliteLog) -> None:
    log.append([make_call(1)])
    SqliteLog("other.db").append([make_call(2)])
    assert ids("--log", "other.db") == [id_of(2)]
    assert json.loads(run("--log", "other.db", "show", id_of(2), "--json").stdout)["id"] == id_of(2)
    assert json.loads(run("--json", "show", id_of(2), "--log", "other.db").stdout)["id"] == id_of(2)


def test_a_configuration_that_can_not_be_read_is_an_error(home: Path) -> None:
    (home / "holdfast.toml").write_text("[log\n")
    assert "holdfast.toml can't be read" in run(code=2).stderr


@pytest.mark.parametrize("content", [b"not a log" * 1000, b""])
def test_a_file_that_is_no_log_is_refused_and_left_as_it_is(home: Path, content: bytes) -> None:
    (home / "x.db").write_bytes(content)
    assert "x.db" in run("--log", "x.db", code=2).stderr
    assert (home / "x.db").read_bytes() == content


def test_a_damaged_call_is_an_error_and_no_traceback(log: SqliteLog) -> None:
    log.append([make_call()])
    db = sqlite3.connect(log.path, isolation_level=None)
    db.execute("UPDATE bodies SET request = '{'")
    db.close()
    assert "in a form that this version can't read" in run("show", id_of(0), code=2).stderr


# --- lists ------------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_what_a_person_looks_for(log: SqliteLog) -> None:
    log.append([make_call(1), make_call(2, outcome="last_resort", error="timeout", cost_nanousd=None, usage=None)])
    lines = run().stdout.splitlines()
    assert lines[0].split() == ["time", "id", "name", "model", "outcome", "tokens", "cost", "$", "took", "attempts"]
    assert "2025-10-09 08:53:22" in lines[2]
    assert lines[2].split()[2:] == [id_of(2), "answer", "gpt", "last_resort:", "timeout", "?", "?", "812", "ms", "2"]
    assert lines[3].split()[2:] == [id_of(1), "answer", "gpt", "answered", "500+300", "0.000123", "812", "ms", "2"]


def test_an_empty_log_says_so_beside_the_output(log: SqliteLog) -> None:
    assert (run().stdout, run().stderr) == ("", "No calls.\n")
    assert (run("--json").stdout, run("--json").stderr) == ("", "")
    assert run("totals").stderr == "No calls.\n"


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (["--name", "other"], {"name": "other"}),
        (["--model", "house"], {"model": "house"}),
        (["--outcome", "error"], {"outcome": "error"}),
        (["--error", "timeout"], {"error": "timeout"}),
        (["--session", "s1"], {"session": "s1"}),
        (["--tag", "team=kelp=x"], {"tags": {"team": "kelp=x"}}),
        (["--subject", "ab" * 16], {"subject": "ab" * 16}),
    ],
)
def test_each_filter_finds_its_calls_alone(log: SqliteLog, options: list[str], change: dict[str, Any]) -> None:
    log.append([make_call(1), make_call(2, **change)])
    assert ids(*options) == [id_of(2)]


def test_a_subject_is_found_by_its_name(log: SqliteLog) -> None:
    hasher = SubjectHasher.load(Path(".holdfast"))
    log.append([make_call(1, subject=hasher.hash("ada")), make_call(2, subject=hasher.hash("bob"))])
    assert ids("--subject", "ada") == [id_of(1)]


def test_a_subject_without_the_key_is_an_error_and_makes_no_key(log: SqliteLog) -> None:
    assert "give the hash" in run("--subject", "ada", code=2).stderr
    assert not Path(".holdfast/subject.key").exists()


def test_since_and_until_take_durations_and_times(log: SqliteLog) -> None:
    now = datetime.now(UTC)
    ages = [timedelta(minutes=1), timedelta(hours=2), timedelta(days=3)]
    log.append([make_call(n, at_us=round((now - age).timestamp() * 1e6)) for n, age in enumerate(ages)])
    assert ids("--since", "90m") == [id_of(0)]
    assert ids("--since", (now - timedelta(hours=3)).isoformat()) == [id_of(0), id_of(1)]
    assert ids("--until", f"{now - timedelta(hours=3):%Y-%m-%dT%H:%M:%S}") == [id_of(2)]
    assert ids("--since", "1d", "--until", "1h") == [id_of(1)]
    assert len(ids("--since", "999999999999d")) == 3


def test_a_limit_cuts_the_list(log: SqliteLog) -> None:
    log.append([make_call(n) for n in range(30)])
    assert len(ids()) == 20
    assert ids("--limit", "1") == [id_of(29)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "yesterday"], "neither a duration"),
        (["--tag", "team"], "has no ="),
        (["--outcome", "fine"], "is not one of"),
        (["--limit", "0"], "not in the range"),
    ],
)
def test_a_wrong_option_is_explained(log: SqliteLog, options: list[str], message: str) -> None:
    assert message in run(*options, code=2).stderr


def test_names_can_neither_colour_nor_control_the_terminal(log: SqliteLog) -> None:
    log.append([make_call(name="[red]x[/]\x1b[2J", tags={"a": "\x07"}, error="[b]", outcome="error")])
    for output in (run().stdout, run("show", id_of(0)).stdout):
        assert "[red]x[/]" in output
        assert "[b]" in output
        assert "\x1b" not in output
        assert "\x07" not in output


# --- one call ---------------------------------------------------------------------------------------------------------


def test_a_call_is_shown_as_a_timeline_with_its_bodies(log: SqliteLog) -> None:
    log.append([make_call(cost_nanousd=None, session="s1", tags={"team": "kelp"})])
    output = run("show", id_of(0)).stdout
    for text in ("answered", "unknown", "s1", "team=kelp", "overloaded: busy", "first token after 299 ms"):
        assert text in output
    assert "─●━" in output
    assert output.index("Where is the kelp?") < output.index("On the rock.")


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(log: SqliteLog) -> None:
    log.append([make_call(n) for n in range(5)])
    assert id_of(3) in run("show", id_of(3).lower()).stdout
    assert "More than one call begins with 01C" in run("show", "01C", code=2).stderr
    assert "no call 02" in run("show", "02", code=2).stderr
    log.append([make_call(99, id="01Z")])
    assert json.loads(run("show", "01z", "--json").stdout)["id"] == "01Z"


def test_an_id_that_another_begins_with_is_found(log: SqliteLog) -> None:
    log.append([make_call(1, id="01A"), make_call(2, id="01AB")])
    assert json.loads(run("show", "01A", "--json").stdout)["id"] == "01A"


def test_a_call_without_bodies_says_why(log: SqliteLog) -> None:
    log.append([make_call(store="metadata")])
    assert "store = metadata" in run("show", id_of(0)).stdout


def test_parts_that_are_not_text_are_named(log: SqliteLog) -> None:
    call = ToolCall(id="c1", name="look", arguments='{"at":"sea"}')
    result = ToolResult(call_id="c1", content=(Text(text="waves"),))
    request = Request(
        model="m",
        messages=(
            Message(role="user", parts=(Text(text="see"), Image(data="AAAA", media_type="image/png"))),
            Message(role="tool", parts=(result,)),
        ),
    )
    reply = Reply(id="r", model="m", choices=(Choice(parts=(call,), finish="tool_calls"),))
    log.append([make_call(1, request=request, reply=reply)])
    output = run("show", id_of(1)).stdout
    for text in ("[image]", "[tool result c1] waves", '[tool call c1] look({"at":"sea"})', "reply: tool_calls"):
        assert text in output
    log.append([make_call(2, kind="embeddings", request=EmbeddingRequest(model="e", input=("a", "b")), reply=None)])
    assert "request: input" in run("show", id_of(2)).stdout


def test_json_of_a_call_has_its_bodies_and_that_of_a_list_has_not(log: SqliteLog) -> None:
    log.append([make_call()])
    shown = json.loads(run("show", id_of(0), "--json").stdout)
    (entry,) = listed()
    assert shown["request"]["messages"][0]["parts"][0]["text"] == "Where is the kelp?"
    assert set(shown) - set(entry) == {"request", "reply"}
    assert (entry["at"], entry["at_us"], entry["cost_usd"]) == ("2025-10-09T08:53:20.000000Z", START_US, "0.000123456")


@pytest.mark.parametrize(
    ("attempt", "drawn"),
    [
        ({"started_us": 0, "duration_us": 100, "first_token_us": None}, "──────────"),
        ({"started_us": 0, "duration_us": 100, "first_token_us": 50}, "─────●━━━━"),
        ({"started_us": 50, "duration_us": 50, "first_token_us": 0}, "     ●━━━━"),
        ({"started_us": 0, "duration_us": 0, "first_token_us": None}, "─         "),
        ({"started_us": 100, "duration_us": 0, "first_token_us": 0}, "         ●"),
        ({"started_us": 0, "duration_us": 200, "first_token_us": 199}, "─────────●"),
    ],
)
def test_a_bar_has_the_width_of_its_axis_and_marks_the_first_token(attempt: dict[str, Any], drawn: str) -> None:
    assert bar(100, Attempt(model="m", provider="p", **attempt), 10) == drawn


def test_a_call_that_took_no_time_has_a_bar_all_the_same() -> None:
    assert bar(0, Attempt(model="m", provider="p", started_us=0, duration_us=0), 10).strip() == "─"


# --- totals -----------------------------------------------------------------------------------------------------------


def test_totals_are_sums_since_the_log_began_or_a_moment(log: SqliteLog) -> None:
    now = round(time.time() * 1e6)
    log.append([make_call(1), make_call(2, at_us=now, cost_nanousd=None, attempts=(ATTEMPT,))])
    (total,) = [json.loads(line) for line in run("totals", "--json").stdout.splitlines()]
    assert (total["calls"], total["unpriced"], total["cost_usd"]) == (2, 1, "0.000123456")
    (recent,) = [json.loads(line) for line in run("totals", "--since", "1h", "--json").stdout.splitlines()]
    assert (recent["calls"], recent["attempts"]) == (1, 1)
    assert "1000+600" in run("totals").stdout


# --- tail -------------------------------------------------------------------------------------------------------------


def test_tail_goes_on_with_calls_as_they_come_and_ends_at_an_interrupt(log: SqliteLog) -> None:
    log.append([make_call(n) for n in range(3)])
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "calls", "--json", "--tail", "--limit", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    assert process.stdout is not None
    read = process.stdout.readline
    assert [json.loads(read())["id"] for _ in range(2)] == [id_of(1), id_of(2)]
    log.append([make_call(0, id="01LATE"), make_call(10)])
    assert [json.loads(read())["id"] for _ in range(2)] == ["01LATE", id_of(10)]
    log.append([make_call(11)])
    assert json.loads(read())["id"] == id_of(11)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")
