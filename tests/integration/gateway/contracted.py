"""A contract for the tests of this folder, and answers that meet it or break it."""

from holdfast.contracts.load import make_contract

SCHEMA = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "integer"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}
RIGHT = '{"reasoning": "six times seven", "answer": 42}'
OTHER = '{"reasoning": "seven times seven", "answer": 49}'
WRONG = '{"reasoning": "six times seven", "answer": "many"}'
CONTRACT = make_contract(SCHEMA, name="answer.json")
