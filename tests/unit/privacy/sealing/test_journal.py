import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing.journal import Entry, append, entries

FIRST, SECOND = Entry("ad" * 16, 1), Entry("b0" * 16, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "erasures.jsonl"


def test_what_was_appended_is_there_in_its_order(path: Path) -> None:
    assert list(entries(path)) == []
    append(path, FIRST)
    append(path, SECOND)
    append(path, FIRST)
    assert list(entries(path)) == [FIRST, SECOND, FIRST]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_a_crash_cut_off_is_no_erasure_and_harms_none_after_it(path: Path) -> None:
    append(path, FIRST)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole + whole[:length])
        assert list(entries(path)) == [FIRST]
        append(path, SECOND)
        found = list(entries(path))
        assert found[0] == FIRST
        assert found[-1] == SECOND


@given(st.binary(max_size=60))
def test_lines_that_are_none_are_passed_over(noise: bytes) -> None:
    class Noise:
        def read_bytes(self) -> bytes:
            return noise + b'\n{"subject":"a","at_us":1}\n'

    assert list(entries(Noise()))[-1] == Entry("a", 1)


def test_a_journal_that_can_not_be_used_is_a_privacy_error(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="can't be recorded"):
        append(tmp_path, FIRST)
    with pytest.raises(PrivacyError, match="can't be read"):
        list(entries(tmp_path))


def test_an_erasure_of_which_only_a_part_fits_on_the_disk_is_not_recorded(path: Path) -> None:
    append(path, Entry("a", 1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        with pytest.raises(PrivacyError, match="can't be recorded"):
            append(path, Entry("b", 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    append(path, Entry("c", 3))
    assert list(entries(path)) == [Entry("a", 1), Entry("c", 3)]
