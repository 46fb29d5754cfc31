import math

from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.simulated.vectors import embed


def cosine(one, other):
    return math.fsum([a * b for a, b in zip(embed(one, 256), embed(other, 256), strict=True)])


@given(st.text(), st.integers(1, 300))
def test_a_vector_has_length_one_and_is_always_the_same(text, dimensions):
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.fsum([number**2 for number in vector]), 1.0, rel_tol=1e-9)
    assert vector == embed(text, dimensions)


def test_texts_that_share_words_are_similar():
    base = "how do I reset my password"
    assert cosine(base, "I forgot my password, how do I reset it?") > 0.5
    assert abs(cosine(base, "kelp forests off the coast")) < 0.3
    assert math.isclose(cosine(base, base.upper()), 1.0)
