"""Examples in the configuration."""

import json
from pathlib import Path

import pytest

from holdfast.config import Configuration, load, parse
from holdfast.errors import ConfigError
from holdfast.gateway.settings import Examples

FILE = json.dumps({"input": "Where?", "output": "There."}) + "\n"
MODELS = """\
[models.a]
provider = "simulated"

[models.vectors]
provider = "simulated"

[models.claude]
provider = "anthropic"
api_key = { env = "KEY" }
"""


def toml(examples: str) -> str:
    return f'{MODELS}\n[features.answer]\nmodels = ["a"]\nexamples = {examples}\n'


def parsed(examples: str, file: str = FILE) -> Configuration:
    return parse({"holdfast.toml": toml(examples), "shots.jsonl": file})


def problems(examples: str, file: str = FILE) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parsed(examples, file)
    return [str(problem).removeprefix("holdfast.toml:13: features.answer.") for problem in refused.value.problems]


def test_examples_are_a_file_or_a_table() -> None:
    assert parsed('"shots.jsonl"').config.features["answer"].examples == "shots.jsonl"
    table = '{ file = "shots.jsonl", select = "nearest", k = 2, tokens = 500, embeddings = "vectors" }'
    expected = Examples(file="shots.jsonl", select="nearest", k=2, tokens=500, embeddings="vectors")
    assert parsed(table).config.features["answer"].examples == expected


@pytest.mark.parametrize("examples", ['"shots.jsonl"', '{ file = "shots.jsonl" }', '"./x/../shots.jsonl"'])
def test_the_file_is_part_of_the_configuration(examples: str, tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(toml(examples))
    (tmp_path / "shots.jsonl").write_text(FILE)
    before = load(tmp_path / "holdfast.toml", resolve_secrets=False)
    assert before.files["shots.jsonl"] == FILE
    assert before.snapshot().files["shots.jsonl"] == FILE
    assert parse(before.files, before.base, before.at_us) == before
    (tmp_path / "shots.jsonl").write_text(FILE * 2)
    assert load(tmp_path / "holdfast.toml", resolve_secrets=False).hash != before.hash


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (None, "there is no such file"),
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\n", "the file is empty"),
        (b'{"input": "\xff"}', "not UTF-8 text"),
        (b"x" * (4 * 2**20 + 1), "larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(octets: bytes | None, message: str, tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(toml('"shots.jsonl"'))
    if octets is not None:
        (tmp_path / "shots.jsonl").write_bytes(octets)
    with pytest.raises(ConfigError, match=rf"toml:13: features.answer.examples: shots.jsonl: {message}"):
        load(tmp_path / "holdfast.toml", resolve_secrets=False)


def test_a_mark_of_byte_order_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text(toml('"shots.jsonl"'))
    (tmp_path / "shots.jsonl").write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    assert load(tmp_path / "holdfast.toml", resolve_secrets=False)


def test_every_mistake_in_the_file_is_told_with_its_line() -> None:
    assert problems('{ file = "shots.jsonl" }', '{"input": "a"}\n' + FILE + "?\n") == [
        "examples.file: shots.jsonl:1: output: required, but missing",
        "examples.file: shots.jsonl:3: not JSON: invalid character (byte 0)",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("k = 2", 'examples.k: has no effect where all examples are shown: write select = "first" or "nearest"'),
        ('select = "first", embeddings = "vectors"', 'examples.embeddings: has no effect without select = "nearest"'),
        (
            'select = "nearest", embeddings = "vector"',
            'examples.embeddings: there is no model "vector" (did you mean "vectors"?)',
        ),
        (
            'select = "nearest", embeddings = "claude"',
            'examples.embeddings: "claude" speaks the anthropic wire, which has no embeddings',
        ),
        ("tokens = 2", "examples.tokens: no example fits: the shortest has 4"),
    ],
)
def test_settings_that_have_no_effect_or_no_sense_are_refused(settings: str, message: str) -> None:
    assert problems(f'{{ file = "shots.jsonl", {settings} }}') == [message]


@pytest.mark.parametrize("examples", ["7", "[]", '{ select = "all" }', '{ file = 7, embeddings = 7, k = "x" }'])
def test_examples_of_another_kind_are_refused_in_words(examples: str) -> None:
    assert all(problem.startswith("examples") for problem in problems(examples))
