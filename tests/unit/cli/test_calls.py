import fcntl
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from holdfast.chat import Choice, EmbeddingRequest, Image, Message, Reply, Request, Text, ToolCall, ToolResult
from holdfast.cli import main
from holdfast.cli.timeline import bar
from holdfast.events import Attempt, Call, Repair, Snapshot
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.subjects import SubjectHasher
from log_samples import ATTEMPT, CHANGE, FAILED, LEDGER, REQUEST, START_US, make_call

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
    assert f"There is no log at {home}/.holdfast/log.db (started in another folder?)" in result.stderr
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
    db.execute("UPDATE body_blocks SET data = x'00'")
    db.close()
    assert "in a form that this version can't read" in run("show", id_of(0), code=2).stderr


# --- lists ------------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_what_a_person_looks_for(log: SqliteLog) -> None:
    late = make_call(2, outcome="last_resort", error="timeout", cost_nanousd=None, usage=None)
    log.append([make_call(1, tags={"a": "1", "b": "2"}, tenant="acme", key="hf_ab12cd34"), late])
    told = {
        "time": ("2025-10-09 08:53:22", "2025-10-09 08:53:21"),
        "id": (id_of(2), id_of(1)),
        "name": ("answer", "answer"),
        "model": ("gpt", "gpt"),
        "outcome": ("last_resort timeout", "answered"),
        "took": ("812 ms", "812 ms"),
        "attempts": ("2", "2"),
        "tokens": ("?", "500+300"),
        "cost $": ("?", "0.000123"),
        "tags": ("-", "a=1, b=2"),
        "tenant": ("", "acme"),
        "key": ("", "hf_ab12cd34"),
        "notes": ("", ""),
    }
    lines = [line.split("\t") for line in run().stdout.splitlines()]
    assert lines == [list(told), *map(list, zip(*told.values(), strict=True))]


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
        (["--contract", "Answer"], {"contract": "Answer"}),
        (["--repaired"], {"repairs": 1}),
        (["--replayed"], {"replayed": "01CALL"}),
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
        (["--since", "yesterday"], "expected a time such as 2026-01-31T12:00:00Z or a duration"),
        (["--tag", "team"], "a tag is written name=value, got 'team'"),
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


# --- terminals --------------------------------------------------------------------------------------------------------


def seen(width: int, *arguments: str) -> list[str]:
    """Return the lines on a terminal of this width, without colours."""
    env = {"TTY_COMPATIBLE": "1", "COLUMNS": str(width), "LINES": "50", "TERM": "xterm"}
    result = CliRunner().invoke(main, ["calls", *arguments], env=env)
    assert result.exit_code == 0, result.output
    lines = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()
    assert max(map(len, lines)) <= width
    return lines


def a_day() -> list[Call]:
    """Calls of today that ended in each way, as the gateway records them."""
    now = round(time.time() * 1e6)
    failed = {"model": None, "provider": None, "usage": None, "reply": None}
    return [
        make_call(1, at_us=now - 3, id="01M7Z4CA2ZABWJD1EYT3JPRTE8", tags={"page": "help"}),
        make_call(
            2, at_us=now - 2, id="01M7Z4CA31HR97AQYVFS739GH8", outcome="error", error="broken_stream",
            message="The stream ended before its end was announced. " * 3, cost_nanousd=None, **failed,
        ),
        make_call(
            3, at_us=now - 1, id="01M7Z4DA31NVPFWPF1ZNHZA8XQ", name="", outcome="error", error="model_not_found",
            cost_nanousd=0, attempts=(), **failed,
        ),
        make_call(4, at_us=now, id="01M7Z4EA31D1NZSS1CEVVWBYCA", duration_us=12_345_678),
    ]  # fmt: skip


