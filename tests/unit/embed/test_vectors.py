"""Ranking by the angle between vectors."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.embed import vectors
from holdfast.embed.vectors import CANDIDATES, Vectors

NUMBERS = st.lists(st.integers(-100, 100).map(lambda number: number / 10), min_size=3, max_size=3)


def index(rows: list[list[float]]) -> Vectors:
    filled = Vectors()
    for row in rows:
        filled.add(row)
    return filled


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_the_vector_at_the_smallest_angle_is_the_nearest_whatever_its_length() -> None:
    filled = index([[1, 0], [0, 5], [3, 3], [-1, 0]])
    assert filled.nearest([2, 1.9], 4) == [2, 0, 1, 3]
    assert filled.nearest([-0.001, 0], 1) == [3]


def test_vectors_that_are_not_wanted_are_not_found() -> None:
    assert index([[1, 0], [0, 1], [1, 1]]).nearest([1, 0], 5, {0}) == [2, 1]


def test_of_equal_vectors_the_first_is_the_nearest() -> None:
    assert index([[0, 1], [1, 0], [2, 0], [4, 0]]).nearest([1, 0], 3) == [1, 2, 3]


def test_there_need_not_be_a_vector() -> None:
    assert Vectors().nearest([1.0], 3) == []


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 2.0, 3.0], [math.nan, 1.0], [math.inf, 1.0], [1.0, -math.inf]])
def test_a_vector_of_another_length_or_without_a_direction_is_refused(wrong: list[float]) -> None:
    filled = index([[1, 0]])
    with pytest.raises(ValueError, match="vector"):
        filled.add(wrong)
    with pytest.raises(ValueError, match="vector"):
        filled.nearest(wrong, 1)
    assert len(filled) == 1


@pytest.mark.parametrize("row", [[0.0, 0.0], [5e-324, 5e-324], [1e308, 1e308]])
def test_a_vector_of_any_length_is_taken(row: list[float]) -> None:
    assert index([row, [1.0, 0.0]]).nearest([1.0, 0.0], 1) == [1]


def test_what_all_vectors_take_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "MAX_BYTES", 4)
    filled = index([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="take more than"):
        filled.add([5, 6])


@given(st.lists(NUMBERS, min_size=1, max_size=20), NUMBERS)
def test_few_vectors_are_ranked_by_their_cosine(rows: list[list[float]], row: list[float]) -> None:
    rows = [found if any(found) else [1.0, 0.0, 0.0] for found in rows]
    row = row if any(row) else [0.0, 1.0, 0.0]
    found = [cosine(rows[number], row) for number in index(rows).nearest(row, len(rows))]
    assert len(found) == len(rows)
    assert all(after - before < 0.03 for before, after in pairwise(found))  # a byte is not exact


def test_among_many_vectors_nearly_all_of_the_nearest_are_found() -> None:
    chance = random.Random(5)
    topics = [[chance.gauss(0, 1) for _ in range(128)] for _ in range(40)]
    rows = [[number + 0.8 * chance.gauss(0, 1) for number in chance.choice(topics)] for _ in range(2_000)]
    filled, hits = index(rows), 0
    for _ in range(20):
        row = [number + 0.5 * chance.gauss(0, 1) for number in chance.choice(rows)]
        exact = sorted(range(len(rows)), key=lambda number: -cosine(rows[number], row))[:4]
        found = filled.nearest(row, 4)
        assert found[0] == exact[0]
        hits += len(set(found) & set(exact))
    assert hits >= 0.8 * 80
    assert len(rows) > CANDIDATES
