"""Places of JSON values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.pointers import NOWHERE, at, follow, item, keys_of, pointer
from strategies import json_values

VALUE = {"a": [1, {"b/c": 2}], "": {"~": 3}}


@given(st.lists(st.text()))
def test_a_pointer_leads_along_the_keys_that_it_was_made_of(keys):
    assert keys_of(pointer(keys)) == keys


@pytest.mark.parametrize(
    ("written", "found"),
    [("", VALUE), ("/a/0", 1), ("/a/1/b~1c", 2), ("/", {"~": 3}), ("//~0", 3)],
)
def test_what_stands_at_a_pointer_is_found(written, found):
    assert at(VALUE, written) == found


@pytest.mark.parametrize("written", ["/a/2", "/a/x", "/a/-1", "/a/٠", "/a/" + "9" * 5000, "/b", "/a/0/0", "/a/1/b/c"])
def test_nothing_is_found_where_nothing_stands(written):
    assert at(VALUE, written) is NOWHERE


@given(json_values())
def test_every_place_of_a_value_is_found(value):
    left = [([], value)]
    while left:
        keys, inner = left.pop()
        assert at(value, pointer(keys)) == follow(value, map(str, keys)) == inner
        if isinstance(inner, dict | list):
            below = inner if isinstance(inner, dict) else range(len(inner))
            left += [([*keys, key], item(inner, str(key))) for key in below]
