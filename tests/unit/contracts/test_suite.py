"""The verdicts of the official JSON-Schema-Test-Suite, through contracts."""

import gzip
import json
from functools import cache
from pathlib import Path

import pytest

from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import compile_schema
from holdfast.errors import ConfigError

SUITE = Path(__file__).parents[2] / "data/json-schema-test-suite/suite.json.gz"
CROSS_DRAFT = "the validator reads every document of a registry as the draft of the schema that refers to it"
DISAGREEMENTS = {
    ("draft7", "optional/cross-draft", "missing bar is invalid"): CROSS_DRAFT,
    ("draft2020-12", "optional/cross-draft", "first item not a string is valid"): CROSS_DRAFT,
}


@cache
def suite():
    with gzip.open(SUITE) as file:
        return json.load(file)


def documents(draft: str, file: str):
    """Return the remote documents that a test may refer to: general ones, those of its draft, those that say theirs."""
    own = {uri: one for uri, one in suite()["remotes"].items() if "/draft" not in uri or f"/{draft}/" in uri}
    if file == "optional/cross-draft":
        own |= {uri: one for uri, one in suite()["remotes"].items() if isinstance(one, dict) and "$schema" in one}
    return own


def disagreements(draft: str, file: str):
    """Yield the tests of a file whose verdict is not the expected one; all of a schema that is refused."""
    formats = file.startswith("optional/format")  # everywhere else, the suite has `format` describe only
    for group in suite()["tests"][draft][file]:
        try:
            form = compile_schema(
                group["schema"], draft=draft.removeprefix("draft"), formats=formats, documents=documents(draft, file)
            )
        except ConfigError as error:
            yield f"{group['description']}: {error}"
            continue
        for test in group["tests"]:
            if Contract(form).check(json.dumps(test["data"])).ok != test["valid"]:
                yield test["description"]


@pytest.mark.parametrize("draft", ["draft4", "draft6", "draft7", "draft2020-12"])
def test_every_verdict_is_the_expected_one_but_for_a_list_with_reasons(draft):
    files = suite()["tests"][draft]
    found = {(draft, file, test) for file in files for test in disagreements(draft, file)}
    assert found == {one for one in DISAGREEMENTS if one[0] == draft}


def test_the_suite_is_whole_and_says_where_it_is_from():
    assert suite()["source"].endswith("/JSON-Schema-Test-Suite")
    assert "Permission is hereby granted" in (SUITE.parent / "LICENSE").read_text()
    tests = [test for file in suite()["tests"]["draft2020-12"].values() for group in file for test in group["tests"]]
    assert len(tests) > 2_000
