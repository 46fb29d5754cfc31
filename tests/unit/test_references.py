"""Objects that a configuration names. Functions among them: tests/unit/gateway/test_function.py."""

import json

import pytest

from holdfast.references import find_reference, misnamed


def test_any_object_of_a_module_can_be_named(tmp_path):
    assert find_reference("json:JSONDecoder", tmp_path) is json.JSONDecoder
    assert find_reference("json:decoder.scanner", tmp_path) is json.decoder.scanner
    assert find_reference("math:pi", tmp_path) == pytest.approx(3.14159, abs=1e-5)


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("json", 'expected "package.module:name", got "json"'),
        ("json:", "expected"),
        ("json:dump-s", "expected"),
        ("json:lods", 'did you mean "loads"'),
        ("kelp_nowhere:a", 'there is no module "kelp_nowhere"'),
    ],
)
def test_what_can_not_be_found_is_told(reference, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        find_reference(reference, tmp_path)


def test_a_name_is_judged_without_importing():
    assert misnamed("kelp_nowhere:Answer") is None
    assert misnamed("contracts/answer.json") is not None
