"""What is sent and what comes back, the same for every system."""

import json
from collections.abc import Iterator

CHUNKS = 100
"""Events of a streamed answer, without the closing [DONE]."""
TOKENS = CHUNKS - 2
"""Events of a streamed answer that carry text: all but the first (role) and the last (finish)."""
TOKEN = " token"
TEXT = ("The quick brown fox jumps over the lazy dog. " * 16)[:680]
"""The text of an answer that is not streamed."""

_ID, _CREATED, _MODEL = "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", 1741570283, "gpt-4o-mini"
_USAGE = {
    "prompt_tokens": 463,
    "completion_tokens": 98,
    "total_tokens": 561,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def request(model: str, *, stream: bool) -> bytes:
    """Return the body of a chat completion request of about 2 KB."""
    passage = "A holdfast anchors kelp to the rock while the water moves, and everything above it may bend. " * 17
    messages = [
        {"role": "system", "content": "You answer questions about the passage, briefly and only from the passage."},
        {"role": "user", "content": f"Passage: {passage}\nQuestion: what does a holdfast do?"},
    ]
    body = {"model": model, "messages": messages, "temperature": 0.2, "max_tokens": 256}
    return _encode(body | {"stream": True} if stream else body)


def reply() -> bytes:
    """Return a chat completion of about 1.3 KB."""
    message: dict[str, object] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    return _encode(
        {
            "id": _ID,
            "object": "chat.completion",
            "created": _CREATED,
            "model": _MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035",
        }
    )


def events(chunks: int, *, usage: bool) -> Iterator[bytes]:
    """Iterate over the events of a streamed answer, the closing [DONE] included."""
    yield _event([_choice({"role": "assistant", "content": "", "refusal": None}, None)])
    for number in range(1, chunks - 1):
        yield _event([_choice({"content": f"{TOKEN}{number}"}, None)])
    yield _event([_choice({}, "stop")])
    if usage:
        yield _event([], usage=_USAGE)
    yield b"data: [DONE]\n\n"


def _choice(delta: dict[str, object], finish: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    head = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": _MODEL}
    rest = {"service_tier": "default", "system_fingerprint": "fp_fc9f1d7035", "choices": choices}
    return b"data: " + _encode(head | rest | more) + b"\n\n"


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
