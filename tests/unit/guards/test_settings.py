"""[guards.NAME]."""

import msgspec
import pytest

from holdfast.guards.settings import GuardSettings
from holdfast.settings import Duration


def settings(**keys):
    return msgspec.convert(keys, GuardSettings, dec_hook=lambda cls, value: cls.parse(value))


def test_a_guard_enforces_and_fails_closed_unless_told_otherwise():
    guard = settings(kind="secrets")
    assert (guard.mode, guard.on_error, guard.seconds) == ("enforce", "block", 0.05)


def test_a_judge_gets_more_time():
    assert settings(kind="moderation", judge="openai", model="m").seconds == 5
    assert settings(kind="moderation", judge="openai", model="m", time_budget="2s").seconds == Duration(2)


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "injection"},
        {"kind": "pii", "mode": "observe"},
        {"kind": "secrets", "action": "block", "ignore": ["JWT"]},
        {"kind": "topics", "deny": ["a"], "action": "rewrite"},
        {"kind": "topics", "patterns": ["a"], "action": "block"},
        {"kind": "leaks", "prompt_words": 20, "secrets": [{"env": "KEY"}]},
        {"kind": "moderation", "judge": "openai", "model": "m", "threshold": 0.5},
        {"kind": "function", "function": "app.guards:check", "span": "sentence"},
        {"kind": "function", "function": "app.guards:check", "span": 100},
    ],
)
def test_what_may_be_written(keys):
    assert settings(**keys).kind == keys["kind"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"kind": "secrets", "deny": ["a"]},
            '`deny` belongs to guards of the kind "topics", and this one is "secrets"',
        ),
        ({"kind": "pii", "action": "block"}, '`action` belongs to guards of the kind "secrets" or "topics"'),
        ({"kind": "topics"}, "needs `deny`, `allow` or `patterns`"),
        ({"kind": "topics", "spare": ["a"]}, "needs `deny`, `allow` or `patterns`"),
        ({"kind": "topics", "allow": ["a"], "action": "rewrite"}, "can only block"),
        ({"kind": "moderation", "model": "m"}, "needs `judge`"),
        ({"kind": "moderation", "judge": "openai"}, "needs `model`"),
        ({"kind": "moderation", "judge": "llama-guard", "model": "m", "threshold": 0.5}, "give no scores"),
        ({"kind": "function"}, "needs `function`"),
        ({"kind": "function", "function": "nonsense"}, "package.module:name"),
        ({"kind": "function", "function": "a:b", "span": 0}, ">= 1"),
        ({"kind": "leaks", "prompt_words": 5}, ">= 6"),
        ({"kind": "guard"}, "Invalid enum value"),
        ({"kind": "pii", "mod": "observe"}, "unknown field"),
        ({}, "kind"),
    ],
)
def test_mistakes_are_told(keys, message):
    with pytest.raises(msgspec.ValidationError) as caught:
        settings(**keys)
    assert message in str(caught.value)
