"""What contracts cost: the check of an answer, beside what else could check it: `contracts.py checks [--calls N]`.

The tables hold microseconds per call, p50 and p99, of a valid 1 KB answer under a 2 KB schema, and of the other forms;
then of the stream check, per chunk of four characters: the average over an answer, at p50 of all answers and at p99.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs
import msgspec
from report import Table
from resilience import Finding

from holdfast.contracts.base import Condition, Contract
from holdfast.contracts.conditions import AtField, Length
from holdfast.contracts.forms.grammar import GrammarForm
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.forms.text import ChoiceForm, PatternForm
from holdfast.contracts.streaming.watch import Watch

BAR_US = 60.0
CHUNK_BAR_US = 10.0
CHUNK = 4
"""Characters: about a token."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["title", "summary", "language", "steps", "sources"],
    "properties": {
        "title": {"type": "string", "maxLength": 120, "description": "A title, without a full stop. " * 4},
        "summary": {"type": "string", "maxLength": 600, "description": "What happened, in the past tense. " * 8},
        "language": {"enum": ["de", "en", "es", "fr", "it", "nl", "pt"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1, "description": "How sure the answer is. " * 6},
        "steps": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "required": ["do", "why"],
                "properties": {
                    "do": {"type": "string", "minLength": 1, "description": "One step, as an imperative. " * 8},
                    "why": {"type": "string", "description": "Why it is needed, in a clause. " * 8},
                    "minutes": {"type": "integer", "minimum": 0},
                },
            },
        },
        "sources": {"type": "array", "items": {"type": "string", "pattern": "^doc-[0-9]{1,6}$"}, "uniqueItems": True},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "Anything else. " * 20},
    },
}
ANSWER: dict[str, Any] = {
    "title": "Reset a forgotten password",
    "summary": "The password was reset from the sign-in page, and the old one stopped working at once. " * 3,
    "language": "en",
    "confidence": 0.93,
    "steps": [
        {"do": "Open the sign-in page and choose “Forgotten”.", "why": "it starts the reset", "minutes": step}
        for step in range(5)
    ],
    "sources": ["doc-17", "doc-4211", "doc-90"],
    "note": None,
}


def percentiles(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Return p50 and p99 of a call, in microseconds."""
    for _ in range(100):
        call()
    taken = []
    for _ in range(calls):
        started = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - started) / 1e3)
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


def measured() -> dict[str, Callable[[], object]]:
    text, wrong = json.dumps(ANSWER, ensure_ascii=False), json.dumps(ANSWER | {"language": "xx"}, ensure_ascii=False)
    contract = Contract(compile_schema(SCHEMA))
    lengths: list[Condition] = [Length("tokens", max=500), AtField("/summary", Length("words", max=99))]
    conditioned = Contract(compile_schema(SCHEMA), lengths)
    bare = jsonschema_rs.validator_for(SCHEMA)
    choice, date = Contract(ChoiceForm(["yes", "no"])), Contract(PatternForm("[0-9]{4}-[0-9]{2}-[0-9]{2}"))
    grammar = Contract(GrammarForm('start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/\n'))
    assert contract.check(text).ok
    assert not contract.check(wrong).ok
    return {
        "schema, valid": lambda: contract.check(text),
        "schema and lengths, valid": lambda: conditioned.check(text),
        "schema, one violation": lambda: contract.check(wrong),
        "reference: json.loads alone": lambda: json.loads(text),
        "reference: msgspec and jsonschema-rs, keys twice not seen": lambda: bare.is_valid(msgspec.json.decode(text)),
        "choice": lambda: choice.check("yes"),
        "pattern": lambda: date.check("2026-11-21"),
        "grammar, 100 bytes": lambda: grammar.check("12345678+" * 11 + "1"),
    }


def streamed(text: str, contract: Contract, *, strict: bool = False, partial: bool = False) -> Callable[[], object]:
    """Return what watches one answer come, a chunk at a time."""
    chunks = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)]

    def call() -> None:
        watch = Watch(contract, strict=strict)
        for chunk in chunks:
            watch.feed(chunk)
            if partial:
                watch.partial()
        assert watch.stopped is None

    return call


def watched() -> dict[str, tuple[int, Callable[[], object]]]:
    """Return the kinds of answers that come as streams, each with its number of chunks."""
    text = json.dumps(ANSWER, ensure_ascii=False)
    pretty = f"```json\n{json.dumps(ANSWER, ensure_ascii=False, indent=2)}\n```"
    sum, word = "12345678+" * 11 + "1", "x" * 1000
    contract = Contract(compile_schema(SCHEMA))
    grammar = Contract(GrammarForm('start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/\n'))
    fields: list[Condition] = [
        AtField("/summary", Length("words", max=99)),
        AtField("/steps/*/do", Length("words", max=9)),
    ]
    kinds = {
        "schema": (text, streamed(text, contract)),
        "schema, strict": (text, streamed(text, contract, strict=True)),
        "schema, and what is known after each chunk": (text, streamed(text, contract, partial=True)),
        "schema, indented, in a code fence": (pretty, streamed(pretty, contract)),
        "schema, conditions on fields": (text, streamed(text, Contract(compile_schema(SCHEMA), fields))),
        "grammar": (sum, streamed(sum, grammar)),
        "pattern": (word, streamed(word, Contract(PatternForm("[a-z ]+")))),
    }
    return {name: (-(-len(text) // CHUNK), call) for name, (text, call) in kinds.items()}


def measure(calls: int) -> tuple[list[Table], list[Finding]]:
    """Time one check of each form, and the stream check of a tenth as many answers."""
    wholes = {name: percentiles(call, calls) for name, call in measured().items()}
    chunks = {name: _per_chunk(count, percentiles(call, calls // 10)) for name, (count, call) in watched().items()}
    whole, chunk = wholes["schema, valid"][0], chunks["schema"][0]
    return [
        _table("One check, without a gateway, in microseconds", wholes),
        _table(f"The stream check of a chunk of {CHUNK} characters, without a gateway, in microseconds", chunks),
    ], [
        Finding("the check of a valid answer alone, p50 (us)", f"{whole:.1f}", f"< {BAR_US:g}", whole < BAR_US),
        Finding("the stream check of a chunk, p50 (us)", f"{chunk:.1f}", f"< {CHUNK_BAR_US:g}", chunk < CHUNK_BAR_US),
    ]


def _per_chunk(chunks: int, taken: tuple[float, float]) -> tuple[float, float]:
    return taken[0] / chunks, taken[1] / chunks


def _table(title: str, found: Mapping[str, tuple[float, float]]) -> Table:
    rows = tuple((name, f"{p50:.1f}", f"{p99:.1f}") for name, (p50, p99) in found.items())
    return Table(title, ("", "p50", "p99"), rows)
