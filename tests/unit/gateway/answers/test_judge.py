"""What could take long in judging answers is done so that other calls have their turns."""

import asyncio
import json

import pytest

from holdfast.chat import Message, Request, ResponseFormat, Text, Tool
from holdfast.contracts.load import make_contract
from holdfast.contracts.requested import LIGHT, at_hand, requested
from holdfast.contracts.streaming.watch import Watch
from holdfast.errors import InvalidRequest
from holdfast.gateway.answers.binding import judge_of
from holdfast.gateway.answers.follower import BREATH, Follower
from holdfast.gateway.record import Arrival

SCHEMA = {"type": "object", "properties": {"numbers": {"items": {"type": "integer"}}}}
NUMBERS = '{"numbers": [' + "1, " * BREATH + "1]}"
WRONG = '{"numbers": [' + "1, " * BREATH + "true, 1]}"


class Turns:
    """Counts the turns that others have meanwhile."""

    def __init__(self) -> None:
        self.count = 0

    async def __aenter__(self) -> "Turns":
        self._task = asyncio.create_task(self._others())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _others(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.count += 1


def large_schema(name: str = "k") -> dict:
    schema = {"properties": {f"{name}{number}": {"type": "string"} for number in range(200)}}
    assert len(json.dumps(schema)) > LIGHT
    return schema


def arrival(schema: dict) -> Arrival:
    format = ResponseFormat(type="schema", schema=schema)
    messages = (Message(role="user", parts=(Text(text="?"),)),)
    request = Request(model="m", messages=messages, response_format=format)
    return Arrival(id="1", kind="chat", wire="openai", started=0.0, at=0.0, request=request)


@pytest.mark.parametrize("size", [1, 7, BREATH, len(WRONG)])
@pytest.mark.parametrize("text", [NUMBERS, WRONG])
async def test_an_answer_that_comes_at_once_is_followed_as_one_that_comes_slowly(text, size):
    contract = make_contract(SCHEMA)
    follower = Follower(Watch(contract))
    found = None
    for at in range(0, len(text), size):
        found = found or await follower.feed(text[at : at + size])
    assert found == Watch(contract).feed(text)
    assert (found is None) == (text is NUMBERS)


@pytest.mark.parametrize("size", [16, len(NUMBERS)])
async def test_others_have_their_turns_while_an_answer_comes_at_once(size):
    follower = Follower(Watch(make_contract(SCHEMA)))
    async with Turns() as turns:
        for at in range(0, len(NUMBERS), size):
            await follower.feed(NUMBERS[at : at + size])
    assert turns.count >= 1


async def test_others_have_their_turns_while_a_large_schema_is_compiled():
    async with Turns() as turns:
        judge = await judge_of(None, arrival(large_schema("turns")), 0)
    assert judge is not None
    assert turns.count >= 1


async def test_a_large_schema_that_can_not_be_used_is_refused():
    with pytest.raises(InvalidRequest, match="leads nowhere"):
        await judge_of(None, arrival(large_schema("refused") | {"$ref": "#/nowhere"}), 0)


def test_a_large_schema_is_at_hand_once_it_has_been_compiled_and_a_small_one_always():
    large = ResponseFormat(type="schema", schema=large_schema("at_hand"))
    assert not at_hand(large, None, ())
    requested(large)
    assert at_hand(large, None, ())
    assert at_hand(ResponseFormat(type="schema", schema=SCHEMA), None, ())
    assert at_hand(None, None, ())


def test_the_parameters_of_strict_tools_alone_have_to_be_compiled():
    parameters = large_schema("tools")
    assert not at_hand(None, None, (Tool(name="f", parameters=parameters, strict=True),))
    assert at_hand(None, None, (Tool(name="f", parameters=parameters),))
