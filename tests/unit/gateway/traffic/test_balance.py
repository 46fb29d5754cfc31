from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from holdfast.gateway.traffic.balance import EXPLORED, order
from holdfast.gateway.traffic.latency import Latency


@dataclass
class Breaker:
    pause: float = 0.0

    def open_for(self) -> float:
        return self.pause


@dataclass
class Health:
    under_way: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    first_token: Latency = field(default_factory=Latency)
    answer: Latency = field(default_factory=Latency)

    def outstanding(self) -> int:
        return self.under_way


@dataclass
class Model:
    name: str
    health: Health = field(default_factory=Health)


def model(
    name: str, under_way: int = 0, *, answer: float | None = None, token: float | None = None, down: float = 0
) -> Model:
    health = Health(under_way, Breaker(down))
    for seconds, latency in ((answer, health.answer), (token, health.first_token)):
        if seconds is not None:
            latency.add(seconds)
    return Model(name, health)


def firsts(*group: Model, stream: bool = False, count: int = 2000) -> Counter[str]:
    """Return how often each model of a group went first."""
    random = Random(7)
    return Counter(order([group], random, stream=stream)[0].name for _ in range(count))


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 5)), min_size=1, max_size=5), max_size=4), st.randoms()
)
def test_every_model_is_tried_once_and_the_groups_keep_their_order(shape, random):
    groups = [
        [model(f"{row}.{column}", n, answer=1.0, down=down) for column, (n, down) in enumerate(group)]
        for row, group in enumerate(shape)
    ]
    models = order(groups, random)
    assert len(models) == sum(map(len, groups))
    for group in groups:
        some, models = models[: len(group)], models[len(group) :]
        assert {one.name for one in some} == {one.name for one in group}
        pauses = [one.health.breaker.pause for one in some]
        assert pauses == sorted(pauses)


def test_the_models_of_a_plain_list_are_tried_as_they_are_written():
    models = [model("a", 99), model("b"), model("c", down=1)]
    assert order([[one] for one in models], Random(1)) == tuple(models)


def test_models_alike_share_the_calls():
    share = firsts(model("a"), model("b"), model("c"))
    assert all(550 < share[name] < 790 for name in "abc")


def test_the_one_with_less_under_way_goes_first_but_for_a_few_calls_that_explore():
    share = firsts(model("busy", 5), model("free", 1))
    assert 0 < share["busy"] < 2000 * EXPLORED


def test_a_faster_model_takes_more_at_once():
    assert firsts(model("fast", 3, answer=0.1), model("slow", 0, answer=1.0))["fast"] > 1900
    assert firsts(model("fast", 12, answer=0.1), model("slow", 0, answer=1.0))["slow"] > 1900


def test_a_stream_goes_by_first_tokens_and_another_call_by_answers():
    one, other = model("one", answer=9.0, token=0.1), model("other", answer=1.0, token=0.5)
    assert firsts(one, other, stream=True)["one"] > 1900
    assert firsts(one, other)["other"] > 1900


def test_a_model_of_which_nothing_is_known_is_tried_like_its_equals():
    share = firsts(model("new"), model("old", answer=0.1))
    assert min(share.values()) > 800


def test_a_model_that_is_down_is_not_first_while_another_is_up():
    share = firsts(model("down", down=3), model("up", 50, answer=30.0), model("also", 50, answer=30.0))
    assert set(share) == {"up", "also"}


def test_the_worst_of_three_is_seldom_first():
    share = firsts(model("a", 9), model("b", 9), model("c", 0))
    assert share["c"] > 2000 * 0.6


def test_the_same_seed_gives_the_same_order():
    group = [model(name) for name in "abcdef"]
    assert order([group], Random(3)) == order([group], Random(3))
