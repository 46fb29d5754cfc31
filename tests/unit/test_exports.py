"""What `import holdfast` offers, and that it costs nothing until it is used."""

import importlib
import json
import subprocess
import sys

import pytest

import holdfast

HEAVY = {
    *("asyncio", "click", "genai_prices", "httptools", "msgspec", "rich", "sqlite3", "ssl"),
    *("tree_sitter", "uvloop"),
}
NOT_IN_PROCESS = {
    *("aiohttp", "anthropic", "click", "genai_prices", "openai", "opentelemetry", "pydantic", "rich"),
}


def _loaded(code: str) -> set[str]:
    """Return the top-level modules that some code loads in a new interpreter."""
    shown = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    modules = json.loads(run.stdout)
    return {name.partition(".")[0] for name in modules} | {name for name in modules if name.startswith("holdfast.")}


@pytest.mark.parametrize("name", holdfast.__all__)
def test_every_name_that_is_offered_is_there_and_where_it_says(name):
    value = getattr(holdfast, name)
    home = importlib.import_module(value.__module__)
    assert getattr(home, name) is value
    assert home.__name__.startswith("holdfast.")


def test_the_names_that_are_offered_are_sorted_and_each_has_a_home():
    assert holdfast.__all__ == sorted(holdfast.__all__)
    assert set(holdfast.__all__) == set(holdfast._HOMES)


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'holdfast' has no attribute 'nope'"):
        _ = holdfast.nope


def test_completion_shows_what_is_offered():
    assert set(holdfast.__all__) <= set(dir(holdfast))


def test_importing_it_loads_nothing():
    loaded = _loaded("import holdfast")
    assert not loaded & HEAVY
    assert not [name for name in loaded if name.startswith("holdfast.")]


def test_an_error_loads_no_gateway():
    loaded = _loaded("from holdfast import CallError")
    assert [name for name in loaded if name.startswith("holdfast.")] == ["holdfast.errors"]


def test_using_it_in_process_loads_neither_the_server_nor_the_command_line():
    loaded = _loaded("from holdfast import open")
    assert not loaded & NOT_IN_PROCESS
    assert "holdfast.gateway.serving.server" not in loaded
    assert "holdfast.providers.simulated" not in loaded


def test_importing_everything_by_star_works():
    assert "holdfast.client" in _loaded("from holdfast import *\nopen, Answer, ConfigError")
