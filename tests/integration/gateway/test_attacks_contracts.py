"""Contracts under attack: whatever comes, a call ends in one way, in time, and with no byte that was not checked."""

import asyncio
from typing import Any

import pytest

import holdfast
from holdfast.contracts.base import Contract
from holdfast.contracts.load import make_contract
from holdfast.errors import ContractViolated
from integration.gateway.staged import Caller, Gateway, Play, Staged, answers, play, whole

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}
RIGHT = '{"reasoning": "six times seven", "answer": 42}'
WRONG = '{"reasoning": "six times seven", "answer": "many"}'
CONTRACT = make_contract(SCHEMA, name="answer.json")
HOW = ["whole", "hold", "pass", "object"]


def asked_one(
    *scripts: list[Play],
    how: str = "whole",
    contract: Contract | None = CONTRACT,
    hints: Any = None,
    request: dict[str, Any] | None = None,
    feature: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Caller, Any]:
    """Make one call of a feature under a contract, over models that play these scripts."""
    caller = Caller()

    async def scene(gateway: Gateway) -> None:
        for name, script in zip(("first", "other", "third"), scripts, strict=False):
            gateway.model(name, Staged(*script))
        shown = {"contract": contract, "stream": "hold" if how == "whole" else how}
        gateway.serve(feature=shown | (feature or {}), **options)
        began = gateway.loop.monotonic()
        await gateway.call(caller, stream=how != "whole", hints=hints, **(request or {}))
        assert gateway.loop.monotonic() - began <= options.get("deadline", 10.0) + 0.05

    (call,) = play(scene)
    return caller, call


def says_it(how: str, *texts: str) -> Play:
    return whole("".join(texts)) if how == "whole" else answers(*texts)


# --- functions of the application -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("failure", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), RecursionError()])
def test_a_predicate_that_raises_what_would_end_the_process_fails_the_answer_alone(failure, how):
    @holdfast.predicate
    def exits(value: Any) -> bool:
        raise failure

    contract = Contract(CONTRACT.form, [exits], name="answer.json")
    caller, call = asked_one([says_it(how, RIGHT)], how=how, contract=contract, retries=0)
    assert isinstance(caller.error, ContractViolated)
    assert type(failure).__name__ in caller.error.message
    assert call.error == "contract_violated"


def test_a_validator_that_raises_what_would_end_the_process_fails_the_answer_alone():
    from pydantic import BaseModel, field_validator

    class Answer(BaseModel):
        answer: int

        @field_validator("answer")
        @classmethod
        def exits(cls, value: int) -> int:
            raise SystemExit(3)

    caller, _ = asked_one([whole('{"answer": 1}')], contract=make_contract(Answer, name="answer"), retries=0)
    assert isinstance(caller.error, ContractViolated)
    assert "SystemExit" in caller.error.message


# --- answers that are mended ------------------------------------------------------------------------------------------


def test_a_mended_part_that_is_too_large_to_be_put_in_leaves_the_next_model(monkeypatch):
    monkeypatch.setattr("holdfast.gateway.judge.heavy", lambda *_: False)  # a thread takes no virtual time
    schema = {"type": "object", "properties": {"xs": {"type": "array", "items": {"type": "integer"}}}}
    large = whole('{"/xs": [' + ",".join(["1"] * 150_000) + "]}")
    first, other = [whole('{"xs": "none"}'), large], [whole('{"xs": [1]}')]
    caller, call = asked_one(first, other, contract=make_contract(schema, name="xs"))
    assert caller.said == '{"xs": [1]}'
    assert [attempt.error for attempt in call.attempts] == ["contract_violated", "contract_violated", None]
