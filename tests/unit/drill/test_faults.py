from pathlib import Path

import pytest

from holdfast.drill.faults import FAULTS, find

PAGE = Path(__file__).parents[3] / "docs/how-to/drill.md"


def test_without_a_name_every_fault_is_found_in_the_order_of_the_table():
    assert find([]) == FAULTS
    assert [fault.name for fault in find(["all_down", "cut"])] == ["cut", "all_down"]


@pytest.mark.parametrize(
    ("name", "hint"), [("stal", "did you mean stalled?"), ("xyzzy", "there are none, rate_limit,")]
)
def test_a_fault_that_is_not_there_is_told_with_those_that_are(name, hint):
    with pytest.raises(ValueError, match="there is no fault") as caught:
        find(["cut", name])
    assert hint in str(caught.value)


def test_names_and_titles_are_unique():
    assert len({fault.name for fault in FAULTS}) == len({fault.title for fault in FAULTS}) == len(FAULTS)


def test_every_fault_is_documented():
    page = PAGE.read_text(encoding="utf-8")
    assert [fault.name for fault in FAULTS if f"| `{fault.name}` |" not in page] == []
