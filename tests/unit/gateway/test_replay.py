"""Answers given again, in virtual time: to who asks later, and to who asks while the first is being answered."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Choice, Reply, Text, Unknown
from holdfast.errors import DeadlineExceeded
from holdfast.gateway.replay import Kept, Replays
from strategies import replies
from virtual_time import VirtualLoop, run

KEY = b"k" * 32
TTL = 60.0
FAR = 1e6


def answer(text: str = "Deep.", call: str = "first", **more: Any) -> Kept:
    reply = Reply(id="r", model="m", choices=(Choice(parts=(Text(text=text),)),), created=1)
    return Kept(call=call, reply=reply, wire="openai", raw=text.encode(), **more)


def world(test: Callable[[Replays], Coroutine[Any, Any, None]], size: int = 1 << 20) -> None:
    """Run a test in virtual time, and see to it that nobody is left waiting and nothing in flight."""
    loop = VirtualLoop()
    replays = Replays(size, loop)

    async def main() -> None:
        await test(replays)
        assert replays.waiting == 0
        assert not replays._flights
        assert replays.used == sum(entry.size for entry in replays._entries.values()) <= replays._size

    run(main(), loop)


async def give(replays: Replays, key: bytes = KEY, kept: Kept | None = None, **more: Any) -> None:
    """Answer a question that nobody has answered yet."""
    async with replays.turn(key, **{"ttl": TTL, "until": FAR, **more}) as turn:
        assert turn.kept is None
        turn.keep(kept or answer())


async def found(replays: Replays, key: bytes = KEY) -> Kept | None:
    """Return what is given again, without answering where nothing is."""
    async with replays.turn(key, ttl=TTL, until=FAR) as turn:
        return turn.kept


class Model:
    """Answers after a second, as often as it is asked, and notes how many ask at once."""

    def __init__(self, fails: int = 0) -> None:
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self._fails = fails

    async def answer(self) -> Kept:
        self.asked += 1
        number = self.asked
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(1)
        finally:
            self.at_once -= 1
        if number <= self._fails:
            raise ValueError
        return answer(f"answer {number}", call=str(number))


async def call(replays: Replays, ask: Callable[[], Awaitable[Kept]], key: bytes = KEY, **more: Any) -> Kept:
    async with replays.turn(key, **{"ttl": TTL, "until": FAR, **more}) as turn:
        if turn.kept is not None:
            return turn.kept
        if turn.late is not None:
            turn.keep(answer("not its own"))  # which counts for nothing, as it was not its turn
            raise turn.late
        kept = await ask()
        turn.keep(kept)
        return kept


# --- later ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_given_again_as_it_was() -> None:
    async def test(replays: Replays) -> None:
        given = answer(model="gpt", provider="openai", served_model="gpt-5-mini", fingerprint="fp_1")
        await give(replays, kept=given)
        assert await found(replays) == await found(replays) == given
        assert await found(replays, b"other") is None

    world(test)


@given(replies())
def test_any_whole_answer_is_given_again_unchanged(reply: Reply) -> None:
    async def test(replays: Replays) -> None:
        await give(replays, kept=Kept(call="c", reply=reply, wire="openai", raw=b"\x00\xff"))
        kept = await found(replays)
        assert kept is not None
        assert (kept.reply, kept.raw) == (reply, b"\x00\xff")

    world(test)


def test_an_answer_is_given_again_until_its_time_is_over_and_not_longer() -> None:
    async def test(replays: Replays) -> None:
        await give(replays)
        await asyncio.sleep(TTL - 0.001)
        assert await found(replays) is not None
        await asyncio.sleep(0.002)
        assert await found(replays) is None
        assert (len(replays), replays.used) == (0, 0)

    world(test)


def test_an_answer_is_not_renewed_by_being_asked_for() -> None:
    async def test(replays: Replays) -> None:
        await give(replays)
        for _ in range(7):
            await asyncio.sleep(TTL / 7.5)
            assert await found(replays) is not None
        await asyncio.sleep(TTL / 7.5)
        assert await found(replays) is None

    world(test)


def test_a_streamed_answer_gets_a_date_which_it_keeps() -> None:
    async def test(replays: Replays) -> None:
        await asyncio.sleep(5)
        kept = answer()
        streamed = msgspec.structs.replace(kept, raw=None, reply=msgspec.structs.replace(kept.reply, created=0))
        await give(replays, kept=streamed)
        await asyncio.sleep(5)
        again = await found(replays)
        assert again is not None
        assert again.reply.created == 5

    world(test)


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", "refused"])
def test_every_complete_answer_is_kept(finish: Any) -> None:
    async def test(replays: Replays) -> None:
        choice = Choice(parts=(Text(text="x"),), finish=finish)
        await give(replays, kept=Kept(call="c", wire="openai", reply=Reply(id="", model="", choices=(choice,))))
        assert await found(replays) is not None

    world(test)


@pytest.mark.parametrize(
    "choices",
    [
        (),
        (Choice(parts=(Text(text="Half an ans"),), finish="cut"),),
        (Choice(parts=(Text(text="Whole"),)), Choice(finish="cut")),
        (Choice(parts=(Unknown(wire="anthropic", value={"type": "server_tool_use"}),)),),
    ],
    ids=["nothing", "cut", "one of two cut", "of one wire alone"],
)
def test_what_is_not_complete_or_can_not_be_streamed_is_not_kept(choices: tuple[Choice, ...]) -> None:
    async def test(replays: Replays) -> None:
        await give(replays, kept=Kept(call="c", wire="openai", reply=Reply(id="", model="", choices=choices)))
        assert await found(replays) is None

    world(test)


def test_what_can_not_be_written_down_is_told_to_who_waits_and_not_kept() -> None:
    async def test(replays: Replays) -> None:
        odd = msgspec.structs.replace(answer().reply, extra={"number": 10**30})

        async def ask() -> Kept:
            await asyncio.sleep(1)
            return Kept(call="c", wire="openai", reply=odd)

        both = await asyncio.gather(call(replays, ask), call(replays, ask))
        assert [kept.reply for kept in both] == [odd, odd]
        assert await found(replays) is None

    world(test)


def test_what_can_not_be_read_back_is_asked_for_again() -> None:
    async def test(replays: Replays) -> None:
        nested: Any = None
        for _ in range(600):
            nested = [nested]
        reply = msgspec.structs.replace(answer().reply, extra={"nested": nested})
        await give(replays, kept=Kept(call="c", wire="openai", reply=reply))

        def find_with_little_stack(left: int) -> Kept | None:
            return find_with_little_stack(left - 1) if left else replays.find(KEY)

        assert await found(replays) is not None
        assert find_with_little_stack(sys.getrecursionlimit() - 500) is None
        assert len(replays) == 0

    world(test)


def test_a_call_without_an_answer_leaves_nothing() -> None:
    async def test(replays: Replays) -> None:
        with pytest.raises(ValueError, match="broken"):
            async with replays.turn(KEY, ttl=TTL, until=FAR):
                raise ValueError("broken")
        assert await found(replays) is None
        assert len(replays) == 0

    world(test)


def test_only_the_first_answer_of_a_turn_counts() -> None:
    async def test(replays: Replays) -> None:
        async with replays.turn(KEY, ttl=TTL, until=FAR) as turn:
            turn.keep(answer("one"))
            turn.keep(answer("two"))
        async with replays.turn(KEY, ttl=TTL, until=FAR) as turn:
            turn.keep(answer("three"))
        kept = await found(replays)
        assert kept is not None
        assert kept.reply.text == "one"

    world(test)


def test_an_answer_stays_when_its_own_call_fails_after_all() -> None:
    async def test(replays: Replays) -> None:
        async def hang_up() -> None:
            async with replays.turn(KEY, ttl=TTL, until=FAR) as turn:
                turn.keep(answer())
                raise ConnectionError

        with pytest.raises(ConnectionError):
            await hang_up()
        assert await found(replays) is not None

    world(test)


# --- room -------------------------------------------------------------------------------------------------------------


def test_what_was_longest_not_asked_for_makes_room() -> None:
    async def test(replays: Replays) -> None:
        for key in (b"a", b"b", b"c"):
            await give(replays, key, answer("x" * 1000))
        assert await found(replays, b"a") is not None
        await give(replays, b"d", answer("x" * 1000))
        kept = [key for key in (b"a", b"b", b"c", b"d") if await found(replays, key)]
        assert kept == [b"a", b"c", b"d"]

    world(test, size=3 * 2800)


def test_an_answer_larger_than_all_the_room_drives_none_out() -> None:
    async def test(replays: Replays) -> None:
        await give(replays, b"small")
        await give(replays, b"large", answer("x" * 10_000))
        assert await found(replays, b"small") is not None
        assert await found(replays, b"large") is None

    world(test, size=10_000)


def test_with_less_room_the_oldest_go() -> None:
    async def test(replays: Replays) -> None:
        for key in (b"a", b"b", b"c"):
            await give(replays, key)
        replays.resize(replays.used // 2)
        assert [key for key in (b"a", b"b", b"c") if await found(replays, key)] == [b"c"]
        replays.resize(0)
        assert len(replays) == 0

    world(test)


def test_answers_whose_time_is_over_make_room_without_being_asked_for() -> None:
    async def test(replays: Replays) -> None:
        for number in range(100):
            await give(replays, b"%d" % number)
        await asyncio.sleep(TTL + 1)
        for number in range(100, 200):
            await give(replays, b"%d" % number)
        assert len(replays) == 100

    world(test)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3000), st.floats(0, 30)), max_size=40))
def test_the_room_is_never_exceeded_and_always_counted(steps: list[tuple[int, int, float]]) -> None:
    async def test(replays: Replays) -> None:
        for key, length, pause in steps:
            text = "x" * length
            async with replays.turn(b"%d" % key, ttl=TTL, until=FAR) as turn:
                if turn.kept is None:
                    turn.keep(answer(text))
            assert replays.used == sum(entry.size for entry in replays._entries.values()) <= 9000
            await asyncio.sleep(pause)

    world(test, size=9000)


# --- at once ----------------------------------------------------------------------------------------------------------


def test_of_many_who_ask_at_once_one_asks_the_model() -> None:
    async def test(replays: Replays) -> None:
        model = Model()
        answers = await asyncio.gather(*[call(replays, model.answer) for _ in range(10_000)])
        assert model.asked == 1
        assert {kept.call for kept in answers} == {"1"}

    world(test)


def test_those_who_wait_have_the_answer_before_its_first_caller_has_taken_it() -> None:
    async def test(replays: Replays) -> None:
        async def slow_caller() -> None:
            async with replays.turn(KEY, ttl=TTL, until=FAR) as turn:
                await asyncio.sleep(1)
                turn.keep(answer())
                await asyncio.sleep(100)

        first = asyncio.create_task(slow_caller())
        await asyncio.sleep(0)
        await call(replays, Model().answer)
        assert asyncio.get_running_loop().time() == 1
        await first

    world(test)


def test_different_questions_do_not_wait_for_each_other() -> None:
    async def test(replays: Replays) -> None:
        model = Model()
        await asyncio.gather(*[call(replays, model.answer, b"%d" % number) for number in range(10)])
        assert model.most_at_once == 10
        assert asyncio.get_running_loop().time() == 1

    world(test)


def test_without_a_time_to_live_an_answer_is_shared_and_not_kept() -> None:
    async def test(replays: Replays) -> None:
        model = Model()
        await asyncio.gather(*[call(replays, model.answer, ttl=0.0) for _ in range(10)])
        assert (model.asked, len(replays)) == (1, 0)
        await call(replays, model.answer, ttl=0.0)
        assert model.asked == 2

    world(test)


def test_when_the_first_fails_the_next_one_tries_and_no_others() -> None:
    async def test(replays: Replays) -> None:
        model = Model(fails=3)
        results = await asyncio.gather(*[call(replays, model.answer) for _ in range(100)], return_exceptions=True)
        assert [type(result) for result in results[:3]] == [ValueError] * 3
        assert [result.call for result in results[3:] if isinstance(result, Kept)] == ["4"] * 97
        assert (model.asked, model.most_at_once) == (4, 1)

    world(test)


def test_when_the_first_caller_hangs_up_the_next_one_asks() -> None:
    async def test(replays: Replays) -> None:
        model = Model()
        first, *others = [asyncio.create_task(call(replays, model.answer)) for _ in range(5)]
        await asyncio.sleep(0.5)
        first.cancel()
        answers = await asyncio.gather(*others)
        assert {kept.call for kept in answers} == {"2"}
        assert (model.asked, model.most_at_once) == (2, 1)
        assert asyncio.get_running_loop().time() == 1.5

    world(test)


def test_an_answer_that_is_not_kept_lets_the_next_one_ask() -> None:
    async def test(replays: Replays) -> None:
        asked = 0

        async def last_resort() -> None:
            nonlocal asked
            async with replays.turn(KEY, ttl=TTL, until=FAR) as turn:
                assert turn.kept is None
                asked += 1
                await asyncio.sleep(1)

        await asyncio.gather(*[last_resort() for _ in range(3)])
        assert (asked, asyncio.get_running_loop().time()) == (3, 3)

    world(test)


def test_who_hangs_up_while_waiting_harms_nobody() -> None:
    async def test(replays: Replays) -> None:
        model = Model(fails=1)
        calls = [asyncio.create_task(call(replays, model.answer)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for waiting in calls[1:4]:
            waiting.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [ValueError, *[asyncio.CancelledError] * 3, Kept]

    world(test)


def test_who_hangs_up_at_the_moment_of_its_turn_passes_it_on() -> None:
    async def test(replays: Replays) -> None:
        model = Model()
        first, second, third = [asyncio.create_task(call(replays, model.answer)) for _ in range(3)]
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.sleep(0)  # the first has left, the second is told that it is its turn, but has not run
        second.cancel()
        assert (await third).call == "2"
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2

    world(test)


def test_who_hangs_up_at_the_moment_of_the_answer_harms_nobody() -> None:
    async def test(replays: Replays) -> None:
        told = asyncio.Event()

        async def ask() -> Kept:
            await told.wait()
            return answer()

        first, second, third = [asyncio.create_task(call(replays, ask)) for _ in range(3)]
        await asyncio.sleep(0.5)
        told.set()
        await asyncio.sleep(0)
        second.cancel()
        assert (await first) == (await third) == await found(replays)
        with pytest.raises(asyncio.CancelledError):
            await second

    world(test)


def test_each_waits_until_its_own_deadline() -> None:
    async def test(replays: Replays) -> None:
        async def ask() -> Kept:
            await asyncio.sleep(10)
            return answer()

        loop = asyncio.get_running_loop()
        ended: dict[float, float] = {}

        async def bounded(until: float) -> None:
            try:
                await call(replays, ask, until=until)
            finally:
                ended[until] = loop.time()

        results = await asyncio.gather(*map(bounded, [FAR, 3.0, 7.0, 20.0, -1.0]), return_exceptions=True)
        assert [type(result) for result in results] == [
            type(None),
            DeadlineExceeded,
            DeadlineExceeded,
            type(None),
            DeadlineExceeded,
        ]
        assert ended == {FAR: 10, 3.0: 3, 7.0: 7, 20.0: 10, -1.0: 0}

    world(test)


def test_who_gave_up_waiting_is_passed_over() -> None:
    async def test(replays: Replays) -> None:
        model = Model(fails=1)
        results = await asyncio.gather(
            call(replays, model.answer),
            call(replays, model.answer, until=0.5),
            call(replays, model.answer),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [ValueError, DeadlineExceeded, Kept]

    world(test)


def test_a_question_is_open_again_once_nobody_is_left_to_ask_it() -> None:
    async def test(replays: Replays) -> None:
        model = Model(fails=2)
        results = await asyncio.gather(*[call(replays, model.answer) for _ in range(2)], return_exceptions=True)
        assert [type(result) for result in results] == [ValueError] * 2
        assert (await call(replays, model.answer)).call == "3"

    world(test)


@given(st.integers(0, 2**32))
def test_whatever_happens_no_two_ask_at_once_and_all_who_stay_are_answered(seed: int) -> None:
    async def test(replays: Replays) -> None:
        chance, model = random.Random(seed), Model(fails=random.Random(seed).randrange(5))
        calls, left = [], set()
        for _ in range(chance.randrange(1, 25)):
            until = FAR if chance.random() < 0.7 else asyncio.get_running_loop().time() + chance.uniform(0, 3)
            calls.append(asyncio.create_task(call(replays, model.answer, ttl=chance.choice([0.0, 1.5]), until=until)))
            await asyncio.sleep(chance.choice([0, 0, 0.3, 1.0]))
            if chance.random() < 0.4:
                gone = chance.choice(calls)
                if not gone.done():
                    left.add(gone)
                    gone.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert model.most_at_once <= 1
        for one, result in zip(calls, results, strict=True):
            expected = (asyncio.CancelledError,) if one in left else (Kept, ValueError, DeadlineExceeded)
            assert isinstance(result, expected)
        assert sum(isinstance(result, ValueError) for result in results) <= 4

    world(test)


def test_no_timer_is_left_once_a_question_is_answered() -> None:
    async def test(replays: Replays) -> None:
        await asyncio.gather(*[call(replays, Model().answer, until=50.0) for _ in range(10)])
        loop: Any = asyncio.get_running_loop()
        assert all(timer.cancelled() for timer in loop._scheduled)

    world(test)


# --- erasure ----------------------------------------------------------------------------------------------------------


def test_a_subject_is_forgotten_and_nobody_else() -> None:
    async def test(replays: Replays) -> None:
        for key, subject in ((b"1", "ann"), (b"2", "ann"), (b"3", "bob"), (b"4", None)):
            await give(replays, key, subject=subject)
        assert replays.forget("ann") == 2
        assert replays.forget("ann") == 0
        assert [key for key in (b"1", b"2", b"3", b"4") if await found(replays, key)] == [b"3", b"4"]

    world(test)


def test_an_answer_that_was_on_its_way_when_its_subject_was_forgotten_is_not_kept() -> None:
    async def test(replays: Replays) -> None:
        model = Model(fails=1)
        calls = [asyncio.create_task(call(replays, model.answer, subject="ann")) for _ in range(4)]
        await asyncio.sleep(0.5)
        assert replays.forget("ann") == 0
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [result.call for result in results[1:] if isinstance(result, Kept)] == ["2"] * 3
        assert len(replays) == 0
        await call(replays, model.answer, subject="ann")
        assert len(replays) == 1

    world(test)
