"""Tools with side effects, once a model has read what somebody else wrote."""

import pytest

from holdfast.chat import Message, Text, ToolCall, ToolResult
from holdfast.guards.injection.tools import ALLOW, Decision, ToolsWhenUntrusted, read_untrusted, tools_when_untrusted

READ = ToolCall(id="1", name="search", arguments="{}")
SEND = ToolCall(id="2", name="send", arguments="{}")


@pytest.mark.parametrize("rule", ["block", "confirm"])
def test_a_tool_that_is_not_known_as_harmless_needs_the_rule(rule: ToolsWhenUntrusted) -> None:
    decision = tools_when_untrusted([READ, SEND, SEND], rule=rule, harmless={"search"}, untrusted=True)
    assert decision == Decision(rule, ("send",))


def test_everything_is_allowed_by_rule_without_untrusted_text_or_side_effects() -> None:
    assert tools_when_untrusted([SEND], rule="allow", harmless=(), untrusted=True) == ALLOW
    assert tools_when_untrusted([SEND], rule="block", harmless=(), untrusted=False) == ALLOW
    assert tools_when_untrusted([READ], rule="block", harmless=("search",), untrusted=True) == ALLOW
    assert tools_when_untrusted([], rule="block", harmless=(), untrusted=True) == ALLOW


def test_the_result_of_a_tool_is_untrusted_and_so_is_what_was_marked() -> None:
    asked = Message(role="user", parts=(Text(text="Hi"),))
    result = Message(role="tool", parts=(ToolResult(call_id="1"),))
    assert not read_untrusted([asked])
    assert read_untrusted([asked], marked=True)
    assert read_untrusted([asked, result])
