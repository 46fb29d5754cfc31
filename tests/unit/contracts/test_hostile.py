"""No schema, answer or grammar, however hostile, stalls a gateway: bounded time and memory, and a clear end."""

import json
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from holdfast.contracts.base import Contract
from holdfast.contracts.forms.grammar import SECONDS, GrammarForm
from holdfast.contracts.forms.text import PatternForm
from holdfast.errors import ConfigError

SCRIPT = Path(__file__).with_name("hostile.py")
SPEC = spec_from_file_location("hostile", SCRIPT)
hostile = module_from_spec(SPEC)
SPEC.loader.exec_module(hostile)

MOST_SECONDS, MOST_MEGABYTES = 5, 256  # on a machine that others use too; alone, each takes less than a second


@pytest.mark.parametrize("name", hostile.CASES)
def test_it_ends_in_bounded_time_and_memory(name):
    run = subprocess.run([sys.executable, SCRIPT, name], capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    assert measured["seconds"] < MOST_SECONDS, measured
    assert measured["megabytes"] < MOST_MEGABYTES, measured
    assert measured["outcome"]


def test_an_ambiguous_grammar_is_given_up():
    contract = Contract(GrammarForm('start: s\ns: s s | "a" | ""\n'))
    started = time.perf_counter()
    checked = contract.check("a" * 2_000)
    assert [violation.keyword for violation in checked.violations] == ["limit"]
    assert time.perf_counter() - started < SECONDS + 3


def test_a_right_recursive_grammar_ends_in_bounded_time():
    contract = Contract(GrammarForm('start: x\nx: "a" x | "b"\n'))
    started = time.perf_counter()
    assert [one.keyword for one in contract.check("a" * 32_000 + "b").violations] == ["limit"]
    assert [one.keyword for one in contract.check("a" * 100_000 + "b").violations] == ["limit"]
    assert time.perf_counter() - started < SECONDS + 3


def test_a_grammar_that_is_too_large_is_refused():
    with pytest.raises(ConfigError, match="larger than"):
        GrammarForm("start: " + '"a" ' * 50_000)


def test_a_grammar_with_too_many_alternatives_in_one_place_says_so():
    contract = Contract(GrammarForm("start: " + " | ".join(f'"k{i}"' for i in range(5_000))))
    assert "fewer alternatives help" in contract.check("k7").violations[0].message
    assert Contract(GrammarForm("start: " + " | ".join(f'"k{i}"' for i in range(900)))).check("k7").ok


def test_a_long_text_is_not_matched_by_a_pattern_with_many_states():
    checked = Contract(PatternForm("(a|b)*a(a|b){500}c")).check("ab" * 500_000)
    assert [violation.keyword for violation in checked.violations] == ["limit"]


def test_an_exponential_pattern_takes_linear_time():
    started = time.perf_counter()
    assert not Contract(PatternForm("(a+)+b")).check("a" * 1_000_000).ok
    assert time.perf_counter() - started < 2
