"""Answered examples as a file holds them: JSON Lines, with the line of every mistake."""

import difflib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from holdfast.chat import Message, Role, Text
from holdfast.contracts.base import Contract
from holdfast.contracts.conditions import approximate_tokens
from holdfast.contracts.forms.schema import decode

MAX_FAULTS: Final = 100
"""After so many, no more of a file is read."""
_SHOWN: Final = 3
_KEYS: Final = ("input", "output", "messages", "id")

Fault = tuple[int, str]
"""A line of a file, and what is wrong with it."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An answered question, or a conversation that ends with the answer."""

    messages: tuple[Message, ...]
    line: int
    id: str | None = None

    @property
    def input(self) -> str:
        """The text of the last message of the user."""
        return last_of_user(self.messages)

    @property
    def output(self) -> str:
        """The answer."""
        return self.messages[-1].text

    @property
    def tokens(self) -> int:
        """About how many there are: of each message, a quarter of its bytes, rounded up."""
        return sum(approximate_tokens(message.text) for message in self.messages)


def last_of_user(messages: Sequence[Message]) -> str:
    """Return the text of the last message of the user, "" without one."""
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def read_examples(text: str, contract: Contract | None = None) -> tuple[list[Example], list[Fault]]:
    """Return the examples that a text in JSON Lines holds, and all that is wrong with it. Never raises."""
    examples: list[Example] = []
    faults: list[Fault] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not (line := line.strip("\ufeff \t\r")):
            continue
        try:
            example = _example(line, number)
            _check_id(example, lines)
            _check_answer(example, contract)
        except ValueError as error:
            faults.append((number, str(error)))
        else:
            examples.append(example)
        if len(faults) == MAX_FAULTS:
            faults.append((number, f"{MAX_FAULTS} lines are wrong: what follows was not read"))
            break
    if not examples and not faults:
        faults.append((0, "there is no example in it"))
    return examples, faults


def _check_id(example: Example, lines: dict[str, int]) -> None:
    if example.id is not None and (first := lines.setdefault(example.id, example.line)) != example.line:
        raise ValueError(f'the id "{example.id[:100]}" stands twice, first in line {first}')


def _check_answer(example: Example, contract: Contract | None) -> None:
    if contract is None or not (violations := contract.check(example.output).violations):
        return
    told = "; ".join(map(str, violations[:_SHOWN]))
    more = f"; and {len(violations) - _SHOWN} more" if len(violations) > _SHOWN else ""
    raise ValueError(f"the answer does not meet the contract: {told}{more}")


def _example(line: str, number: int) -> Example:
    """Return the example in a line. Raises ValueError."""
    try:
        found = decode(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError('expected an object such as {"input": "...", "output": "..."}')
    for key in found:
        if key not in _KEYS:
            near = difflib.get_close_matches(key[:100], _KEYS, n=1)
            raise ValueError(f'unknown key "{key[:100]}"' + (f' (did you mean "{near[0]}"?)' if near else ""))
    id = found.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int | None):
        raise ValueError("id: expected text or a whole number")
    return Example(messages=_messages(found), line=number, id=None if id is None else str(id))


def _messages(found: dict[str, Any]) -> tuple[Message, ...]:
    if "messages" in found:
        if "input" in found or "output" in found:
            raise ValueError("expected either messages, or input and output")
        return _conversation(found["messages"])
    for key in ("input", "output"):
        if key not in found:
            raise ValueError(f"{key}: required, but missing")
    return (_message("user", _text(found["input"], "input")), _message("assistant", _answer(found["output"], "output")))


def _conversation(found: object) -> tuple[Message, ...]:
    if not isinstance(found, list) or len(found) < 2:
        raise ValueError("messages: expected an array that ends with a question and its answer")
    messages = [_turn(turn, f"messages[{place}]") for place, turn in enumerate(found)]
    if (messages[0].role, messages[-1].role) != ("user", "assistant"):
        raise ValueError("messages: expected the user's question first, and the assistant's answer last")
    for place, (before, after) in enumerate(pairwise(messages), 1):
        if before.role == after.role:
            raise ValueError(f"messages[{place}]: expected the user and the assistant in turn")
    return tuple(messages)


def _turn(found: object, at: str) -> Message:
    if not isinstance(found, dict) or found.keys() != {"role", "content"}:
        raise ValueError(f'{at}: expected {{"role": "...", "content": "..."}}')
    if found["role"] == "user":
        return _message("user", _text(found["content"], f"{at}.content"))
    if found["role"] == "assistant":
        return _message("assistant", _answer(found["content"], f"{at}.content"))
    instead = ": instructions go into the prompt" if found["role"] in ("system", "developer") else ""
    raise ValueError(f'{at}.role: expected "user" or "assistant"{instead}')


def _answer(found: object, at: str) -> str:
    """Return an answer as a model would write it: text as it stands, everything else as JSON."""
    if found is None or isinstance(found, str):
        return _text(found, at, "text, or JSON other than null")
    return msgspec.json.encode(found).decode()


def _text(found: object, at: str, expected: str = "text") -> str:
    if not isinstance(found, str):
        raise ValueError(f"{at}: expected {expected}")
    if not found.strip():
        raise ValueError(f"{at}: there is nothing in it")
    return found


def _message(role: Role, text: str) -> Message:
    return Message(role=role, parts=(Text(text=text),))
