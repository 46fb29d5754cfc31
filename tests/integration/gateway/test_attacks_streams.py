"""Streams that break in every way: what the caller has is always the beginning of what is logged."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import Reply
from holdfast.errors import BrokenStream, CallError, ConnectionFailed
from holdfast.gateway.hints import Hints
from integration.gateway.staged import (
    DONE,
    SILENT,
    Caller,
    Gateway,
    Play,
    Staged,
    answers,
    breaks,
    cut,
    delta,
    ends,
    fails,
    play,
    says,
)

ERROR_EVENT = b'data: {"error":{"message":"The engine died.","type":"server_error","code":500}}\n\n'
RESET = Hints(on_break="reset")


def told(*plays: list[Play], **request: Any) -> tuple[Caller, Any]:
    """Make one call of a gateway with these models, each of which plays in order."""

    async def scene(gateway: Gateway) -> None:
        for name, script in zip("abc", plays, strict=False):
            gateway.model(name, Staged(*script))
        gateway.serve(deadline=60.0, last_resort=request.pop("last_resort", None))
        await gateway.call(caller, **request)

    caller = Caller()
    (call,) = play(scene)
    return caller, call


# --- complete answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0.0, 0.2])
@pytest.mark.parametrize("late", [cut(), ERROR_EVENT, b"data: {broken\n\n", b"garbage"])
def test_what_goes_wrong_after_a_whole_answer_takes_nothing_from_it(late, after):
    whole = Play(((0.0, says("Kelp ")), (0.0, says("holds.")), (0.0, ends()), (after, late)))
    caller, call = told([whole], [answers("Another.")])
    assert (caller.error, caller.text, call.outcome, call.model) == (None, "Kelp holds.", "answered", "a")


def test_a_limit_that_comes_before_the_first_word_leaves_the_last_resort():
    empty = Play(((0.0, delta(role="assistant", content="")), (0.0, ends("length") + DONE)))
    caller, call = told([empty], [empty], last_resort="Later.")
    assert (caller.error, caller.text, call.outcome) == (None, "Later.", "last_resort")
    together = Play(((0.0, delta(role="assistant", content="") + ends("length") + DONE),))
    caller, call = told([together], [together], last_resort="Later.")
    assert (caller.error, caller.text, call.outcome) == (None, "Later.", "last_resort")


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_an_empty_answer_that_ends_is_an_answer(finish):
    caller, call = told([Play(((0.0, delta(role="assistant") + ends("stop") + DONE),))], [answers("Another.")])
    assert (caller.error, caller.text, call.outcome) == (None, "", "answered")


# --- cut answers ------------------------------------------------------------------------------------------------------

CALLS = [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]


@pytest.mark.parametrize(
    "said",
    [
        delta(tool_calls=CALLS),
        delta(reasoning_content="Hm"),
        delta(refusal="I can't"),
        says("x")
        + says(
            "y",
        ),
    ],
)
@pytest.mark.parametrize("end", [cut(), b"", ERROR_EVENT])
@pytest.mark.parametrize("hints", [None, RESET])
def test_a_cut_answer_is_never_presented_as_whole(said, end, hints):
    broken = Play(((0.0, said), (0.0, end))) if end else Play(((0.0, said),))
    caller, call = told([broken], [answers("Other.")], hints=hints)
    if hints is RESET:
        assert (caller.error, caller.text, caller.resets, call.outcome) == (None, "Other.", 1, "answered")
    else:
        assert isinstance(caller.error, CallError)
        assert call.outcome == "error"


@pytest.mark.parametrize("hints", [None, RESET])
def test_of_two_choices_one_that_is_cut_makes_the_answer_broken(hints):
    first = Play(((0.0, delta(content="A") + delta(1, content="B") + ends()), (0.0, cut())))
    second = Play(((0.0, delta(content="C") + delta(1, content="D") + ends() + ends(index=1) + DONE),))
    caller, call = told([first], [second], hints=hints, n=2)
    if hints is RESET:
        assert (caller.error, caller.text, call.outcome) == (None, "CD", "answered")
    else:
        assert isinstance(caller.error, BrokenStream | ConnectionFailed)


@pytest.mark.parametrize("hints", [None, RESET])
@pytest.mark.parametrize("said", ["Kelp", " ", "\n", ""])
def test_models_that_break_for_ever_end_the_call(said, hints):
    broken = breaks(said) if said else Play(((0.0, delta(role="assistant", content="")), (0.0, cut())))
    caller, call = told([broken], [broken], hints=hints)
    assert caller.error is not None
    assert len(call.attempts) <= 8


@pytest.mark.parametrize("cutting", [b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\xc3', b"data: {\\"])
def test_a_cut_inside_of_a_character_or_an_event_is_joined_right(cutting):
    first = Play(((0.0, says("Kelp ")), (0.0, cutting), (0.0, cut())))
    caller, _ = told([first], [answers("Kelp ", "hölds.")])
    assert (caller.error, caller.text) == (None, "Kelp hölds.")


def test_log_probabilities_are_whole_or_the_answer_is_not_joined():
    def token(text: str) -> bytes:
        choice = {
            "index": 0,
            "delta": {"content": text},
            "logprobs": {"content": [{"token": text, "logprob": -0.5, "bytes": None, "top_logprobs": []}]},
            "finish_reason": None,
        }
        return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"

    first = Play(((0.0, token("Kelp")), (0.0, cut())))
    second = Play(((0.0, token("Kelp")), (0.0, token(" holds")), (0.0, ends() + DONE)))
    caller, _ = told([first], [second], top_logprobs=0)
    if caller.error is None:
        probabilities = [p.token for chunk in caller.got for p in chunk.logprobs or ()]
        assert "".join(probabilities) == caller.text == "Kelp holds"


# --- the law ----------------------------------------------------------------------------------------------------------

TEXT = st.text(alphabet="ab \n", min_size=0, max_size=4)
EVENTS = st.one_of(
    TEXT.map(says),
    TEXT.map(says),
    TEXT.map(says),
    st.sampled_from(
        [
            delta(role="assistant", content=""),
            delta(reasoning_content="hm"),
            delta(tool_calls=CALLS),
            b": comment\n\n",
            b"data: {\n\n",
            ERROR_EVENT,
            ends(),
            ends("length"),
            ends("content_filter"),
            DONE,
            b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
            delta(1, content="other"),
            ends(index=1),
        ]
    ),
)
STEPS = st.tuples(st.sampled_from([0.0, 0.0, 0.1, 20.0]), st.one_of(EVENTS, EVENTS, EVENTS, st.builds(cut)))
PLAYS = st.one_of(
    st.builds(Play, st.lists(STEPS, max_size=6).map(tuple), after=st.sampled_from([0.0, 0.1, 0.5])),
    st.builds(
        lambda texts, after: answers(*texts, after=after), st.lists(TEXT, max_size=4), st.sampled_from([0.0, 0.3])
    ),
    st.just(answers("ab", " ", "ab")),
    st.just(SILENT),
    st.sampled_from([fails(500), fails(429, retry_after="0"), fails(400), fails(503, after=0.2)]),
)


@settings(max_examples=200, deadline=None)
@given(
    scripts=st.lists(st.lists(PLAYS, min_size=1, max_size=3), min_size=1, max_size=3),
    prefill=st.booleans(),
    hedge=st.sampled_from([False, 0.1]),
    resort=st.sampled_from([None, "Later."]),
    reset=st.booleans(),
    request=st.sampled_from([{}, {"max_tokens": 5}, {"n": 2}]),
    hang_up=st.sampled_from([None, None, 0, 1, 2]),
    seconds=st.sampled_from([0.001, 0.3, 5.0, 60.0]),
)
def test_what_the_caller_has_is_the_beginning_of_what_is_logged(
    scripts: list[list[Play]],
    prefill: bool,
    hedge: bool | float,
    resort: str | None,
    reset: bool,
    request: dict[str, int],
    hang_up: int | None,
    seconds: float,
) -> None:
    async def scene(gateway: Gateway) -> None:
        for name, script in zip("abc", scripts, strict=False):
            gateway.model(name, Staged(*script), prefill=prefill)
        gateway.serve(deadline=seconds, hedge=hedge, last_resort=resort)
        call = asyncio.create_task(gateway.call(caller, hints=RESET if reset else None, **request))

        def heard() -> None:
            nonlocal hang_up
            if hang_up is not None:
                hang_up -= 1
                if hang_up < 0:
                    call.cancel()

        caller.on_chunks = heard
        began = gateway.loop.time()
        await asyncio.wait([call])
        assert gateway.loop.time() - began <= seconds + 0.05
        assert call.cancelled() or call.exception() is None

    caller = Caller()
    (call,) = play(scene)
    assert caller.ends == (0 if call.outcome == "cancelled" else 1)
    assert call.error != "internal_error"
    choices = call.reply.choices if isinstance(call.reply, Reply) else ()
    had = dict.fromkeys(sorted({chunk.choice for chunk in caller.got}), "")
    for chunk in caller.got:
        had[chunk.choice] += chunk.text
    logged = [choice.text for choice in choices]
    assert len(logged) >= len(had)
    assert all(whole.startswith(said) for said, whole in zip(had.values(), logged, strict=False))
    if call.outcome in ("answered", "last_resort"):
        assert [*had.values()] == logged
    if call.outcome == "answered":
        assert isinstance(call.reply, Reply)
        assert not any(choice.finish == "cut" for choice in call.reply.choices)
        assert len(call.reply.choices) >= request.get("n", 1)
