"""The pages that list things list all of them."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from holdfast import errors
from holdfast.cli import COMMANDS
from holdfast.gateway.hints import Hints
from holdfast.gateway.record import Summary
from holdfast.gateway.serving.pages.metrics import render
from holdfast.gateway.serving.pages.openapi import document
from holdfast.gateway.serving.routes import EVERY_ROLE, PUBLIC, TABLE
from holdfast.providers.known import PROVIDERS
from holdfast.state.keys import ROLES

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
_ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \|", re.MULTILINE)


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _leaves(kind: type[errors.CallError]) -> list[type[errors.CallError]]:
    """Return the errors that calls end with: the leaves of the tree, and the base that stands for the rest."""
    below = [leaf for child in kind.__subclasses__() for leaf in _leaves(child)]
    return [*below, kind] if kind is errors.ProviderError else below or [kind]


def test_the_errors_are_those_of_the_tree_with_their_status():
    tree = {leaf.code: leaf.status for leaf in _leaves(errors.CallError)}
    assert {code: int(status) for code, status in _ROW.findall(_page("concepts/errors.md"))} == tree


def test_the_errors_that_may_pass_are_those_of_the_tree():
    advice = _page("concepts/errors.md").partition("## Which may be tried again")[2]
    told = set(re.findall(r"`([a-z_]+)`", advice))
    hopeless = {leaf.code for leaf in _leaves(errors.RequestError)}
    callers = {leaf.code for leaf in _leaves(errors.ProviderError) if leaf.callers_fault}
    assert told.isdisjoint(hopeless | callers)
    assert {leaf.code for leaf in _leaves(errors.ProviderError) if leaf.same_model_again} <= told


def test_every_route_is_documented():
    paths = document(["answer"])["paths"]
    shown = re.findall(r"^\| `(GET|POST|DELETE) (\S+)` \|", _page("reference/http.md"), re.MULTILINE)
    told = {(method.lower(), re.sub(r"/(NAME|ID)$", "/{id}", path)) for method, path in shown}
    assert told == {(method, path) for path, methods in paths.items() for method in methods}


def test_the_roles_of_every_route_are_those_of_the_table():
    told = re.findall(r"^\| `(GET|POST|DELETE) (\S+)` \|.*\| ([a-z, ]+) \|$", _page("reference/http.md"), re.MULTILINE)
    words = {(method, re.sub(r"/(NAME|ID)$", "/{id}", path)): roles for method, path, roles in told}
    order = {roles: ", ".join(role for role in ROLES if role in roles) for roles in TABLE.values() if roles}
    named = order | {PUBLIC: "everyone", EVERY_ROLE: "every role"}
    assert words == {route: named[roles] for route, roles in TABLE.items()}


@pytest.mark.parametrize("field", [*Hints.__struct_fields__, *Summary.__struct_fields__])
def test_every_hint_and_every_field_of_the_summary_is_documented(field):
    assert f"`{field}" in _page("reference/http.md")


def test_every_metric_is_documented():
    metrics = re.findall(rb"# TYPE (\S+) (\S+)", render([], [], 0, {}))
    page = _page("how-to/observe.md")
    assert [name for name, kind in metrics if f"| `{name.decode()}` | {kind.decode()} |" not in page] == []


def test_every_command_is_documented_as_it_is():
    generated = runpy.run_path(str(DOCS / "generate_cli.py"))["reference"]
    assert _page("reference/cli.md") == generated(), "run: python docs/generate_cli.py"
    assert [name for name in COMMANDS if f"\n## holdfast {name}\n" not in generated()] == []


def test_every_provider_has_an_example():
    page = _page("how-to/providers.md")
    assert [name for name in PROVIDERS if f'provider = "{name}"' not in page] == []


def test_what_every_provider_enforces_is_told():
    rows = re.findall(r"^\| `([a-z]+)` \|", _page("reference/constraints.md"), re.MULTILINE)
    assert sorted(rows) == sorted(PROVIDERS)


def test_every_dependency_has_a_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    names = {re.split(r"[<>=;\[ ]", entry)[0] for group in groups for entry in group}
    page = _page("reference/dependencies.md")
    assert sorted(name for name in names if f"`{name}`" not in page) == []
