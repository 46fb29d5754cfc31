import pytest

from holdfast.providers.simulated.synthesis import synthesize


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "kelp"),
        ({"type": "string", "maxLength": 2}, "ke"),
        ({"type": "string", "minLength": 6}, "kelpxx"),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"type": "string", "enum": ["a", "b"]}, "a"),
        ({"const": 7}, 7),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "number", "minimum": 0.25}, 0.25),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"type": "STRING"}, "kelp"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "array", "maxItems": 0, "items": {}}, []),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 2}, [1, 2]),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        ({"oneOf": [{"type": "integer", "minimum": 9}]}, 9),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}, "required": ["b"]}]},
            {"a": 1, "b": 2},
        ),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"const": 3}}}, {"a": 3}),
        ({"type": "object", "required": ["z"]}, {"z": "kelp"}),
        ({"type": "object"}, {}),
        (None, "kelp"),
        (True, "kelp"),
    ],
)
def test_a_value_fits_its_schema(schema, value):
    assert synthesize(schema, "kelp") == value


def test_a_recursive_schema_ends():
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name", "next", "kids"],
            }
        },
    }
    value = synthesize(tree, "kelp")
    assert value["name"] == "kelp"
    while value["next"] is not None:
        value = value["next"]
    assert value["name"] == "kelp"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"allOf": [{"$ref": "#"}]},
        {"type": "object", "properties": 5, "required": 7 * ["a"]},
        {"type": "string", "minLength": "x"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ],
)
def test_a_senseless_schema_still_gives_a_value(schema):
    synthesize(schema, "kelp")
