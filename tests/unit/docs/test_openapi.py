"""The published OpenAPI document agrees with the code."""

import json
import runpy
from pathlib import Path

import jsonschema_rs

DOCS = Path(__file__).parents[3] / "docs"
GENERATED = runpy.run_path(str(DOCS / "generate_openapi.py"))["FILES"]
DOCUMENT = json.loads((DOCS / "reference/openapi.json").read_text())


def test_the_copy_for_readers_is_not_stale():
    for path, content in GENERATED.items():
        assert path.read_text() == content(), "run: python docs/generate_openapi.py"


def test_every_reference_is_resolved_and_every_component_used():
    referred = set()

    def look(node):
        if isinstance(node, dict):
            referred.update([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for item in node:
                look(item)

    look(DOCUMENT)
    assert referred == {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}


def test_every_component_is_a_schema():
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
