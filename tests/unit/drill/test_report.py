import json
import re
from html.parser import HTMLParser

import msgspec
import pytest

from configurations import LOCAL
from holdfast.chat import Usage
from holdfast.config import parse
from holdfast.drill.faults import Fault, find
from holdfast.drill.observation import Observation
from holdfast.drill.page import render
from holdfast.drill.report import counts, duration, failures, sentences, summary, to_json, without_contract
from holdfast.drill.run import Drill, Row, Run
from holdfast.drill.speeds import USUAL
from holdfast.drill.targets import Target, targets
from holdfast.drill.verdict import Verdict
from holdfast.events import Attempt

CONFIGURATION = parse(
    {
        "holdfast.toml": LOCAL
        + """
[features.answer]
models = ["gpt", "spare"]
deadline = "8s"
"""
    }
)
TARGET = targets(CONFIGURATION)[0]
FAILED = Attempt(
    model="gpt", provider="openai", started_us=0, duration_us=700_000, first_token_us=400_000, error="broken_stream"
)
WORKED = Attempt(
    model="spare",
    provider="ollama",
    started_us=700_000,
    duration_us=900_000,
    reason="fallback",
    estimated=True,
    usage=Usage(input_tokens=9, output_tokens=57),
)


def run(verdict: Verdict, at: float = 0.0, took: float = 1.6, **seen) -> Run:
    told = Observation(
        took=took, stream=True, status=200, text="The ferry", pieces=((0.4, 4), (1.5, 5)), model="spare", **seen
    )
    return Run(at=at, seen=told, verdict=verdict, attempts=(FAILED, WORKED))


def row(fault: str, *runs: Run, target: Target = TARGET) -> Row:
    found: Fault = find([fault])[0]
    return Row(target=target, fault=found, mode="stream", deadline=8.0, runs=runs)


def drill(*rows: Row) -> Drill:
    speeds = dict.fromkeys(CONFIGURATION.config.models, USUAL)
    return Drill(configuration=CONFIGURATION, targets=[TARGET], speeds=speeds, rows=rows, seconds=99.0, took=2.0)


ANSWERED = Verdict(end="answered", note="by spare")
BROKEN = Verdict(end="broken", note="late: <i>60 ms</i> after the deadline")
REFUSED = Verdict(end="error", note="content_refused")
ERROR = Verdict(end="error", note="broken_stream")
RESORT = Verdict(end="last_resort")
DRILL = drill(
    row("none", run(ANSWERED)),
    row("cut", run(ERROR, message="The <stream> broke off.")),
    row("refused", run(REFUSED)),
    row("silence", run(RESORT)),
    row("all_down", run(RESORT)),
)


def test_the_worst_call_stands_for_its_row_and_of_these_the_slowest():
    calls = [run(ANSWERED, took=7.0), run(ERROR, took=1.0), run(ERROR, took=2.0), run(RESORT, took=3.0)]
    assert row("flapping", *calls).shown is calls[2]


@pytest.mark.parametrize(
    ("strictness", "failed"), [("broken", []), ("error", ["cut"]), ("last_resort", ["cut", "silence"])]
)
def test_strictness_fails_what_could_have_been_answered_and_nothing_else(strictness, failed):
    assert [row.fault.name for row in failures(DRILL, strictness)] == failed


@pytest.mark.parametrize("strictness", ["broken", "error", "last_resort"])
def test_a_broken_promise_fails_whatever_the_strictness(strictness):
    assert len(failures(drill(row("refused", run(BROKEN))), strictness)) == 1


def test_the_summary_counts_rows_and_says_whether_the_promise_was_kept():
    assert summary(DRILL) == (
        "Every promise was kept: of 5 rows, 1 answered, 2 got the last resort, 2 got a typed error."
    )
    broken = drill(*DRILL.rows, row("late", run(ANSWERED), run(BROKEN)))
    assert summary(broken).startswith("The promise was broken: of 6 rows")
    assert counts(broken.rows)["broken"] == 1


