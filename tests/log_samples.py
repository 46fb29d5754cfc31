"""Events for the tests of the log."""

from typing import Any

from holdfast.chat import Choice, Message, Reply, Request, Text, Usage
from holdfast.events import Attempt, Call, FingerprintChanged, Repair

START_US = 1_760_000_000_000_000
USAGE = Usage(input_tokens=500, output_tokens=300, cache_read_tokens=100)
REQUEST = Request(model="answer", messages=(Message(role="user", parts=(Text(text="Where is the kelp?"),)),))
REPLY = Reply(id="r1", model="gpt-5-mini", choices=(Choice(parts=(Text(text="On the rock."),)),), usage=USAGE)
ATTEMPT = Attempt(
    model="gpt",
    provider="openai",
    started_us=120,
    duration_us=811_000,
    first_token_us=299_000,
    served_model="gpt-5-mini-2025-08-07",
    provider_status=200,
    usage=USAGE,
    cost_nanousd=123_456,
)
FAILED = Attempt(
    model="house", provider="vllm", started_us=0, duration_us=5_000, error="overloaded", message="busy", cost_nanousd=0
)

FENCE = Repair("fence", 0, "```json\n", "")
LEDGER = (FENCE, Repair("quotes", 12, "'kelp'", '"kelp"'), Repair("literal", 3, "None", "null", choice=1, tool=0))
CHANGE = FingerprintChanged(at_us=START_US, model="gpt", provider="openai", before="gpt-5 fp_1", after="gpt-5 fp_2")


def make_call(n: int = 0, **changes: Any) -> Call:
    """Call number `n`: its id and its time of arrival follow from it."""
    fields: dict[str, Any] = {
        "id": f"01CALL{n:020d}",
        "at_us": START_US + n * 1_000_000,
        "kind": "chat",
        "wire": "openai",
        "name": "answer",
        "config": "0123456789abcdef",
        "outcome": "answered",
        "status": 200,
        "duration_us": 812_345,
        "feature": "answer",
        "model": "gpt",
        "provider": "openai",
        "served_model": "gpt-5-mini-2025-08-07",
        "finish": "stop",
        "first_token_us": 300_000,
        "usage": USAGE,
        "cost_nanousd": 123_456,
        "attempts": (FAILED, ATTEMPT),
        "request": REQUEST,
        "reply": REPLY,
    }
    return Call(**fields | changes)