def test_eighty_columns_show_what_happened_in_one_line_a_call(log: SqliteLog) -> None:
    log.append(a_day())
    head, rule, *lines = seen(80)
    assert head.split() == ["time", "id", "name", "model", "outcome", "took", "attempts"]
    assert set(rule) == {"─"}
    cells = [re.split("  +", line)[1:] for line in lines]
    assert cells == [
        ["01M7Z4EA31", "answer", "gpt", "answered", "12.3 s", "2"],
        ["01M7Z4DA31", "(unknown)", "-", "error model_not_found", "812 ms", "0"],
        ["01M7Z4CA31", "answer", "-", "error broken_stream", "812 ms", "2"],
        ["01M7Z4CA2Z", "answer", "gpt", "answered", "812 ms", "2"],
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d  ", line) for line in lines)
    assert "error broken_stream" in "\n".join(seen(80, "show", "01m7z4ca31"))


@pytest.mark.parametrize(
    ("width", "more"),
    [(90, "tokens"), (100, "cost $"), (132, "01M7Z4EA31D1NZSS1CEVVWBYCA"), (160, f"{datetime.now(UTC):%Y}-")],
)
def test_wider_terminals_show_more(log: SqliteLog, width: int, more: str) -> None:
    log.append(a_day())
    assert more in "\n".join(seen(width))
    assert more not in "\n".join(seen(80))
    assert ("page=help" in "\n".join(seen(width))) is (width == 160)


@pytest.mark.parametrize("width", [30, 40, 50, 60, 70])
def test_narrow_terminals_leave_out_much_but_never_what_was_asked_for_and_how_it_ended(
    log: SqliteLog, width: int
) -> None:
    log.append(a_day())
    lines = seen(width)
    assert len(lines) == 6
    assert all("answer" in lines[n] for n in (2, 4, 5))
    assert "error broken" in lines[4]


REASKED = structs.replace(ATTEMPT, reason="reask")


def mended() -> list[Call]:
    """Calls of today whose answers a model did not simply give."""
    now = round(time.time() * 1e6)
    return [
        make_call(1, at_us=now - 3, contract="Answer", repairs=3, ledger=LEDGER),
        make_call(2, at_us=now - 2, contract="Answer", repairs=1, attempts=(ATTEMPT, REASKED, REASKED)),
        make_call(3, at_us=now - 1, replayed=id_of(1), attempts=()),
        make_call(4, at_us=now, samples=5, agreement=0.8),
    ]


NOTES = ["80% agree", "replayed", "1 repair, 2 re-asks", "3 repairs"]


def test_the_list_tells_how_answers_came_to_be_that_were_not_simply_given(log: SqliteLog) -> None:
    log.append(mended())
    assert [line.split("\t")[-1] for line in run().stdout.splitlines()] == ["notes", *NOTES]


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 132, 160])
def test_a_terminal_has_room_for_notes_where_there_are_any(log: SqliteLog, width: int) -> None:
    log.append(mended())
    lines = seen(width)
    assert len(lines) == 6
    assert (lines[0].split()[-1] == "notes") is (width >= 70)
    if width >= 132:
        assert [re.split("  +", line)[-1] for line in lines[2:]] == NOTES
    assert all("answered" in line for line in lines[2:])


def test_long_names_are_cut_and_errors_are_not(log: SqliteLog) -> None:
    log.append([make_call(1, name="n" * 60, model="m" * 60, outcome="error", error="provider_authentication")])
    (line,) = seen(80)[2:]
    assert "nn…" in line
    assert "mm…" in line
    assert "error provider_authentication" in line


def test_calls_of_other_days_show_their_date(log: SqliteLog) -> None:
    log.append([make_call(1)])
    assert seen(80)[2].startswith("10-09 08:53  ")


def test_ids_are_cut_where_they_still_differ(log: SqliteLog) -> None:
    log.append([make_call(n, id=f"01M7Z4CA2ZAB{n}JD1EYT3JPRTE8") for n in range(3)])
    assert [re.split("  +", line)[1] for line in seen(80)[2:]] == ["01M7Z4CA2ZAB2", "01M7Z4CA2ZAB1", "01M7Z4CA2ZAB0"]


def test_a_name_of_many_lines_takes_one_in_the_list(log: SqliteLog) -> None:
    log.append([make_call(1, name="a\nb\tc")])
    assert "a b c" in run().stdout.splitlines()[1].split("\t")
    assert len(seen(80)) == 3


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_the_timeline_fits_the_terminal_with_its_messages_below(log: SqliteLog, width: int) -> None:
    log.append([make_call(1, attempts=(structs.replace(FAILED, message="It was " + "very " * 20 + "busy."), ATTEMPT))])
    lines = seen(width, "show", id_of(1))
    (head,) = [line for line in lines if line.startswith("attempt ")]
    assert head.split() == ["attempt", "0", "time", "812", "ms", "took", "result", "cost", "$"]
    failed = next(n for n, line in enumerate(lines) if line.startswith("house "))
    assert "overloaded" in lines[failed]
    assert lines[failed + 1].startswith("  It was very")
    bars = [len(re.findall("[─●━]", line)) for line in lines if line.startswith("gpt ")]
    assert bars == [min(40, width - len("gpt      811 ms  overloaded  0.000123") - 2)]


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_totals_fit_the_terminal(log: SqliteLog, width: int) -> None:
    log.append(a_day())
    lines = seen(width, "totals")
    assert lines[0].split()[:4] == ["name", "model", "outcome", "calls"]
    assert any(line.startswith("(unknown)") and "error model_not_found" in line for line in lines)
    below = lines[lines.index("attempts by model") + 1 :]
    assert below[0].split()[:5] == ["model", "result", "attempts", "of", "model"]
    assert [line.split()[:4] for line in below[2:]] == [
        ["gpt", "answered", "3", "100.0"],
        ["house", "overloaded", "3", "100.0"],
    ]


