"""What a model is told of its answer that fails, so that its next one is right."""

from collections.abc import Mapping, Sequence

import msgspec

from holdfast.chat import Choice, Message, Text, ToolCall, ToolResult
from holdfast.contracts.answer import Unmet
from holdfast.contracts.base import Contract, Violation, shortened
from holdfast.contracts.reask import Reask, reask


class Mend(msgspec.Struct, frozen=True):
    """The messages that follow an answer that fails, and what becomes of the next one."""

    messages: tuple[Message, ...]
    part: Reask | None = None
    """None where the whole answer is asked for again."""
    violations: tuple[Violation, ...] = ()


def mend_text(contract: Contract, unmet: Unmet) -> Mend:
    """Ask for what is wrong in a text that does not meet its contract."""
    part = reask(contract, unmet)
    told = Message(role="user", parts=(Text(text=part.message),))
    if not unmet.text.strip():  # not every wire takes a message that says nothing
        return Mend((told,), part, unmet.violations)
    return Mend((Message(role="assistant", parts=(Text(text=unmet.text),)), told), part, unmet.violations)


def mend_calls(choice: Choice, wrong: Mapping[str, Sequence[Violation]]) -> Mend:
    """Let the tools refuse their arguments. `wrong` is what is wrong with those of calls, by their ids."""
    results = [_result(part, wrong.get(part.id)) for part in choice.parts if isinstance(part, ToolCall)]
    return Mend(
        (
            Message(role="assistant", parts=choice.parts),
            *(Message(role="tool", parts=(result,)) for result in results),
        )
    )


def _result(call: ToolCall, violations: Sequence[Violation] | None) -> ToolResult:
    told = "Not called, because the arguments of another call are wrong. Call it again."
    if violations is not None:
        listed = "\n".join(f"- {shortened(str(violation))}" for violation in violations)
        told = f"The arguments do not meet the schema of the tool. Call it again with right ones.\n{listed}"
    return ToolResult(call_id=call.id, name=call.name, content=(Text(text=told),), is_error=True)
