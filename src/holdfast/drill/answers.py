"""What the simulated models of a drill say: a text of a few sentences, or under a contract one that meets it."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Literal

import msgspec

from holdfast.contracts.answer import Met, Unmet, meet
from holdfast.contracts.base import Contract, Schema
from holdfast.providers.simulated.synthesis import synthesize
from holdfast.providers.simulated.tokens import count

REPLY: Final = (
    "The harbour is closed tonight, since a storm is coming in from the north – so the ferry stays where it is, moored "
    "to the pier. The café by the lighthouse is open until ten and keeps a lamp in the window for those who wait. "
    "Tomorrow’s first boat leaves at six, if the wind allows it."
)
REWORDED: Final = (
    "No ferry leaves any more tonight: there is a storm on its way, and it will be here within the hour. Please wait "
    "in the café, which is warm and open until ten. If the sea has calmed down by then, boats run again from six "
    "o’clock."
)
_TEXTS: Final = (REPLY, REWORDED, "The ferry leaves at six.", "There is a boat at six.", "ferry", "boat")
"""What strings in an answer say, each in two ways: where the first are too long, the next may fit."""
USUAL_TOKENS: Final = 120
"""Answers up to this length are taken as they come; of longer ones the shortest, since a drill is not about length."""
_WRONG: Final = (f'{{"reply": "{REPLY}"}}', REPLY, "No.", " ".join([REPLY] * 3))
Kind = Literal["reply", "wrong", "fenced"]


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What models say to the calls of one feature.

    `reworded` is as right as `reply`, in other words where there are any. `wrong` breaks the contract beyond repair,
    `fenced` is the reply inside a code fence; each is None where that would be no fault.
    """

    reply: str = REPLY
    reworded: str = REWORDED
    wrong: str | None = None
    fenced: str | None = None
    contract: Contract | None = None
    """What answers are held to."""

    def say(self, kind: Kind) -> str | None:
        """Return the answer of a kind, None where there is none."""
        return {"reply": self.reply, "wrong": self.wrong, "fenced": self.fenced}[kind]


def answers_to(contract: Contract, examples: Sequence[str] = (), last_resort: str | None = None) -> Answers | None:
    """Return answers that meet a contract: made up, or else an example's, or the last resort. None: there are none."""
    known = [*examples, *([] if last_resort is None else [last_resort])]
    possible = sorted(dict.fromkeys([*_made_up(contract), *known]), key=lambda text: max(count(text), USUAL_TOKENS))
    found = list(islice((text for text in possible if contract.check(text).ok), 2))
    if not found:
        return None
    wrong = next((text for text in _WRONG if isinstance(meet(contract, text), Unmet)), None)
    return Answers(
        reply=found[0], reworded=found[-1], wrong=wrong, fenced=_fenced(contract, found[0]), contract=contract
    )


def _made_up(contract: Contract) -> Iterator[str]:
    constraint, schema = contract.constraint, contract.schema
    if constraint is not None and constraint.kind == "choice":
        yield from constraint.value
    elif schema is None:
        yield from _TEXTS
    else:
        for variant in (schema, _least(schema)):
            with suppress(ArithmeticError, RecursionError, TypeError, ValueError):  # nobody can make sense of it
                yield from _synthesized(variant)


def _synthesized(schema: Schema) -> Iterator[str]:
    """Make up answers that fit a schema, as far as the simulator knows how to. Raises what it stumbles over."""
    *longer, other, shortest = _TEXTS
    least = _json_of(schema, shortest)
    if count(least) <= USUAL_TOKENS:  # else it has too many strings for them to say much
        yield from [_json_of(schema, text) for text in longer]
    yield from (_json_of(schema, other), least)


def _least(schema: Schema) -> Schema:
    """Return a schema without the properties that need not be there: one of them may be what can't be made up."""
    least = _without_optional(schema)
    assert isinstance(least, dict | bool)
    return least


def _without_optional(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_optional(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    least = {key: _without_optional(value) for key, value in schema.items()}
    properties, required = least.get("properties"), schema.get("required", [])
    if isinstance(properties, dict) and isinstance(required, list):
        least["properties"] = {name: value for name, value in properties.items() if name in required}
    return least


def _json_of(schema: Schema, text: str) -> str:
    """Encode with spaces, so that it has several tokens."""
    return msgspec.json.format(msgspec.json.encode(synthesize(schema, text)), indent=0).decode()


def _fenced(contract: Contract, reply: str) -> str | None:
    """Return the reply in a fence, None where that is as good an answer: the contract lets any text be."""
    if contract.constraint is None:
        return None
    fenced = f"```{'json' if contract.is_json else ''}\n{reply}\n```"
    met = meet(contract, fenced)
    return None if isinstance(met, Met) and met.text != reply else fenced
