"""The pages about `holdfast.toml` agree with the code."""

import re
import runpy
import tomllib
from pathlib import Path

import jsonschema_rs
import pytest

from holdfast.config import load, parse
from holdfast.config.schema import schema
from holdfast.errors import ConfigError

DOCS = Path(__file__).parents[3] / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate_configuration.py"))["FILES"]
HOW_TO = (DOCS / "how-to/configure.md").read_text()
EXAMPLES = re.findall(r"```toml[^\n]*\n(.*?)```", HOW_TO, re.DOTALL)


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_what_is_generated_is_not_stale(path):
    assert path.read_text() == GENERATED[path](), "run: python docs/generate_configuration.py"


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_is_valid(number, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/answer.md").write_text("Answer.")
    (tmp_path / "holdfast.toml").write_text(EXAMPLES[number])
    configuration = load(tmp_path / "holdfast.toml", resolve_secrets=False)
    assert configuration.config.models


def test_the_mistakes_that_are_shown_are_what_is_said():
    shown = re.findall(r"```text\n(.*?)```", HOW_TO, re.DOTALL)[0]
    broken = EXAMPLES[0].replace('"claude"]', '"claud"]').replace("deadline", "deadlien")
    with pytest.raises(ConfigError) as caught:
        parse({"holdfast.toml": broken})
    assert str(caught.value) + "\n" == shown


def test_the_schema_takes_every_example():
    for example in EXAMPLES:
        assert jsonschema_rs.is_valid(schema(), tomllib.loads(example))
