"""How judging models are asked, and what their answers mean."""

import json

import pytest

from holdfast.chat import Choice, Reply, Text
from holdfast.guards.base import Context
from holdfast.guards.failures import GuardFailed
from holdfast.guards.moderation import EndpointJudge, ModelJudge

INPUT, OUTPUT = Context(direction="input"), Context(direction="output")


def moderation(flagged, scores, flags=None):
    categories = flags if flags is not None else {name: score > 0.5 for name, score in scores.items()}
    result = {
        "flagged": flagged,
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": {},
    }
    return json.dumps({"id": "modr-1", "model": "omni-moderation-latest", "results": [result]}).encode()


def endpoint(body, **settings):
    asked = []

    async def post(question):
        asked.append(json.loads(question))
        return body

    return EndpointJudge("moderation", post, **settings), asked


def model(*answers, **settings):
    asked, left = [], list(answers)

    async def chat(request):
        asked.append(request)
        return Reply(id="1", model="m", choices=(Choice(parts=(Text(text=left.pop(0)),)),))

    return ModelJudge("judge", chat, model="guard", **settings), asked


async def test_the_endpoint_is_asked_about_the_text():
    judge, asked = endpoint(moderation(False, {"hate": 0.1}))
    assert (await judge.judge("hello \ud800", INPUT)).kind == "pass"
    assert asked == [{"model": "omni-moderation-latest", "input": "hello ?"}]


async def test_what_the_endpoint_flags_is_blocked_with_its_scores():
    judge, _ = endpoint(moderation(True, {"hate": 0.1, "violence": 0.9, "self-harm/intent": 0.7}))
    verdict = await judge.judge("...", INPUT)
    assert (verdict.kind, verdict.score) == ("block", 0.9)
    assert [(found.kind, found.score) for found in verdict.findings] == [("violence", 0.9), ("self-harm/intent", 0.7)]
    assert verdict.reason == "judged as violence, self-harm/intent"


async def test_only_the_named_categories_count():
    judge, _ = endpoint(moderation(True, {"hate": 0.1, "violence": 0.9}), categories=["hate"])
    assert (await judge.judge("...", INPUT)).kind == "pass"


@pytest.mark.parametrize(("threshold", "kind"), [(0.05, "block"), (0.5, "pass")])
async def test_a_threshold_takes_the_place_of_the_flags(threshold, kind):
    judge, _ = endpoint(moderation(True, {"hate": 0.1}, {"hate": True}), threshold=threshold)
    assert (await judge.judge("...", INPUT)).kind == kind


async def test_a_flag_without_a_category_blocks():
    judge, _ = endpoint(moderation(True, {}, {"illicit": None}))
    assert (await judge.judge("...", INPUT)).kind == "block"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[" * 100_000, b'{"results": []}', b'{"results": [{"flagged": "no"}]}', b'{"error": {}}', b"\xff"],
)
async def test_an_answer_that_is_not_understood_is_a_failure(body):
    judge, _ = endpoint(body)
    with pytest.raises(GuardFailed):
        await judge.judge("...", INPUT)


async def test_a_category_that_the_endpoint_does_not_know_is_a_failure():
    judge, _ = endpoint(moderation(False, {"hate": 0.1}), categories=["hatred"])
    with pytest.raises(GuardFailed, match="hatred"):
        await judge.judge("...", INPUT)


@pytest.mark.parametrize(
    ("answer", "kinds"),
    [
        ("safe", []),
        ("\n\nsafe\n", []),
        ("unsafe\nS1", ["violent crimes"]),
        ("\n\nunsafe\nS10, S11", ["hate", "self-harm"]),
        ("unsafe", ["unsafe"]),
        ("unsafe\nS99", ["unsafe"]),
        ("UNSAFE\nS2", ["non-violent crimes"]),
    ],
)
async def test_llama_guard_is_understood(answer, kinds):
    judge, asked = model(answer, dialect="llama-guard")
    verdict = await judge.judge("text", INPUT)
    assert [found.kind for found in verdict.findings] == kinds
    assert verdict.kind == ("block" if kinds else "pass")
    (request,) = asked
    assert [(message.role, message.text) for message in request.messages] == [("user", "text")]
    assert (request.model, request.temperature) == ("guard", 0)


@pytest.mark.parametrize("answer", ["", "I think this is safe.", "not unsafe", "safe\nS1", "sa"])
async def test_llama_guard_that_says_something_else_is_a_failure(answer):
    judge, _ = model(answer, dialect="llama-guard")
    with pytest.raises(GuardFailed):
        await judge.judge("text", INPUT)


async def test_hazards_that_do_not_count_pass():
    judge, _ = model("unsafe\nS6", dialect="llama-guard", categories=["S1"])
    assert (await judge.judge("text", INPUT)).kind == "pass"


async def test_an_answer_is_judged_with_its_question():
    judge, asked = model("safe", "safe", dialect="llama-guard")
    await judge.judge("answer", OUTPUT, asked="question")
    await judge.judge("answer", OUTPUT)
    roles = [[(message.role, message.text) for message in request.messages] for request in asked]
    assert roles == [[("user", "question"), ("assistant", "answer")], [("user", "answer")]]


@pytest.mark.parametrize(
    ("answer", "kind", "score"),
    [
        ("Yes", "block", 1.0),
        ("No", "pass", None),
        ("Yes\n<confidence> High </confidence>", "block", 1.0),
        ("Yes\n<confidence> Low </confidence>", "block", 0.5),
        ("No\n<confidence> Low </confidence>", "pass", None),
        ("<score> yes </score>", "block", 1.0),
        ("<think>\nIs it <score>yes</score>?\n</think>\n\n<score>\nno\n</score>", "pass", None),
        ('{"score": "yes"}', "block", 1.0),
    ],
)
async def test_granite_guardian_is_understood(answer, kind, score):
    judge, _ = model(answer, dialect="granite-guardian")
    verdict = await judge.judge("text", INPUT)
    assert (verdict.kind, verdict.score) == (kind, score)


@pytest.mark.parametrize("answer", ["", "Yesterday", "<score> maybe </score>", "Failed", "yes and no"])
async def test_granite_guardian_that_says_something_else_is_a_failure(answer):
    judge, _ = model(answer, dialect="granite-guardian")
    with pytest.raises(GuardFailed):
        await judge.judge("text", INPUT)


@pytest.mark.parametrize(
    ("dialect", "key"), [("granite-guardian", "criteria_id"), ("granite-guardian-3.2", "risk_name")]
)
async def test_granite_guardian_is_asked_for_each_criterion_until_one_is_met(dialect, key):
    judge, asked = model("No", "Yes", dialect=dialect, categories=["harm", "jailbreak", "violence"])
    verdict = await judge.judge("text", INPUT)
    assert verdict.reason == "judged as jailbreak"
    configs = [request.extra["chat_template_kwargs"]["guardian_config"] for request in asked]
    assert configs == [{key: "harm"}, {key: "jailbreak"}]


def test_an_unknown_hazard_is_refused():
    with pytest.raises(ValueError, match="S15"):
        model(dialect="llama-guard", categories=["S15"])
