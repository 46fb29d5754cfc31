import pytest

from holdfast.errors import InvalidRequest
from holdfast.gateway.serving.pages.query import CallsQuery, read_query
from holdfast.log.base import Filter
from holdfast.privacy.subjects import SubjectHasher

SUBJECTS = SubjectHasher(bytes(32))


def filter_of(text: str) -> Filter:
    return read_query(text, CallsQuery).filter(7200.0, SUBJECTS)


def test_a_query_says_which_calls():
    assert filter_of("contract=Answer&repaired=true&replayed=false&limit=3&since=1h") == Filter(
        contract="Answer", repaired=True, replayed=False, limit=3, since_us=3_600_000_000
    )


def test_what_a_query_does_not_say_is_no_condition():
    assert filter_of("") == Filter(limit=50)


@pytest.mark.parametrize("value", ["1", "yes", "True", ""])
@pytest.mark.parametrize("flag", ["repaired", "replayed"])
def test_a_flag_is_true_or_false_and_nothing_else(flag: str, value: str):
    with pytest.raises(InvalidRequest, match="bool") as caught:
        filter_of(f"{flag}={value}")
    assert caught.value.param == flag
