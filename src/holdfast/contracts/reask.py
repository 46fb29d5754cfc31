"""What to say to a model whose answer does not meet its contract, and what it is told beforehand.

Where it can be, only the parts that fail are asked for again: the model answers with one JSON object whose keys are
the JSON pointers of these parts, and what it says is put into its first answer, of which all else stays as it was.
"""

import json
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from holdfast.contracts.answer import MISSING, Met, Unmet
from holdfast.contracts.base import Constraint, Contract, Schema, shortened
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.parts import Part, parts_to_ask, schema_of_parts
from holdfast.contracts.repairs.places import place_of
from holdfast.errors import ConfigError
from holdfast.pointers import keys_of

MAX_ERRORS: Final = 2_000
"""Characters of errors in a message."""
MAX_REPEATED: Final = 800
"""Characters of a part's schema, about 200 tokens: the model had a longer one already."""
MAX_DESCRIBED: Final = 32_000
"""Characters of a schema, choices or a grammar in the instructions for a model."""
_MAX_ERROR: Final = 200
_ONLY_JSON: Final = "Answer with JSON only: no code fence, and nothing before or after it."


class Reask(msgspec.Struct, frozen=True):
    """A correction to ask for: what to say after the answer that failed, and what the correction has to meet.

    `join` makes the whole answer of a correction that meets its contract. The whole has to be met again: `join` puts in
    what the model said, and conditions over several parts know only the whole.
    """

    message: str
    contract: Contract
    join: Callable[[Met], str]


def reask(contract: Contract, unmet: Unmet) -> Reask:
    """Return how to ask for what is wrong in an answer: in parts where they can be told, else for the whole again."""
    return _of_parts(contract, unmet) or _of_whole(contract, unmet)


def _of_whole(contract: Contract, unmet: Unmet) -> Reask:
    errors = _listed(str(violation) for violation in unmet.violations)
    message = (
        f"Your answer can't be used:\n{errors}\n\n"
        "Answer again, with the whole of the corrected answer and nothing else."
    )
    return Reask(f"{message} {_ONLY_JSON}" if contract.is_json else message, contract, _text_of)


def _text_of(met: Met) -> str:
    return met.text


def _of_parts(contract: Contract, unmet: Unmet) -> Reask | None:
    if not isinstance(contract.schema, dict) or unmet.data is MISSING:
        return None
    parts = parts_to_ask(contract.schema, unmet.data, unmet.violations)
    schema = schema_of_parts(contract.schema, parts) if parts else None
    if schema is None:
        return None
    try:
        form = compile_schema(schema, formats=False, name=contract.name)  # the whole answer's check has them
        place_of(unmet.text)
    except (ConfigError, ValueError):
        return None
    correction = Contract(form, name=contract.name, allow=contract.allow)
    return Reask(_message(parts), correction, lambda met: joined(unmet.text, met.text))


def _message(parts: dict[str, Part]) -> str:
    errors = _listed(error for part in parts.values() for error in part.errors)
    lines = [f"Parts of your answer can't be used:\n{errors}", ""]
    schemas = {path: _compact(part.schema) for path, part in parts.items()}
    lines += [f"The JSON Schema of {path}: {text}" for path, text in schemas.items() if len(text) <= MAX_REPEATED]
    named = ", ".join(f"{json.dumps(path, ensure_ascii=False)}: …" for path in parts)
    lines.append(f"Answer with one JSON object that holds these parts corrected, by their paths: {{{named}}}.")
    return "\n".join([*lines, f"The rest of your answer stays as it is. {_ONLY_JSON}"])


def _listed(errors: Iterable[str]) -> str:
    """Return errors as a list, each shortened, and no more than fit."""
    distinct = list(dict.fromkeys(errors))
    lines: list[str] = []
    left = MAX_ERRORS
    for error in distinct:
        line = f"- {' '.join(shortened(error, _MAX_ERROR).split())}"
        left -= len(line) + 1
        if left < 0:
            lines.append(f"- and {len(distinct) - len(lines)} more")
            break
        lines.append(line)
    return "\n".join(lines)


def joined(text: str, correction: str) -> str:
    """Return an answer with the values of a correction at their pointers, and all else as it was, to the byte.

    Both are JSON; the correction is an object whose keys are JSON pointers. A key that the answer lacks is put after
    the last one of its object.

    Raises:
        ValueError: a pointer leads nowhere.
    """
    root, values = place_of(text), place_of(correction)
    edits: list[tuple[int, int, str]] = []
    grown: set[int] = set()
    for path, value in values.inner or ():
        written = correction[value.start : value.end]
        steps = keys_of(path)
        if (place := root.at(steps)) is not None:
            edits.append((place.start, place.end, written))
            continue
        parent = root.at(steps[:-1])
        if parent is None or not parent.is_object or not steps:
            raise ValueError(f"there is nothing at {path}")
        at = parent.inner[-1][1].end if parent.inner else parent.start + 1
        comma = ", " if parent.inner or at in grown else ""
        grown.add(at)
        edits.append((at, at, f"{comma}{json.dumps(steps[-1], ensure_ascii=False)}: {written}"))
    edits.sort(key=lambda edit: edit[:2])
    pieces: list[str] = []
    at = 0
    for start, end, written in edits:
        pieces += (text[at:start], written)
        at = end
    return "".join([*pieces, text[at:]])


# --- what a model is told beforehand ----------------------------------------------------------------------------------


def describe(contract: Contract, *, form: bool = True) -> str:
    """Return instructions for a model: the form in words, if its server does not enforce it, and the conditions."""
    lines = [_form_told(contract.constraint)] if form and contract.constraint is not None else []
    rules = [rule for condition in contract.conditions if (rule := getattr(condition, "rule", ""))]
    if rules:
        lines.append(f"These must hold of the answer:\n{_listed(rules)}")
    return "\n\n".join(lines)


def _form_told(constraint: Constraint) -> str:
    if constraint.kind == "json_schema":
        if constraint.value in (True, {}):
            return _ONLY_JSON
        if constraint.value == {"type": "object"}:
            return f"{_ONLY_JSON} It is one JSON object."
        return f"{_ONLY_JSON} It is valid under this JSON Schema:\n{_bounded(_compact(constraint.value))}"
    if constraint.kind == "choice":
        listed = "\n".join(f"- {choice}" for choice in constraint.value)
        return f"Answer with one of these, to the letter, and nothing else:\n{_bounded(listed)}"
    what = "this regular expression from start to end" if constraint.kind == "pattern" else "this Lark grammar"
    return f"Answer with a text that matches {what}, and with nothing else:\n{_bounded(constraint.value)}"


def _bounded(text: str) -> str:
    return shortened(text, MAX_DESCRIBED)


def _compact(schema: Schema) -> str:
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
