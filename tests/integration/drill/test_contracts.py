"""Features with contracts, votes, examples and replays under faults: the whole gateway before simulated models."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from configurations import CLAUDE, GPT
from holdfast.config import parse
from holdfast.drill.faults import find
from holdfast.drill.report import to_json
from holdfast.drill.run import Drill, Row, run
from holdfast.drill.targets import targets

FILES = {
    "holdfast.toml": GPT
    + CLAUDE
    + """
[models.vectors]
provider = "openai"
name     = "text-embedding-3-small"
api_key  = { env = "A_KEY_THAT_NOBODY_HAS" }

[features.held]
models      = ["gpt", "claude"]
contract    = "ticket.json"
deadline    = "20s"
last_resort = { object = { topic = "other", urgent = true, summary = "Later." } }

[features.objects]
models   = ["gpt", "claude"]
contract = "ticket.json"
stream   = "object"
deadline = "20s"

[features.passed]
models   = ["gpt", "claude"]
contract = "ticket.json"
stream   = "pass"
deadline = "20s"

[features.voted]
models   = ["gpt", "claude"]
contract = "topic.toml"
vote     = { samples = 5 }
deadline = "20s"

[features.replayed]
models       = ["gpt", "claude"]
contract     = "topic.toml"
reproducible = true
deadline     = "20s"

[features.off]
models   = ["gpt", "claude"]
contract = "order.toml"
deadline = "20s"

[features.shown]
models   = ["gpt", "claude"]
contract = "order.toml"
deadline = "20s"

[features.shown.examples]
file       = "orders.jsonl"
select     = "nearest"
k          = 1
embeddings = "vectors"
""",
    "ticket.json": """{"type": "object", "properties": {
        "topic": {"enum": ["delivery", "other"]}, "urgent": {"type": "boolean"}, "summary": {"type": "string"}
    }, "required": ["topic", "urgent", "summary"], "additionalProperties": false}""",
    "topic.toml": 'choice = ["delivery", "returns"]',
    "order.toml": "pattern = '[A-Z]{2}-[0-9]{6}'",
    "orders.jsonl": '{"input": "Which?", "output": "AB-123456"}\n{"input": "And mine?", "output": "CD-123456"}\n',
}
CONFIGURATION = parse(FILES, base=Path("/nowhere"))
CONTRACT_FAULTS = ("fenced", "wrong_once", "wrong_shape", "all_wrong")


def drill(feature: str, *faults: str) -> Drill:
    return run(CONFIGURATION, targets(CONFIGURATION, [feature]), find(faults))


def rows(feature: str, *faults: str) -> dict[tuple[str, str], Row]:
    return {(row.fault.name, row.mode): row for row in drill(feature, *faults).rows}


def ends(feature: str, *faults: str) -> dict[tuple[str, str], str]:
    """Return who answered each row, or how else it ended."""
    return {
        key: row.shown.seen.model if row.verdict.end == "answered" else row.verdict.note or row.verdict.end
        for key, row in rows(feature, *faults).items()
    }


def both(**found: str) -> dict[tuple[str, str], str]:
    return {(fault, mode): end for fault, end in found.items() for mode in ("whole", "stream")}


def reasons(row: Row) -> Sequence[tuple[str, str | None]]:
    return [(attempt.reason, attempt.error) for attempt in row.shown.attempts]


@pytest.mark.parametrize("feature", ["held", "objects", "replayed", "shown"])
def test_what_is_right_is_answered_and_what_is_wrong_is_mended_or_another_model_answers(feature):
    last = "last_resort" if feature == "held" else "contract_violated"
    assert ends(feature, "none", "cut", "cut_reworded", *CONTRACT_FAULTS) == both(
        none="gpt",
        cut="claude",
        cut_reworded="claude",
        fenced="gpt",
        wrong_once="gpt",
        wrong_shape="claude",
        all_wrong=last,
    )


def test_a_fence_is_told_as_repairs_and_a_wrong_answer_as_attempts_at_mending_it():
    found = rows("held", "none", "fenced", "wrong_once")
    assert found["none", "stream"].shown.repairs == 0
    assert found["fenced", "whole"].shown.repairs == found["fenced", "stream"].shown.repairs == 2
    assert reasons(found["wrong_once", "whole"]) == [("first", "contract_violated"), ("reask", None)]


def test_a_stream_that_is_passed_on_can_not_be_repaired():
    found = ends("passed", "fenced", "wrong_once", "cut_reworded")
    assert found["fenced", "whole"] == "gpt"
    assert found["fenced", "stream"] == "claude"
    assert found["wrong_once", "stream"] == "gpt"
    assert found["cut_reworded", "stream"] == "claude"  # which is given what was said, and goes on


def test_objects_are_seen_as_they_come_and_are_all_that_is_heard_before_the_end():
    row = rows("objects", "none")["none", "stream"]
    seen = row.shown.seen
    assert len(seen.objects) > 10
    assert seen.first_token == seen.objects[0] < seen.took / 2
    assert msgspec.json.decode(seen.text) == seen.object


def test_answers_that_are_voted_on_meet_no_fault_that_only_streams_have_and_one_wrong_vote_changes_nothing():
    found = rows("voted", "none", "error_once", "error_event", "no_done", "wrong_once", "wrong_shape")
    assert {fault for fault, _ in found} == {"none", "error_once", "wrong_once", "wrong_shape"}
    assert {row.shown.seen.model for (fault, _), row in found.items() if fault != "wrong_shape"} == {"gpt"}
    assert found["wrong_shape", "whole"].shown.seen.model == "claude"
    errors = [error for _, error in reasons(found["wrong_once", "whole"])]
    assert len(errors) == 5
    assert 3 <= errors.count(None) < 5


def test_no_answer_is_given_again_in_the_place_of_a_fault():
    row = rows("replayed", "outage")["outage", "whole"]
    assert len(row.runs) == 10
    assert all(run.attempts for run in row.runs)
    assert row.verdict.end == "answered"


def test_what_finds_examples_is_at_work_before_the_fault_is():
    found = rows("shown", "none", "hang_up", "unreachable")
    assert all(row.met for row in found.values())
    assert found["none", "whole"].shown.seen.text == "AB-123456"
    assert found["none", "whole"].shown.seen.took < 0.7  # of which 0.4 s are the model's
    assert found["hang_up", "stream"].verdict.end == "cancelled"
    assert found["unreachable", "whole"].shown.seen.model == "claude"


def test_a_contract_that_nothing_meets_is_off_and_the_report_says_so():
    played = drill("off", "none", "cut", *CONTRACT_FAULTS)
    assert {row.fault.name for row in played.rows} == {"none", "cut"}
    assert {row.verdict.end for row in played.rows} == {"answered"}
    told = to_json(played)
    assert told["without_contract"] == ["off"]
    assert "order.toml is off for this drill" in told["notes"]["off"][0]


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_callers_of_every_feature_who_hang_up_leave_nobody_at_work(mode):
    for feature in ("held", "objects", "passed", "voted", "replayed"):
        assert rows(feature, "hang_up")["hang_up", mode].verdict.end == "cancelled"