def test_a_real_terminal_has_its_width_and_a_pipe_has_none(log: SqliteLog) -> None:
    log.append(a_day())
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "holdfast", "calls"]
    subprocess.run(command, stdout=theirs, env=env | {"TERM": "xterm", "NO_COLOR": "1"}, check=True)
    os.close(theirs)
    shown = re.sub(rb"\x1b\[[0-9;]*m", b"", os.read(ours, 65536)).decode().splitlines()
    os.close(ours)
    assert shown[0].split() == ["time", "id", "name", "model", "outcome", "took", "attempts"]
    piped = subprocess.run(command, stdout=subprocess.PIPE, env=env | {"COLUMNS": "80"}, check=True, text=True).stdout
    assert [line.count("\t") for line in piped.splitlines()] == [12] * 5


# --- one call ---------------------------------------------------------------------------------------------------------


def test_a_call_is_shown_as_a_timeline_with_its_bodies(log: SqliteLog) -> None:
    log.append([make_call(cost_nanousd=None, session="s1", tags={"team": "kelp"})])
    output = run("show", id_of(0)).stdout
    for text in ("answered", "unknown", "s1", "team=kelp", "overloaded", "\n  busy\n", "first token after 299 ms"):
        assert text in output
    assert "─●━" in output
    assert output.index("Where is the kelp?") < output.index("On the rock.")


def test_a_call_tells_how_its_answer_came_to_meet_its_contract(log: SqliteLog) -> None:
    broken = structs.replace(ATTEMPT, error="contract_violated", saved_tokens=40, ignored=True)
    log.append(
        [
            make_call(
                1, contract="Answer", repairs=3, ledger=LEDGER, replayed=id_of(7), samples=5, agreement=0.8,
                fingerprint="fp_1", attempts=(broken, REASKED),
            )
        ]
    )  # fmt: skip
    output = run("show", id_of(1)).stdout
    for fact in (
        r"contract +Answer\n", r"repairs +3\n", r"re-asks +1\n", rf"replayed +the answer of call {id_of(7)}\n",
        r"agreement +80% of 5 samples\n", r"fingerprint +fp_1\n", r"\n  mends an answer that broke its contract; ",
        r"given up about 40 tokens early; its server broke a constraint that it had accepted\n",
        r"\n  fence    at 0 +```json\\n  \(nothing\)\n",
        r"""\n  quotes   at 12 +'kelp' +"kelp"\n""",
        r"\n  literal  choice 1, tool call 0, at 3  None +null\n",
    ):  # fmt: skip
        assert re.search(fact, output), fact


@pytest.mark.parametrize("width", [60, 80, 100, 132, 160])
def test_the_ledger_fits_the_terminal(log: SqliteLog, width: int) -> None:
    long = Repair("prose", 0, "Sure! Here is\x1b[2J\twhat you asked for: " * 50, "")
    many = tuple([Repair("control", n, "\x00", "\\u0000") for n in range(30)])
    log.append([make_call(1, contract="Answer", repairs=31, ledger=(long, *many))])
    lines = seen(width, "show", id_of(1))
    (prose,) = [line for line in lines if line.startswith("  prose")]
    assert "Sure! Here is\\x1b" in prose
    assert "…" in prose
    assert len([line for line in lines if line.startswith("  control")]) == 19
    assert lines[-1] == "  and 11 more: see --json"


def test_a_ledger_that_is_not_kept_is_said_to_be_missing(log: SqliteLog) -> None:
    log.append([make_call(1, store="metadata", repairs=3, ledger=LEDGER)])
    output = run("show", id_of(1)).stdout
    assert re.search(r"repairs +3, which the log does not keep \(store = metadata\)\n", output)
    assert "kelp" not in output


