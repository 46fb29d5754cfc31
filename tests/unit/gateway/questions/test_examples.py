"""Which examples a call is shown."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Image, Message, Request, Text
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.text import ChoiceForm
from holdfast.errors import ConfigError
from holdfast.gateway.questions.answered import read_examples
from holdfast.gateway.questions.examples import Shots, ready
from holdfast.gateway.settings import Examples

QUESTIONS = [
    "Where is my parcel?",
    "How do I return a parcel?",
    "Which payment methods do you take?",
    "Do you deliver?",
]
FILE = "\n".join(json.dumps({"input": text, "output": f"A{at}", "id": f"q{at}"}) for at, text in enumerate(QUESTIONS))
WORDS = st.lists(st.sampled_from(["red", "green", "BLUE", "kelp", "海藻", "?"]), min_size=1, max_size=6).map(" ".join)


def asked(text: str, *before: Message) -> Request:
    return Request(model="answer", messages=(*before, Message(role="user", parts=(Text(text=text),))))


def shots(text: str = FILE, **settings: object) -> Shots:
    return ready(Examples(file="examples.jsonl", **settings), lambda _: text)


async def answers(found: Shots, request: Request | str, tags: dict[str, str] | None = None) -> list[str]:
    """The answers that are shown, in their order."""
    messages = await found.messages(asked(request) if isinstance(request, str) else request, tags)
    assert [message.role for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    return [message.text for message in messages if message.role == "assistant"]


async def test_all_are_shown_in_the_order_of_the_file() -> None:
    assert await answers(ready("examples.jsonl", lambda _: FILE), "Hello") == ["A0", "A1", "A2", "A3"]


async def test_the_first_are_shown_in_the_order_of_the_file() -> None:
    assert await answers(shots(select="first", k=2), "Do you deliver?!") == ["A0", "A1"]
    assert len(await answers(shots(select="first", k=99), "Hello")) == 4


async def test_the_nearest_is_shown_last() -> None:
    assert await answers(shots(select="nearest", k=2), "I return this parcel") == ["A0", "A1"]
    assert await answers(shots(select="nearest", k=1), "payment?") == ["A2"]


async def test_what_is_near_is_told_by_the_last_message_of_the_user() -> None:
    said = Message(role="user", parts=(Text(text="Which payment methods?"),))
    answer = Message(role="assistant", parts=(Text(text="Do you deliver? Deliver what?"),))
    request = Request(model="answer", messages=(said, answer, asked("return it").messages[0], answer))
    assert await answers(shots(select="nearest", k=1), request) == ["A1"]


async def test_a_call_without_a_text_of_the_user_is_shown_the_first() -> None:
    found = shots(select="nearest", k=1)
    picture = Message(role="user", parts=(Image(url="https://example.com/a.png"),))
    assert await answers(found, Request(model="answer", messages=(picture,))) == ["A0"]
    assert await answers(found, Request(model="answer", messages=())) == ["A0"]


# --- never the example itself


@pytest.mark.parametrize("select", ["all", "first", "nearest"])
@pytest.mark.parametrize("written", [QUESTIONS[1], "  how do i\n\treturn a  PARCEL? ", "How do I return a ｐarcel?"])
async def test_an_example_is_not_shown_to_the_call_that_asks_the_same(select: str, written: str) -> None:
    found = await answers(shots(select=select, k=3), written)
    assert len(found) == 3
    assert "A1" not in found


@pytest.mark.parametrize("select", ["all", "first", "nearest"])
async def test_an_example_is_not_shown_to_the_call_that_names_it(select: str) -> None:
    found = await answers(shots(select=select, k=3), "Something else about payment", {"example": "q2"})
    assert len(found) == 3
    assert "A2" not in found


async def test_a_tag_that_names_no_example_leaves_none_out() -> None:
    assert len(await answers(shots(), "Hello", {"example": "q9", "team": "q1"})) == 4


async def test_a_conversation_is_not_shown_to_a_call_that_asks_any_of_its_questions() -> None:
    turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "Where?"), ("assistant", "There.")]
    text = json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]})
    found = shots(text)
    assert await found.messages(asked("hi")) == ()
    assert await found.messages(asked("WHERE?")) == ()
    assert len(await found.messages(asked("There."))) == 4


async def test_every_example_with_the_same_question_is_left_out() -> None:
    text = "\n".join(json.dumps({"input": word, "output": str(at)}) for at, word in enumerate(["a", "A", "b", " a "]))
    for select in ("all", "nearest"):
        assert await answers(shots(text, select=select), "a") == ["2"]


async def test_a_very_long_call_is_shown_examples_too() -> None:
    assert (await answers(shots(select="nearest", k=1), "the parcel " * 200_000)) in (["A0"], ["A1"])


# --- the budget


async def test_of_the_nearest_the_farthest_is_left_out_where_not_all_fit() -> None:
    text = "\n".join(json.dumps({"input": f"{word} kelp", "output": "y" * 40}) for word in ("red", "green", "blue"))
    found = await shots(text, select="nearest", k=3, tokens=30).messages(asked("green and blue and blue kelp"))
    assert sum(len(message.text) for message in found) <= 120
    assert {message.text for message in found if message.role == "user"} == {"green kelp", "blue kelp"}


async def test_in_the_order_of_the_file_what_comes_first_is_kept() -> None:
    assert await answers(shots(tokens=15), "Hello") == ["A0", "A1"]


async def test_what_does_not_fit_by_itself_gives_its_place_to_others() -> None:
    text = json.dumps({"input": "kelp " * 100, "output": "long"}) + "\n" + FILE
    assert await answers(shots(text, select="nearest", k=1, tokens=20), "kelp parcel") == ["A0"]


def test_a_budget_into_which_no_example_fits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"examples.jsonl: no example fits into 2 tokens: the shortest has 5"):
        shots(tokens=2)


@given(
    st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12),
    WORDS,
    st.sampled_from(["all", "first", "nearest"]),
    st.integers(1, 6),
    st.none() | st.integers(1, 40),
)
async def test_a_call_is_never_shown_itself_nor_more_than_fits(
    pairs: list[tuple[str, str]], text: str, select: str, k: int, tokens: int | None
) -> None:
    written = "\n".join(json.dumps({"input": question, "output": answer}) for question, answer in pairs)
    try:
        found = shots(written, select=select, k=k, tokens=tokens)
    except ConfigError:
        assert tokens is not None
        return
    messages = await found.messages(asked(text))
    assert messages == await shots(written, select=select, k=k, tokens=tokens).messages(asked(text))
    questions = [message.text for message in messages[::2]]
    assert text.lower() not in [question.lower() for question in questions]
    assert set(zip(questions, [message.text for message in messages[1::2]], strict=True)) <= set(pairs)
    assert tokens is None or sum(-(-len(message.text.encode()) // 4) for message in messages) <= tokens
    assert select == "all" or len(questions) <= k


@given(st.lists(WORDS, min_size=1, max_size=12), WORDS, st.integers(1, 6))
async def test_fewer_of_the_nearest_are_the_end_of_more(questions: list[str], text: str, k: int) -> None:
    written = "\n".join(json.dumps({"input": question, "output": str(at)}) for at, question in enumerate(questions))
    few = await answers(shots(written, select="nearest", k=k), text)
    many = await answers(shots(written, select="nearest", k=k + 3), text)
    assert few == (many[-len(few) :] if few else many)


# --- readiness


def test_every_mistake_of_the_file_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError) as refused:
        shots('{"input": "a"}\n' + FILE + "\n?")
    first, last = refused.value.problems
    assert str(first) == "examples.jsonl:1: output: required, but missing"
    assert (last.file, last.line) == ("examples.jsonl", 6)


def test_an_answer_that_does_not_meet_the_contract_is_refused() -> None:
    contract = Contract(ChoiceForm(["A0", "A1", "A3"]))
    with pytest.raises(ConfigError, match=r"examples\.jsonl:3: the answer does not meet the contract: ") as refused:
        ready("examples.jsonl", lambda _: FILE, contract)
    assert len(refused.value.problems) == 1


async def test_with_a_model_its_vectors_tell_what_is_near() -> None:
    class Source:
        async def of_texts(self, texts: Sequence[str]) -> list[list[float]]:
            return [[1.0, float("parcel" in text or "package" in text)] for text in texts]

        async def of_question(self, text: str, seconds: float) -> list[float]:
            assert seconds == pytest.approx(0.1, abs=0.05)
            return (await self.of_texts([text]))[0]

    asks = asked("Which package do you take?")
    settings = Examples(file="examples.jsonl", select="nearest", k=2, embeddings="vectors")
    found = ready(settings, lambda _: FILE)
    by_vectors = await found.messages(asks, seconds=1.0, source=Source())
    assert [message.text for message in by_vectors[1::2]] == ["A1", "A0"]
    found.close()
    assert (await found.messages(asks, source=Source()))[-1].text == "A2"
    assert (await answers(found, asks))[-1] == "A2"


def test_examples_are_read_once_and_never_change() -> None:
    examples, _ = read_examples(FILE)
    assert list(shots().examples) == examples
