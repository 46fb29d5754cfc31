"""What callers of each wire read of streams that break, whichever wires the models speak: events in their order."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.chat import Reply
from holdfast.gateway.hints import Hints
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from integration.gateway.staged import (
    DONE,
    Gateway,
    Play,
    Reader,
    Staged,
    Step,
    cut,
    delta,
    ends,
    play,
    says,
)

TEXTS = ["Kelp ", "holds ", "on."]
TOOL = [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def event(type: str, /, **fields: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


def block(text: str, index: int = 0) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def message(texts: list[str], *, thinks: bool) -> list[bytes]:
    usage = {"input_tokens": 3, "output_tokens": 1}
    opening = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": usage}
    parts = [event("message_start", message=opening)]
    if thinks:
        thought = {"type": "thinking_delta", "thinking": "Hm."}
        parts.append(event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}))
        parts.append(event("content_block_delta", index=0, delta=thought))
        parts.append(event("content_block_stop", index=0))
    at = int(thinks)
    parts.append(event("content_block_start", index=at, content_block={"type": "text", "text": ""}))
    parts += [block(text, at) for text in texts]
    parts.append(event("content_block_stop", index=at))
    parts.append(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}))
    return [*parts, event("message_stop")]


def completion(texts: list[str], *, thinks: bool) -> list[bytes]:
    thoughts = [delta(reasoning_content="Hm.")] if thinks else []
    usage = b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'
    return [delta(role="assistant", content=""), *thoughts, *[says(text) for text in texts], ends(), usage, DONE]


@st.composite
def answers_of(draw: st.DrawFn) -> tuple[bool, Play]:
    """Return whether a model speaks the Anthropic wire, and what it says, which is likely to break."""
    anthropic, thinks = draw(st.booleans()), draw(st.sampled_from([False, False, False, True]))
    texts = draw(st.sampled_from([TEXTS, TEXTS, ["Kelp holds ", "on."], ["Other."], TEXTS[1:], []]))
    events = (message if anthropic else completion)(texts, thinks=thinks)
    at = draw(st.integers(0, len(events)))
    steps: list[Step] = [(draw(st.sampled_from([0.0, 0.1])), piece) for piece in events[:at]]
    if at < len(events):
        steps.append((0.0, cut()))
    return anthropic, Play(tuple(steps))


SCRIPTS = st.lists(st.lists(answers_of(), min_size=1, max_size=2), min_size=1, max_size=3)
WAYS = {
    "scripts": SCRIPTS,
    "prefill": st.booleans(),
    "reset": st.booleans(),
    "hedge": st.sampled_from([False, 0.05]),
    "resort": st.sampled_from([None, "Later."]),
}


def read(reader: Reader, scripts: Any, *, prefill: bool, reset: bool, hedge: bool | float, resort: str | None) -> Any:
    async def scene(gateway: Gateway) -> None:
        for name, script in zip("abc", scripts, strict=False):
            plays = [one for anthropic, one in script if anthropic == script[0][0]]
            upstream = AnthropicUpstream if script[0][0] else OpenAIUpstream
            gateway.model(name, Staged(*plays), upstream=upstream, prefill=prefill)
        gateway.serve(hedge=hedge, last_resort=resort)
        await gateway.call(reader, hints=Hints(on_break="reset" if reset else "fail"))

    (call,) = play(scene)
    assert call.error != "internal_error"
    return call


def logged(call: Any) -> str:
    return call.reply.text if isinstance(call.reply, Reply) else ""


@settings(max_examples=200, deadline=None)
@given(**WAYS)
def test_callers_of_messages_read_events_in_their_order(**ways: Any) -> None:
    reader = Reader(AnthropicSurface())
    call = read(reader, **ways)
    if not reader.events:
        assert call.outcome == "error"
        return
    started, open_block, blocks, text, ended = False, None, 0, "", ""
    for name, data in reader.events:
        assert name == data["type"]
        assert not ended, "nothing follows the end"
        match name:
            case "holdfast.reset":
                started, open_block, blocks, text = False, None, 0, ""
            case "message_start":
                assert not started
                started = True
            case "content_block_start":
                assert started
                assert open_block is None
                assert data["index"] == blocks
                open_block, blocks = data["content_block"]["type"], blocks + 1
            case "content_block_delta":
                assert open_block is not None
                assert data["index"] == blocks - 1
                if data["delta"]["type"] == "text_delta":
                    assert open_block == "text"
                    text += data["delta"]["text"]
            case "content_block_stop":
                assert open_block is not None
                open_block = None
            case "message_delta":
                assert open_block is None
                assert "output_tokens" in data["usage"]
                assert data["delta"]["stop_reason"] is not None
            case "message_stop" | "error":
                assert started or name == "error"
                ended = name
    assert ended == ("error" if call.outcome == "error" else "message_stop")
    assert text == logged(call)


@settings(max_examples=200, deadline=None)
@given(**WAYS)
def test_callers_of_completions_read_one_end_and_only_of_whole_answers(**ways: Any) -> None:
    reader = Reader(OpenAISurface())
    call = read(reader, **ways)
    if not reader.events:
        assert call.outcome == "error"
        return
    text, finishes, errors, ids = "", [], 0, set()
    *events, last = reader.events
    for name, data in [*events, last]:
        if data == b"[DONE]":
            continue
        if name == "holdfast.reset":
            text, finishes, ids = "", [], set()
            continue
        errors += "error" in data
        for choice in data.get("choices", ()):
            ids.add(data["id"])
            text += choice["delta"].get("content") or ""
            finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert text == logged(call)
    assert len(ids) <= 1
    if call.outcome == "error":
        assert (errors, finishes) == (1, [])
        assert last[1] != b"[DONE]"
    else:
        assert (errors, finishes) == (0, ["stop"])
        assert last[1] == b"[DONE]"