def test_json_tells_all_of_a_repaired_call(log: SqliteLog) -> None:
    log.append([make_call(1, contract="Answer", repairs=3, ledger=LEDGER, samples=5, agreement=0.8)])
    shown = json.loads(run("show", id_of(1), "--json").stdout)
    assert (shown["contract"], shown["repairs"], shown["samples"], shown["agreement"]) == ("Answer", 3, 5, 0.8)
    assert shown["ledger"][0] == {
        "kind": "fence", "offset": 0, "before": "```json\n", "after": "", "choice": 0, "tool": None, "attempt": 0,
    }  # fmt: skip
    assert "ledger" not in listed()[0]


# --- fingerprints -----------------------------------------------------------------------------------------------------


def test_changes_of_fingerprints_are_listed(log: SqliteLog) -> None:
    assert run("fingerprints").stderr == "No changes.\n"
    other = structs.replace(CHANGE, at_us=START_US + 1, model="house", after="house\x1b 2")
    log.append([CHANGE, other])
    assert [line.split("\t") for line in run("fingerprints").stdout.splitlines()] == [
        ["time", "model", "provider", "before", "after"],
        ["2025-10-09 08:53:20", "house", "openai", "gpt-5 fp_1", "house\ufffd 2"],
        ["2025-10-09 08:53:20", "gpt", "openai", "gpt-5 fp_1", "gpt-5 fp_2"],
    ]
    assert len(run("fingerprints", "--limit", "1").stdout.splitlines()) == 2
    (change,) = [json.loads(line) for line in run("fingerprints", "--model", "gpt", "--json").stdout.splitlines()]
    assert change == {
        "at": "2025-10-09T08:53:20.000000Z", "at_us": START_US, "model": "gpt", "provider": "openai",
        "before": "gpt-5 fp_1", "after": "gpt-5 fp_2",
    }  # fmt: skip
    assert run("fingerprints", "--since", "1h").stderr == "No changes.\n"


@pytest.mark.parametrize("width", [60, 80, 132])
def test_changes_of_fingerprints_fit_the_terminal(log: SqliteLog, width: int) -> None:
    log.append([structs.replace(CHANGE, before="gpt-5-mini-2025-08-07 fp_" + "0" * 20, after="x" * 60)])
    lines = seen(width, "fingerprints")
    assert len(lines) == 3
    assert "gpt-5-mini" in lines[2]


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


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({}, "reply: stop"),
        ({"outcome": "last_resort"}, "reply: stop"),
        ({"outcome": "error", "error": "contract_violated"}, "reply, not delivered: stop"),
        ({"outcome": "cancelled", "error": "cancelled"}, "reply, not delivered: stop"),
        ({"outcome": "error", "error": "broken_stream", "stream": True}, "reply, not delivered to its end: stop"),
    ],
)
def test_a_reply_that_its_caller_did_not_get_is_said_not_to_be_delivered(
    log: SqliteLog, change: dict[str, Any], title: str
) -> None:
    log.append([make_call(**({"stream": False} | change))])
    assert title in run("show", id_of(0)).stdout.splitlines()


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
    total, *attempts = [json.loads(line) for line in run("totals", "--json").stdout.splitlines()]
    assert (total["calls"], total["unpriced"], total["cost_usd"]) == (2, 1, "0.000123456")
    assert [(sums["of"], sums["model"], sums["error"], sums["attempts"]) for sums in attempts] == [
        ("attempts", "gpt", "", 2),
        ("attempts", "house", "overloaded", 1),
    ]
    recent, tried = [json.loads(line) for line in run("totals", "--since", "1h", "--json").stdout.splitlines()]
    assert (recent["calls"], recent["attempts"], tried["attempts"]) == (1, 1, 1)
    assert "1000+600" in run("totals").stdout


