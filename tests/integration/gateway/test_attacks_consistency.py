"""Replays and votes under attack: the same question gets the same answer, and nobody gets what was not for them."""

from holdfast.contracts.load import make_contract
from holdfast.gateway.catalog import Replay
from holdfast.gateway.examples import ready
from holdfast.gateway.hints import Hints
from integration.gateway.staged import Caller, Gateway, Staged, play, whole

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}
RIGHT = '{"reasoning": "six times seven", "answer": 42}'
OTHER = '{"reasoning": "seven times seven", "answer": 49}'
CONTRACT = make_contract(SCHEMA, name="answer.json")
REPLAY = Replay(ttl=60.0, hash=b"x")


# --- replays ----------------------------------------------------------------------------------------------------------


def test_a_question_that_is_shown_other_examples_is_another_question():
    shots = ready("examples.jsonl", lambda _: '{"id": "1", "input": "a", "output": "b"}\n{"input": "c", "output": "d"}')
    callers = [Caller() for _ in range(3)]

    async def scene(gateway: Gateway) -> None:
        model = gateway.model("first", Staged(whole("with its own answer"), whole("without")))
        gateway.serve(feature={"replay": REPLAY, "examples": shots})
        await gateway.call(callers[0], stream=False)
        await gateway.call(callers[1], stream=False, hints=Hints(tags={"example": "1"}))
        await gateway.call(callers[2], stream=False, hints=Hints(tags={"run": "1"}))
        assert len(model.transport.requests) == 2

    play(scene)
    assert [caller.said for caller in callers] == ["with its own answer", "without", "with its own answer"]
