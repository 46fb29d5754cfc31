"""What may become of tool calls once a model has read text that somebody else wrote."""

from collections.abc import Collection, Iterable
from typing import Literal

from msgspec import Struct

from holdfast.chat import Message, ToolCall, ToolResult

ToolsWhenUntrusted = Literal["block", "confirm", "allow"]


class Decision(Struct, frozen=True):
    """What becomes of the tool calls of an answer. `names` are the tools it is about, each once, in order."""

    kind: ToolsWhenUntrusted
    names: tuple[str, ...] = ()


ALLOW = Decision("allow")


def tools_when_untrusted(
    calls: Iterable[ToolCall], *, rule: ToolsWhenUntrusted, harmless: Collection[str], untrusted: bool
) -> Decision:
    """Decide by the rule if untrusted text was read and a tool is called that is not known as harmless.

    `harmless` names the tools without side effects: a tool that nobody spoke of has some.
    """
    names = tuple(dict.fromkeys(call.name for call in calls if call.name not in harmless))
    if rule == "allow" or not untrusted or not names:
        return ALLOW
    return Decision(rule, names)


def read_untrusted(messages: Iterable[Message], marked: bool = False) -> bool:
    """Say whether a conversation holds untrusted text: results of tools, or parts that were `marked` as such."""
    return marked or any(isinstance(part, ToolResult) for message in messages for part in message.parts)