def test_json_has_every_row_with_what_was_seen_and_what_it_cost():
    told = json.loads(msgspec.json.encode(to_json(DRILL, "error")))
    assert told["passed"] is False
    assert told["summary"] == {"answered": 1, "last_resort": 2, "error": 2, "cancelled": 0, "broken": 0}
    first = told["rows"][0]
    assert (first["fault"], first["verdict"], first["kept"], first["tokens"]) == ("none", "kept: answered", True, 66)
    assert (first["first_token"], first["longest_gap"], first["took"]) == (0.4, 1.1, 1.6)
    assert [attempt["error"] for attempt in first["attempts"]] == ["broken_stream", None]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.25, "250 ms"), (1.0, "1 s"), (9.751, "9.75 s"), (30.0, "30 s"), (120, "120 s")],
)
def test_durations_read_as_a_person_would_write_them(seconds, text):
    assert duration(seconds) == text


# --- contracts ---

OFF = msgspec.structs.replace(TARGET, name="order", off="<order>.toml")
LEFT_OUT = msgspec.structs.replace(drill(row("cut", run(ANSWERED), target=OFF)), targets=[TARGET, OFF])


def test_a_last_resort_is_the_best_there_is_where_no_model_meets_the_contract():
    found = drill(row("all_wrong", run(RESORT)), row("wrong_shape", run(RESORT)))
    assert [row.fault.name for row in failures(found, "last_resort")] == ["wrong_shape"]


def test_repairs_are_told_where_the_answer_needed_any():
    mended = msgspec.structs.replace(run(ANSWERED), repairs=1)
    assert "1 repair to meet the contract" in sentences(row("fenced", mended))
    assert not any("repair" in sentence for sentence in sentences(row("fenced", run(ANSWERED))))
    assert to_json(drill(row("fenced", mended)))["rows"][0]["repairs"] == 1


def test_objects_are_told_as_what_came_first():
    told = run(ANSWERED, objects=(0.2,))
    assert "first object after 200 ms, longest gap 1.10 s" in sentences(row("none", told))


def test_a_feature_without_its_contract_is_named_in_json_and_on_the_page():
    assert without_contract(LEFT_OUT) == [OFF]
    assert to_json(LEFT_OUT)["without_contract"] == ["order"]
    assert "is off for this drill" in to_json(LEFT_OUT)["notes"]["order"][0]
    text = render(LEFT_OUT)
    assert "order: The contract &lt;order&gt;.toml is off for this drill" in text
    assert text.count("is off for this drill") == 2
    assert without_contract(DRILL) == []
    assert "is off for this drill" not in render(DRILL)


# --- the page ---


class Page(HTMLParser):
    """Checks that every element is closed, and keeps what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.links: set[str] = set()
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        fields = dict(attrs)
        if tag not in ("meta", "rect", "line", "circle", "path"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name == "src" or (name == "href" and tag != "a")]
        if tag == "a":
            self.links.add(fields["href"].removeprefix("#"))
        if "id" in fields:
            self.ids.append(fields["id"])

    def handle_startendtag(self, tag, attrs):
        """A stroke of a drawing."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


BAD = drill(*DRILL.rows, row("late", run(BROKEN)), row("flapping", run(ANSWERED), run(BROKEN, at=1.0)))


def test_the_page_is_whole_needs_nothing_from_elsewhere_and_leads_to_each_timeline():
    page = Page(render(BAD))
    assert page.open == []
    assert page.fetched == []
    assert page.links <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)) == len(BAD.rows)
    assert "url(" not in render(BAD)
    assert "<script" not in render(BAD)


def test_what_providers_wrote_is_no_markup():
    text = render(BAD)
    assert "The &lt;stream&gt; broke off." in text
    assert "<stream>" not in text
    assert "<i>60" not in text


def test_every_drawing_says_in_words_what_it_shows():
    text = render(BAD)
    labels = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', text)
    assert len(labels) == text.count("<svg") == len(BAD.rows)
    assert "gpt broken_stream, then spare answered" in labels[0]


def test_a_broken_promise_is_told_with_its_reason():
    text = render(BAD)
    assert "<h1>The promise was broken.</h1>" in text
    assert "late: &lt;i&gt;60 ms&lt;/i&gt; after the deadline" in text
