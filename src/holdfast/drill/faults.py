"""The table of faults: what befalls the model that a feature tries first.

Damage is written as in the scripts of the simulated providers. `{cut}` stands for the place in the answer where it
strikes, in tokens; `{late}` for ten times the model's usual first-token delay; `{gap}` for a silence longer than the
feature's `idle` timeout; `{never}` for longer than any deadline. What is wrong with the answer itself is not damage,
but what `says`.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Literal

import msgspec

from holdfast.drill.answers import Kind

Mode = Literal["whole", "stream"]
Group = Literal[
    "Usual", "Refusals of service", "Silence", "Broken streams", "Odd streams", "Contracts", "Requests", "Outages",
    "Callers",
]  # fmt: skip


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """`damage` lasts, `steps` come one a request (see the simulated providers) and then all is well again.

    `others` is how the other models behave; with `everywhere` they are damaged like the first. With `reworded` they
    answer in other words than the first. `says` is which of the feature's answers a damaged model gives, `once` whether
    only to the first request: that is for features whose contract tells it from a right one. `unreachable`: nothing
    listens where the model was. The row makes `calls` calls, one `every` so many seconds, which share what the gateway
    learns. `deadline` is the caller's own, in seconds; `leaves` when the caller hangs up, as a share of the time that
    the answer usually takes.
    """

    name: str
    title: str
    about: str
    group: Group
    damage: str = ""
    steps: tuple[str, ...] = ()
    rounds: int = 1
    others: str = ""
    everywhere: bool = False
    reworded: bool = False
    says: Kind = "reply"
    once: bool = False
    unreachable: bool = False
    calls: int = 1
    every: float = 0.0
    deadline: float | None = None
    leaves: float | None = None
    modes: tuple[Mode, ...] = ("whole", "stream")


_STREAM: tuple[Mode, ...] = ("stream",)

FAULTS: tuple[Fault, ...] = (
    Fault(name="none", group="Usual", title="nothing is wrong", about="Every model answers at its usual speed."),
    Fault(
        name="rate_limit",
        group="Refusals of service",
        title="429 once, Retry-After 1 s",
        about="The first model refuses one request and says when to come back.",
        steps=("status=429,retry_after=1",),
    ),
    Fault(
        name="throttled",
        group="Refusals of service",
        title="429 for good",
        about="The first model refuses every request, and asks for a minute's patience.",
        damage="status=429,retry_after=60",
    ),
    Fault(
        name="error_once",
        group="Refusals of service",
        title="500 once",
        about="One request to the first model fails.",
        steps=("status=500",),
    ),
    Fault(
        name="reset_once",
        group="Refusals of service",
        title="connection reset once",
        about="The first model's connection is reset before it has answered, once.",
        steps=("reset=start",),
    ),
    Fault(
        name="unreachable",
        group="Refusals of service",
        title="connection refused",
        about="Nothing listens at the first model's address.",
        unreachable=True,
    ),
    Fault(
        name="key_revoked",
        group="Refusals of service",
        title="key no longer valid",
        about="The first model's provider answers every request with a 401.",
        damage="status=401",
    ),
    Fault(
        name="error_page",
        group="Refusals of service",
        title="200 with an HTML page",
        about="In front of the first model something answers with a page for people.",
        damage="malformed=html",
    ),
    Fault(
        name="silence",
        group="Silence",
        title="silence",
        about="The first model takes the request and never says a word.",
        damage="stall=start",
    ),
    Fault(
        name="late",
        group="Silence",
        title="first token 10 times late",
        about="The first model takes ten times as long as usual to begin.",
        damage="ttft={late}",
    ),
    Fault(
        name="gap",
        group="Silence",
        title="long gap in the answer",
        about="The first model falls silent inside its answer for longer than the idle timeout, then goes on.",
        damage="stall={cut},for={gap}",
    ),
    Fault(
        name="cut",
        group="Broken streams",
        title="cut inside the answer",
        about="The first model's connection is closed inside the answer. The others would say the same.",
        damage="cut={cut}",
    ),
    Fault(
        name="reset",
        group="Broken streams",
        title="reset inside the answer",
        about="The first model's connection is reset inside the answer. The others would say the same.",
        damage="reset={cut}",
    ),
    Fault(
        name="stalled",
        group="Broken streams",
        title="stalls inside the answer",
        about="The first model falls silent inside the answer, for good. The others would say the same.",
        damage="stall={cut}",
    ),
    Fault(
        name="cut_reworded",
        group="Broken streams",
        title="cut, the others word it differently",
        about="The first model's connection is closed inside the answer, and the other models use other words.",
        damage="cut={cut}",
        reworded=True,
    ),
    Fault(
        name="cut_no_prefill",
        group="Broken streams",
        title="cut, the others refuse to continue",
        about="The first model is cut off inside the answer, and the others answer a prefilled request with a 400.",
        damage="cut={cut}",
        others="prefill=refuse",
    ),
    Fault(
        name="error_event",
        group="Broken streams",
        title="error event inside the answer",
        about="The first model ends its stream with an error event.",
        damage="error_event={cut}",
        modes=_STREAM,
    ),
    Fault(
        name="bad_event",
        group="Broken streams",
        title="malformed event inside the answer",
        about="One event of the first model's stream is not JSON.",
        damage="malformed=bad_json,at={cut}",
    ),
    Fault(
        name="odd_framing",
        group="Odd streams",
        title="comments, CRLF, split UTF-8",
        about="The first model's stream has comment lines, CRLF line ends, and a pause inside a character.",
        damage="malformed=comments,malformed=crlf,split=0u",
        modes=_STREAM,
    ),
    Fault(
        name="no_done",
        group="Odd streams",
        title="no [DONE]",
        about="The first model's stream ends without the marker of its end, its answer being whole.",
        damage="malformed=no_done",
        modes=_STREAM,
    ),
    Fault(
        name="twice_finished",
        group="Odd streams",
        title="finish twice, usage everywhere",
        about="The first model says twice why it ended, and its usage with every event.",
        damage="malformed=duplicate_finish,malformed=usage_every",
        modes=_STREAM,
    ),
    Fault(
        name="fenced",
        group="Contracts",
        title="right, but in a code fence",
        about="The first model puts a fence around what would meet the contract.",
        says="fenced",
    ),
    Fault(
        name="wrong_once",
        group="Contracts",
        title="wrong shape once",
        about="The first model's answer breaks the contract, and is right when it is asked again.",
        says="wrong",
        once=True,
    ),
    Fault(
        name="wrong_shape",
        group="Contracts",
        title="wrong shape for good",
        about="The first model's answers break the contract, also when it is told what is wrong.",
        says="wrong",
    ),
    Fault(
        name="all_wrong",
        group="Contracts",
        title="every model in the wrong shape",
        about="No model's answers meet the contract.",
        says="wrong",
        everywhere=True,
    ),
    Fault(
        name="too_long",
        group="Requests",
        title="longer than its context",
        about="The request is longer than the first model takes.",
        damage="context=2",
    ),
    Fault(
        name="refused",
        group="Requests",
        title="content refused",
        about="The first model's provider refuses the content.",
        damage="refuse=prompt",
    ),
    Fault(
        name="outage",
        group="Outages",
        title="503 for good, 10 calls",
        about="The first model is down for ten seconds, with a call every second.",
        damage="status=503",
        calls=10,
        every=1.0,
    ),
    Fault(
        name="flapping",
        group="Outages",
        title="up and down for a minute",
        about="The first model is down for five seconds, up for five, for a minute. A call every second.",
        steps=("status=503,lasts=5s", "lasts=5s"),
        rounds=6,
        calls=75,
        every=1.0,
    ),
    Fault(
        name="all_down",
        group="Outages",
        title="every model down",
        about="Every model answers every request with a 503.",
        damage="status=503",
        everywhere=True,
    ),
    Fault(
        name="all_silent",
        group="Outages",
        title="every model silent",
        about="Every model takes the request and never says a word.",
        damage="stall=start",
        everywhere=True,
    ),
    Fault(
        name="hang_up",
        group="Callers",
        title="the caller hangs up",
        about="The caller leaves in the middle of the answer: nobody should pay for the rest.",
        leaves=0.5,
    ),
    Fault(
        name="impatient",
        group="Callers",
        title="the caller's deadline of 1 s",
        about="The caller gives the call a second, and every model needs longer.",
        damage="ttft={never}",
        everywhere=True,
        deadline=1.0,
    ),
)  # fmt: skip


def find(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults of these names in the order of the table; all of them for no name.

    Raises:
        ValueError: there is none of a name.
    """
    known = [fault.name for fault in FAULTS]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"there is no fault {name!r}: {hint}")
    return tuple(fault for fault in FAULTS if fault.name in names or not names)
