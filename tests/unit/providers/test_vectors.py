from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.vectors import base64, floats


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_a_vector_is_the_same_in_both_forms(values: list[float]) -> None:
    vector = tuple(values)
    assert floats(base64(vector)) == vector
    assert base64(floats(base64(vector))) == base64(vector)


def test_a_vector_in_the_form_that_is_asked_for_is_left_as_it_is() -> None:
    assert floats((0.1, 2.0)) == (0.1, 2.0)
    assert base64("AACAPw==") == "AACAPw=="


def test_base64_holds_little_endian_float32() -> None:
    assert base64((1.0,)) == "AACAPw=="
