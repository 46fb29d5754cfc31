"""Python functions as guards."""

import sys

import pytest

from holdfast.guards.base import Context, Verdict
from holdfast.guards.failures import GuardFailed
from holdfast.guards.function import FunctionGuard, find_function
from holdfast.guards.streaming import Stream

MODULE = """
import re

def no_prices(text, context):
    return not re.search("[0-9] EUR", text)

def one(text): ...
async def later(text, context): ...
number = 1
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A folder with a module of guards, which is forgotten afterwards."""
    (tmp_path / "guards_of_mine.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "guards_of_mine", raising=False)
    yield tmp_path
    sys.modules.pop("guards_of_mine", None)


def check(function, text="text"):
    return FunctionGuard("mine", function).check(text, Context())


@pytest.mark.parametrize(
    ("said", "kind"), [(None, "pass"), (True, "pass"), ("text", "pass"), (False, "block"), ("other", "rewrite")]
)
def test_what_a_function_may_say(said, kind):
    verdict = check(lambda text, context: said)
    assert verdict.kind == kind
    assert verdict.text == ("other" if kind == "rewrite" else None)


def test_a_function_may_return_a_verdict():
    verdict = Verdict("block", "because", 0.7)
    assert check(lambda text, context: verdict) is verdict


@pytest.mark.parametrize("said", [1, 0, b"text", Verdict("rewrite"), Verdict("stop"), object()])
def test_anything_else_is_a_failure(said):
    with pytest.raises(GuardFailed, match="mine returned"):
        check(lambda text, context: said)


def test_an_error_is_a_failure_that_does_not_quote_the_text():
    def fails(text, context):
        raise RuntimeError(f"can't read {text}")

    with pytest.raises(GuardFailed, match=r"^mine raised RuntimeError \(test_function.py, line \d+\)\.$"):
        check(fails, "a secret")


def test_a_stream_is_held_until_the_function_has_seen_all_of_it():
    stream = Stream(FunctionGuard("mine", lambda text, context: text.upper()), Context())
    assert stream.feed("ab") + stream.feed("c") == ""
    assert stream.end() == "ABC"


def test_a_function_is_found_beside_the_configuration(base):
    guard = FunctionGuard("mine", find_function("guards_of_mine:no_prices", base))
    assert guard.check("It costs 3 EUR", Context()).kind == "block"
    assert guard.check("It costs a little", Context()).kind == "pass"


@pytest.mark.parametrize(
    ("name", "reason"), [("one", "two arguments"), ("later", "coroutine"), ("number", "type int"), ("none", "has no")]
)
def test_what_is_no_guard_is_refused_with_the_reason(base, name, reason):
    with pytest.raises(ValueError, match=reason):
        find_function(f"guards_of_mine:{name}", base)
