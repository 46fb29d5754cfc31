"""Outputs of real models, where the data is at hand."""

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.contracts.answer import Met, meet
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.contracts.ledger import Repaired, replay
from holdfast.contracts.repairs.repair import repair
from holdfast.contracts.shape import Shape, fits

FOLDER = Path(os.environ.get("HOLDFAST_DATA", "no such folder")) / "outputs"
MODELS = sorted(path for path in FOLDER.glob("gsm-*.jsonl.gz") if "questions" not in path.name)
WANTED = Shape.of_keys({"reasoning": "string", "answer": "string"})
EACH, OVERALL = 0.99, 0.995
Results = dict[str, list[tuple[str, dict[str, Any] | None]]]

pytestmark = pytest.mark.skipif(not MODELS, reason="HOLDFAST_DATA names no folder with outputs/")


def outputs(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["output"] for line in lines]


def recovered(text: str) -> dict[str, Any] | None:
    result = repair(text, WANTED)
    if not isinstance(result, Repaired):
        return None
    assert replay(text, result.ledger) == result.text
    assert repair(result.text, WANTED) == Repaired(result.text)
    value = json.loads(result.text)
    return value if fits(value, WANTED) else None


def has_both_keys(text: str) -> bool:
    return '"reasoning"' in text and '"answer"' in text


@pytest.fixture(scope="module")
def results() -> Results:
    return {path.name: [(text, recovered(text)) for text in outputs(path)] for path in MODELS}


def test_the_answers_of_every_model_are_recovered(results: Results) -> None:
    shares = []
    for name, pairs in results.items():
        asked = [value is not None for text, value in pairs if has_both_keys(text)]
        assert sum(asked) / len(asked) >= EACH, name
        shares += asked
    assert sum(shares) / len(shares) >= OVERALL


def test_the_answers_meet_a_contract_as_they_are_recovered(results: Results) -> None:
    """All but those in which a key stands twice, which no contract takes."""
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in WANTED.keys},
        "required": [*WANTED.keys],
    }
    contract = Contract(compile_schema(schema))
    shares = []
    for name, pairs in results.items():
        values = [(text, value, meet(contract, text)) for text, value in pairs]
        assert all(met.value == value for _, value, met in values if isinstance(met, Met)), name
        asked = [isinstance(met, Met) for text, _, met in values if has_both_keys(text)]
        assert sum(asked) / len(asked) >= EACH, name
        shares += asked
    assert sum(shares) / len(shares) >= OVERALL


def test_no_answer_is_invented_where_there_is_none(results: Results) -> None:
    for pairs in results.values():
        assert all(value is None for text, value in pairs if not has_both_keys(text))


def test_recovered_strings_are_what_the_model_wrote(
    results: Results,
) -> None:
    for pairs in results.values():
        for text, value in pairs:
            written = {unescaped(text), unescaped(re.sub(r'"\s*\+\s*"', "", text))}
            for key in WANTED.keys if value else ():
                assert any(unescaped(value[key]) in source for source in written), value[key]


def unescaped(text: str) -> str:
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    return re.sub(r"\s", " ", re.sub(r"\\[nrt]", " ", text).replace("\\", ""))


def test_every_second_character_of_an_answer_cut_short_leaves_no_answer() -> None:
    """An answer that was cut is refused, or closed where its last value is whole."""
    for path in MODELS:
        text = next(text for text in outputs(path) if recovered(text))
        whole = recovered(text)
        for length in range(0, len(text), 2):
            assert recovered(text[:length]) in (None, whole)