def test_a_sum_of_which_nothing_is_known_is_unknown_and_not_nothing(log: SqliteLog) -> None:
    unknown = structs.replace(ATTEMPT, cost_nanousd=None)
    log.append([make_call(at, cost_nanousd=None, attempts=(unknown,)) for at in (1, 2)])
    head, total, *_, tried_head, tried = [line.split("\t") for line in run("totals").stdout.splitlines()]
    assert (total[head.index("cost $")], total[head.index("of unknown cost")]) == ("?", "2")
    assert (tried[tried_head.index("cost $")], tried[tried_head.index("of unknown cost")]) == ("?", "2")
    assert [json.loads(line)["cost_usd"] for line in run("totals", "--json").stdout.splitlines()] == [None, None]
    log.append([make_call(3, cost_nanousd=0, attempts=(structs.replace(ATTEMPT, cost_nanousd=0),))])
    zero = "0.000000000"  # which is known of one of them
    assert [json.loads(line)["cost_usd"] for line in run("totals", "--json").stdout.splitlines()] == [zero, zero]


# --- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--error", "timout"], "No call in the log has the error 'timout'. Did you mean timeout?"),
        (["--model", "gtp"], "No call in the log has the model 'gtp'. Did you mean gpt?"),
        (["--name", "zzz"], "No call in the log has the name 'zzz'. There are: answer, other."),
        (["--error", "overloaded"], "Attempts have it, though"),
    ],
)
def test_a_value_that_never_occurs_is_told_with_the_nearest_that_does(
    log: SqliteLog, options: list[str], hint: str
) -> None:
    log.append([make_call(1, name="other"), make_call(2, outcome="error", error="timeout")])
    result = run(*options)
    assert result.stdout == ""
    assert result.stderr.startswith("No calls.\n")
    assert hint in result.stderr


def test_a_value_that_occurs_elsewhere_is_no_mistake(log: SqliteLog) -> None:
    log.append([make_call(1, error="timeout", outcome="error")])
    assert run("--error", "timeout", "--since", "1h").stderr == "No calls.\n"


# --- the configuration of a call --------------------------------------------------------------------------------------

TOML = '[features.answer]\nprompt = "prompts/answer.md"\n'
FILES = {"holdfast.toml": TOML, "prompts/answer.md": "You work at {{ shop }}."}


@pytest.fixture
def configured(log: SqliteLog) -> SqliteLog:
    request = structs.replace(REQUEST, extra={"holdfast": {"variables": {"shop": "Kelp & Co"}}})
    log.append([Snapshot(hash="0123456789abcdef", at_us=START_US, files=FILES), make_call(1, request=request)])
    return log


def test_the_configuration_of_a_call_is_printed_file_by_file(configured: SqliteLog) -> None:
    output = run("show", id_of(1), "--config").stdout
    assert output == f"# --- holdfast.toml ---\n{TOML}\n# --- prompts/answer.md ---\nYou work at {{{{ shop }}}}.\n\n"
    shown = json.loads(run("show", id_of(1), "--config", "--json").stdout)
    assert shown == {"hash": "0123456789abcdef", "at": "2025-10-09T08:53:20.000000Z", "files": FILES}


def test_a_configuration_that_the_log_has_not_is_an_error(log: SqliteLog) -> None:
    log.append([make_call(1)])
    assert "no configuration 0123456789abcdef" in run("show", id_of(1), "--config", code=2).stderr


def test_a_call_shows_its_variables_and_the_prompt_that_they_made(configured: SqliteLog) -> None:
    output = run("show", id_of(1)).stdout
    assert "shop = Kelp & Co" in output
    assert "prompt: prompts/answer.md\n  You work at Kelp & Co.\n" in output


@pytest.mark.parametrize("extra", [{}, {"holdfast": 1}, {"holdfast": {"variables": {"other": "x"}}}])
def test_a_prompt_that_can_not_be_made_again_is_left_out(configured: SqliteLog, extra: dict[str, Any]) -> None:
    configured.append([make_call(2, request=structs.replace(REQUEST, extra=extra))])
    assert "prompt: " not in run("show", id_of(2)).stdout


def test_tokens_that_are_surely_none_are_zero(log: SqliteLog) -> None:
    log.append([make_call(1, usage=None, cost_nanousd=0), make_call(2, usage=None, cost_nanousd=None)])
    assert [line.split("\t")[7:9] for line in run().stdout.splitlines()[1:]] == [["?", "?"], ["0", "0.000000"]]
    assert re.search(r"tokens +0\n", run("show", id_of(1)).stdout)
    assert re.search(r"tokens +unknown\n", run("show", id_of(2)).stdout)


def test_what_is_piped_ends_without_spaces(log: SqliteLog) -> None:
    log.append(a_day())
    output = run("show", "01M7Z4CA31").stdout + run().stdout + run("totals").stdout
    assert [line for line in output.splitlines() if line.endswith(" ")] == []


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
