"""How long it takes to refuse a key says nothing of how much of it is right: Welch's t-test on interleaved times.

Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?", 2017: two classes of input, times in random order,
the slow ones cropped (they are the machine's), and |t| above 4.5 is a leak.
"""

import math
import random
import statistics
import time
from collections.abc import Callable

from holdfast.clock import SystemClock
from holdfast.errors import Unauthenticated
from holdfast.gateway.access import Access
from holdfast.state.keys import ID_LENGTH, Key, digest

TOKEN = "hf_ab12cd34_" + "".join(random.Random(5).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", k=40))
LEAK = 4.5
SAMPLES = 12_000
FIRST = (TOKEN[: ID_LENGTH + 1] + "0" + TOKEN[ID_LENGTH + 2 :]).encode()
LAST = (TOKEN[:-1] + "0").encode()

Refuse = Callable[[bytes], object]


def t_value(refuse: Refuse, seed: int) -> float:
    """Return Welch's t of the times that keys take which are wrong in their first and in their last character."""
    order = random.Random(seed)
    times: tuple[list[int], list[int]] = ([], [])
    tokens = (FIRST, LAST)
    now = time.perf_counter_ns
    for _ in range(2 * SAMPLES):
        kind = order.getrandbits(1)
        token = tokens[kind]
        began = now()
        refuse(token)
        times[kind].append(now() - began)
    crop = statistics.quantiles(times[0] + times[1], n=10)[6]
    first, last = [[took for took in kind if took <= crop] for kind in times]
    spread = statistics.variance(first) / len(first) + statistics.variance(last) / len(last)
    return (statistics.fmean(first) - statistics.fmean(last)) / math.sqrt(spread)


def leaks(refuse: Refuse) -> bool:
    """Whether the times differ, each time that one looks: what differs once is the machine."""
    return all(abs(t_value(refuse, seed)) > LEAK for seed in range(4))


def test_refusing_a_key_takes_as_long_however_much_of_it_is_right() -> None:
    key = Key(id=TOKEN[:ID_LENGTH], tenant="acme", role="app", created_us=0, digest=digest(TOKEN))
    access = Access([key], {}, SystemClock())

    def refuse(token: bytes) -> None:
        try:
            access.caller(None, token, None)
        except Unauthenticated:
            return
        raise AssertionError("a wrong key was accepted")

    assert access.caller(None, TOKEN.encode(), None).key == key.id
    assert not leaks(refuse)


def test_the_test_finds_a_comparison_that_ends_at_the_first_difference() -> None:
    right = TOKEN.encode()

    def refuse(token: bytes) -> bool:
        return all(one == other for one, other in zip(token, right, strict=True))

    assert leaks(refuse)
