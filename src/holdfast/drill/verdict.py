"""Was the promise kept? Judged by what a caller saw alone: whatever the gateway meant to do does not matter."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from holdfast import errors
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import decode
from holdfast.drill.observation import Observation

GRACE_SECONDS: Final = 0.05
"""How late after its deadline a call may end, and..."""
CANCEL_SECONDS: Final = 0.1
"""...how long after its caller has left a model may still be at work."""
WIRE_CODES: Final = {
    "context_length_exceeded": "context_too_long",
    "content_filter": "content_refused",
    "rate_limit_exceeded": "rate_limited",
}
"""Codes that the OpenAI wire has words of its own for."""

End = Literal["answered", "last_resort", "error", "cancelled", "broken"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How a call ended for its caller: "broken" is a broken promise. `note` says which, who answered, or the code."""

    end: End
    note: str = ""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept."""
        return self.end != "broken"

    @property
    def text(self) -> str:
        """The verdict in words."""
        return {
            "answered": "kept: answered",
            "last_resort": "kept: last resort",
            "error": "kept: typed error",
            "cancelled": "kept: cancelled",
            "broken": "BROKEN",
        }[self.end]


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """`deadline` in seconds; `replies` are the whole answers of the models, the first model's first.

    `contract` is what every answer has to meet, also one that no model gave.
    """

    deadline: float
    replies: Sequence[str]
    contract: Contract | None = None


def judge(seen: Observation, expected: Expected) -> Verdict:
    """Return the verdict on a call."""
    broken = _time_broken(seen, expected) or _end_broken(seen)
    if broken is not None:
        return Verdict(end="broken", note=broken)
    if seen.error is not None:
        return _typed(seen.error)
    if seen.finish == "content_filter":
        return Verdict(end="error", note="content_refused")
    return _answer(seen, expected)


def judge_hang_up(seen: Observation, hung_up_at: Sequence[float | None]) -> Verdict:
    """Return the verdict on a call whose caller left: `hung_up_at` is when each model's connection ended, in seconds
    since the call was sent, None where it never did."""
    if seen.left is None:
        return Verdict(end="answered", note="before the caller could leave")
    late = [at for at in hung_up_at if at is None or at > seen.left + CANCEL_SECONDS]
    if not late:
        return Verdict(end="cancelled", note="nobody works on")
    at = late[0]
    after = "never" if at is None else f"{at - seen.left:.2f} s later"
    return Verdict(end="broken", note=f"the model was cancelled {after}")


def worst(verdicts: Sequence[Verdict]) -> int:
    """Return the index of the worst of some verdicts, the first of its kind."""
    order: tuple[End, ...] = ("broken", "error", "last_resort", "cancelled", "answered")
    return min(range(len(verdicts)), key=lambda index: order.index(verdicts[index].end))


def _time_broken(seen: Observation, expected: Expected) -> str | None:
    if seen.hung:
        return f"hung: no end {seen.took - expected.deadline:.1f} s after the deadline"
    if seen.took > expected.deadline + GRACE_SECONDS:
        return f"late: {(seen.took - expected.deadline) * 1000:.0f} ms after the deadline"
    return None


def _end_broken(seen: Observation) -> str | None:
    if seen.broke is not None:
        return f"the connection failed without a word: {seen.broke}"
    if seen.untyped is not None:
        return f"an untyped error: {seen.untyped}"
    if seen.error is not None and ((seen.done and seen.stream and seen.status == 200) or seen.finish == "stop"):
        return "an error on a stream that also says it is complete"
    if seen.error is None and not seen.done:
        return "the stream just ended, with neither an end nor an error"
    if seen.error is None and seen.finish is None:
        return "an answer that does not say why it ended"
    if seen.error is None and seen.status != 200:
        return f"an answer with the status {seen.status}"
    return None


def _typed(code: str) -> Verdict:
    ours = WIRE_CODES.get(code, code)
    if ours not in _CODES:
        return Verdict(end="broken", note=f"an error whose code nobody knows: {code}")
    if ours == errors.InternalError.code:
        return Verdict(end="broken", note="the gateway itself failed: internal_error")
    return Verdict(end="error", note=ours)


def _answer(seen: Observation, expected: Expected) -> Verdict:
    if seen.outcome not in ("answered", "last_resort"):
        return Verdict(end="broken", note=f"an answer that is labelled {seen.outcome}")
    if (unmet := _unmet(seen, expected.contract)) is not None:
        return Verdict(end="broken", note=unmet)
    if seen.outcome == "last_resort":
        return Verdict(end="last_resort")
    if not _whole(seen.text, expected.replies):
        cut = any(reply.startswith(seen.text) for reply in expected.replies)
        return Verdict(end="broken", note=("a cut" if cut else "a garbled") + " answer presented as success")
    return Verdict(end="answered", note=f"by {seen.model}")


def _unmet(seen: Observation, contract: Contract | None) -> str | None:
    """Return how an answer fails its contract, or what was told of it before."""
    if contract is None:
        return None
    if violations := contract.check(seen.text).violations:
        return f"an answer that does not meet the contract: {violations[0]}"
    if seen.objects and decode(seen.text) != seen.object:
        return "the last object that was told is not the answer"
    return None


def _whole(text: str, replies: Sequence[str]) -> bool:
    """Whether a text is a model's whole answer, or the beginning of the first's to which another added its own."""
    first, *others = replies
    return text in replies or any(
        text.endswith(other) and first.startswith(text.removesuffix(other).rstrip()) for other in others
    )


def _codes(kind: type[errors.CallError]) -> set[str]:
    return {kind.code}.union(*[_codes(child) for child in kind.__subclasses__()])


_CODES: Final = _codes(errors.CallError) - {errors.CallError.code}
