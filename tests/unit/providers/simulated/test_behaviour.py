import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Usage
from holdfast.providers.simulated.behaviour import (
    DETAILS,
    FAULTS,
    PLAIN,
    PRESETS,
    Behaviour,
    expand,
    overlay,
    split_name,
)
from holdfast.providers.simulated.faults import Cut, Status
from holdfast.providers.simulated.malformed import MALFORMATIONS
from holdfast.providers.simulated.plan import Position


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt-5", ("gpt-5", "")),
        ("sim:cut=12", ("sim", "cut=12")),
        ("llama3:8b", ("llama3:8b", "")),
        ("llama3:8b:tps=5", ("llama3:8b", "tps=5")),
        ("ft:gpt-4o:acme::a1:ttft=1s,cut=end", ("ft:gpt-4o:acme::a1", "ttft=1s,cut=end")),
        ("a:text=b:c=d", ("a", "text=b:c=d")),
    ],
)
def test_a_name_has_a_base_and_a_suffix(name, parts):
    assert split_name(name) == parts


def test_a_suffix_says_how_a_model_behaves():
    behaviour = overlay(Behaviour(), "ttft=300ms,tps=50,cut=12,status=429,retry_after=0.5,p=0.25,usage=none")
    assert (behaviour.ttft, behaviour.tps, behaviour.usage) == (0.3, 50.0, "none")
    assert behaviour.faults == (
        Cut(at=Position("12")),
        Status(status=429, retry_after=0.5, probability=0.25),
    )


def test_a_suffix_leaves_the_rest_alone():
    base = Behaviour(text="yes", usage=Usage(input_tokens=1))
    assert overlay(base, "tps=5") == Behaviour(text="yes", usage=Usage(input_tokens=1), tps=5.0)
    assert overlay(base, "") is base


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("tsp=5", 'there is no "tsp" .*tps'),
        ("tps=5,tps=6", '"tps" stands twice'),
        ("tps", "expected key=value"),
        ("retry_after=2", "belongs after a fault"),
        ("tps=fast", "tps: Expected `float`"),
        ("tps=-1", "tps: Expected `float` >= 0"),
        ("ttft=3", "ttft: expected a duration"),
        ("cut=twelve", r"faults\[0\].at: expected a position"),
        ("status=999", r"faults\[0\].status"),
        ("malformed=ugly", r"faults\[0\].what: Invalid enum value"),
        ("cut=3,p=2", r"faults\[0\].probability"),
        ("status=429,at=3", "at"),
        ("usage=some", "usage"),
        ("repeat=2", "repeat"),
    ],
)
def test_a_wrong_suffix_says_where(suffix, message):
    with pytest.raises(ValueError, match=message):
        overlay(Behaviour(), suffix)


@given(st.text(max_size=40))
def test_any_text_is_a_suffix_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        overlay(Behaviour(), text)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name):
    assert split_name(name) == (name, "")
    overlay(Behaviour(), PRESETS[name])


def test_an_empty_suffix_says_nothing():
    assert expand("") == expand(" , ") == {}


def test_the_page_for_users_tells_every_key_and_name():
    page = (Path(__file__).parents[4] / "docs/how-to/simulate.md").read_text(encoding="utf-8")
    for name, suffix in PRESETS.items():
        assert f"| `{name}` | {f'`{suffix}`' if suffix else 'repeats the last user message'} |" in page
    for key in (*PLAIN, *FAULTS, *DETAILS):
        assert re.search(rf"`{key}\b|`\w+\\?=.*\b{key}=", page), key
    for what in MALFORMATIONS:
        assert f"`{what}`" in page
