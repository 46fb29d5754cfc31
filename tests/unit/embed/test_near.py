"""Finding what is near by vectors, and by words where there are none."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence, Set
from typing import Any

import pytest

import virtual_time
from holdfast.embed.near import BATCH, LONGEST_PAUSE_SECONDS, MAX_TEXT, MOST_SECONDS, PAUSE_SECONDS, Near
from holdfast.errors import BadRequest, ContextTooLong, LimitExceeded, ModelBusy, ModelDown, ProviderFailed, Saturated

TEXTS = ["the red one", "the green one", "the blue one"]
NAMES = ["ruby", "emerald", "sapphire"]


class Model:
    """Knows which gem has which colour, which no shared word tells. Does what it is told to do wrong."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.wrong: Exception | None = None
        self.slow = 0.0
        self.short = 0
        self.size = 3

    async def of_question(self, text: str, seconds: float) -> Sequence[float]:
        async with asyncio.timeout(seconds):
            (vector,) = await self.of_texts([text])
        return vector

    async def of_texts(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.asked.append(list(texts))
        await asyncio.sleep(self.slow)
        if self.wrong is not None:
            raise self.wrong
        return [self._vector(text) for text in texts][self.short :]

    def _vector(self, text: str) -> list[float]:
        pairs = zip(["red", "green", "blue"], NAMES, strict=True)
        return [float(colour in text or name in text) for colour, name in pairs][: self.size]


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def loop() -> virtual_time.VirtualLoop:
    return virtual_time.VirtualLoop()


class Texts(Near):
    """Texts that are always searched by the vectors of one model."""

    def __init__(self, model: Model, texts: Sequence[str]) -> None:
        super().__init__(texts, name="examples.jsonl")
        self._model = model

    async def find(self, text: str, most: int, without: Set[int] = frozenset(), **options: Any) -> list[int]:
        return await super().find(text, most, without, source=self._model, **options)


def near(model: Model, texts: Sequence[str] = TEXTS) -> Texts:
    return Texts(model, texts)


def run(main: Coroutine[Any, Any, None], loop: virtual_time.VirtualLoop) -> None:
    virtual_time.run(main, loop)


async def test_without_a_model_words_decide() -> None:
    assert await Near(TEXTS, name="examples.jsonl").find("blue", 2) == [2, 0]


def test_with_a_model_vectors_decide(model, loop) -> None:
    async def main() -> None:
        texts = near(model)
        assert (await texts.find("sapphire", 3))[0] == 2
        assert (await texts.find("emerald", 1)) == [1]
        assert 1 not in await texts.find("emerald", 3, {1})

    run(main(), loop)


def test_the_vectors_of_the_texts_are_asked_for_once_and_not_before_they_are_needed(model, loop) -> None:
    async def main() -> None:
        texts = near(model)
        assert model.asked == []
        await asyncio.gather(*(texts.find(name, 1) for name in NAMES))
        await texts.find("ruby", 1)
        assert model.asked == [TEXTS, *([name] for name in NAMES), ["ruby"]]

    run(main(), loop)


def test_many_texts_are_asked_for_in_batches_and_long_ones_are_cut(model, loop) -> None:
    async def main() -> None:
        texts = near(model, ["red " * MAX_TEXT] * (BATCH + 1))
        await texts.find("ruby " * MAX_TEXT, 1)
        assert [len(batch) for batch in model.asked] == [BATCH, 1, 1]
        assert all(len(text) <= MAX_TEXT + 1 for batch in model.asked for text in batch)

    run(main(), loop)


@pytest.mark.parametrize("wrong", [ProviderFailed("down"), OSError("no route"), KeyError("surprise")])
def test_where_the_model_fails_words_decide_and_that_is_told_once(model, loop, caplog, wrong) -> None:
    model.wrong = wrong

    async def main() -> None:
        texts = near(model)
        for _ in range(3):
            assert await texts.find("sapphire blue", 1) == [2]
            await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    with caplog.at_level(logging.WARNING):
        run(main(), loop)
    (told,) = caplog.messages
    assert "examples.jsonl" in told
    assert str(wrong) in told
    assert len(model.asked) == 3


def test_a_model_that_failed_is_left_alone_for_a_while_and_then_asked_again(model, loop) -> None:
    model.wrong = ProviderFailed("down")

    async def main() -> None:
        texts = near(model)
        for waits in (PAUSE_SECONDS, 2 * PAUSE_SECONDS, 4 * PAUSE_SECONDS):
            asked = len(model.asked)
            await texts.find("ruby", 1)
            await asyncio.sleep(waits - 0.1)
            await texts.find("ruby", 1)
            assert len(model.asked) == asked + 1
            await asyncio.sleep(0.2)
        model.wrong = None
        assert await texts.find("sapphire", 1) == [2]

    run(main(), loop)


def test_a_search_waits_no_longer_than_it_may_while_the_vectors_go_on_coming(model, loop, caplog) -> None:
    model.slow = 1.0

    async def main() -> None:
        texts = near(model)
        started = loop.time()
        assert await texts.find("sapphire red", 1, seconds=0.5) == [0]  # by words
        assert loop.time() == started + 0.5
        await asyncio.sleep(PAUSE_SECONDS)
        assert await texts.find("sapphire red green emerald", 1, seconds=60) in ([0], [1])
        assert model.asked == [TEXTS, ["sapphire red green emerald"]]

    run(main(), loop)
    assert "no vectors within 0.5 s" in caplog.text


def test_no_search_waits_longer_than_the_longest_time(model, loop) -> None:
    model.slow = 3600.0

    async def main() -> None:
        texts = near(model)
        await texts.find("ruby", 1, seconds=500)
        assert loop.time() == MOST_SECONDS
        texts.close()
        await asyncio.sleep(0)

    run(main(), loop)


def test_a_caller_in_a_hurry_does_not_keep_others_from_vectors(model, loop, caplog) -> None:
    model.slow = 0.05

    async def main() -> None:
        texts = near(model)
        assert await texts.find("sapphire red", 1, seconds=0.01) == [0]
        assert await texts.find("sapphire", 1) == [2]

    run(main(), loop)
    assert caplog.messages == []


@pytest.mark.parametrize("error", [LimitExceeded("used up"), ContextTooLong("too long")])
def test_what_one_call_may_not_have_takes_nothing_away_from_the_others(model, loop, caplog, error) -> None:
    async def main() -> None:
        texts = near(model)
        await texts.find("ruby", 1)
        model.wrong = error
        assert await texts.find("the blue", 1) == [2]
        model.wrong = None
        assert await texts.find("sapphire", 1) == [2]

    run(main(), loop)
    assert caplog.messages == []


@pytest.mark.parametrize("error", [ModelDown("down"), ModelBusy("busy"), Saturated("full")])
def test_a_model_that_was_not_asked_needs_no_pause_but_that_is_told(model, loop, caplog, error) -> None:
    async def main() -> None:
        texts = near(model)
        await texts.find("ruby", 1)
        model.wrong = error
        for _ in range(2):
            assert await texts.find("the blue", 1) == [2]
        model.wrong = None
        assert await texts.find("sapphire", 1) == [2]

    run(main(), loop)
    (told,) = caplog.messages
    assert str(error) in told


@pytest.mark.parametrize("error", [LimitExceeded("used up"), BadRequest("no such model"), ModelBusy("busy")])
def test_texts_that_get_no_vectors_are_not_tried_again_by_every_call(model, loop, caplog, error) -> None:
    model.wrong = error

    async def main() -> None:
        texts = near(model)
        for _ in range(3):
            assert await texts.find("the blue", 1) == [2]
        assert model.asked == [TEXTS]
        await asyncio.sleep(PAUSE_SECONDS)
        model.wrong = None
        assert await texts.find("sapphire", 1) == [2]

    run(main(), loop)
    (told,) = caplog.messages
    assert str(error) in told


def test_the_wait_for_the_vectors_of_the_texts_is_part_of_the_wait(model, loop) -> None:
    model.slow = 0.4

    async def main() -> None:
        texts = near(model)
        started = loop.time()
        assert await texts.find("sapphire red", 1, seconds=0.5) == [0]  # by words
        assert loop.time() == started + 0.5
        assert model.asked == [TEXTS, ["sapphire red"]]

    run(main(), loop)


@pytest.mark.parametrize(("short", "size", "slow"), [(1, 3, 0.0), (0, 0, 0.0)])
def test_vectors_that_are_no_use_are_a_failure(model, loop, caplog, short, size, slow) -> None:
    async def main() -> None:
        texts = near(model)
        await texts.find("ruby", 1)
        model.short, model.size = short, size
        assert await texts.find("the blue one", 1) == [2]

    run(main(), loop)
    assert "no vectors" in caplog.text


def test_a_caller_who_leaves_takes_nothing_away_from_the_others(model, loop) -> None:
    model.slow = 1.0

    async def main() -> None:
        texts = near(model)
        leaving = asyncio.create_task(texts.find("ruby", 1))
        await asyncio.sleep(0.1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert await texts.find("sapphire", 1, seconds=60) == [2]
        assert model.asked == [TEXTS, ["sapphire"]]

    run(main(), loop)


def test_when_closed_it_asks_for_nothing_more_and_words_decide(model, loop) -> None:
    model.slow = 1.0

    async def main() -> None:
        texts = near(model)
        waiting = asyncio.create_task(texts.find("the blue one", 1))
        await asyncio.sleep(0.1)
        texts.close()
        assert await waiting == [2]
        assert await texts.find("the green one", 1) == [1]
        assert model.asked == [TEXTS]

    run(main(), loop)


def test_a_failure_that_nobody_waits_for_any_more_is_not_complained_of(model, loop, caplog) -> None:
    model.slow, model.wrong = 1.0, ProviderFailed("down")

    async def main() -> None:
        texts = near(model)
        await texts.find("ruby", 1, seconds=0.01)
        await asyncio.sleep(2)

    run(main(), loop)
    assert caplog.messages == []
