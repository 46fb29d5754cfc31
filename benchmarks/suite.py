"""The verdicts of the JSON-Schema-Test-Suite through contracts: `python benchmarks/contracts.py suite`."""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from report import Table
from resilience import Finding

from holdfast.contracts.base import Contract, Schema
from holdfast.contracts.forms.schema import Draft, compile_schema
from holdfast.errors import ConfigError

SUITE: Final = Path(__file__).parents[1] / "tests/data/json-schema-test-suite/suite.json.gz"
DRAFTS: Final[dict[str, Draft]] = {"draft2020-12": "2020-12", "draft7": "7", "draft6": "6", "draft4": "4"}
KNOWN: Final = {
    ("draft2020-12", "optional/cross-draft", "first item not a string is valid"),
    ("draft7", "optional/cross-draft", "missing bar is invalid"),
}
"""Where the verdict is another, for a reason that the documentation gives."""


def verdicts(suite: dict[str, Any], draft: str) -> Iterator[tuple[str, str, bool]]:
    """Yield every test of a draft: its file, what it is about, and whether the verdict is the expected one."""
    for file, groups in suite["tests"][draft].items():
        for group in groups:
            try:
                form = compile_schema(
                    group["schema"],
                    draft=DRAFTS[draft],
                    formats=file.startswith("optional/format"),
                    documents=_documents(suite["remotes"], draft, file),
                )
            except ConfigError:
                yield from ((file, test["description"], False) for test in group["tests"])
                continue
            contract = Contract(form)
            for test in group["tests"]:
                yield file, test["description"], contract.check(json.dumps(test["data"])).ok == test["valid"]


def _documents(remotes: Mapping[str, Schema], draft: str, file: str) -> dict[str, Schema]:
    """Return what a schema may refer to: of its own draft, and of others where the test is about that."""
    own = {uri: one for uri, one in remotes.items() if "/draft" not in uri or f"/{draft}/" in uri}
    if file == "optional/cross-draft":
        own |= {uri: one for uri, one in remotes.items() if isinstance(one, dict) and "$schema" in one}
    return own


def measure() -> tuple[list[Table], list[Finding]]:
    with gzip.open(SUITE) as file:
        suite = json.load(file)
    rows, unexpected = [], set()
    for draft in DRAFTS:
        found = list(verdicts(suite, draft))
        wrong = {(draft, file, test) for file, test, right in found if not right}
        optional = sum(file.startswith("optional/") for file, _, _ in found)
        rows.append((draft, f"{len(found):,}", f"{optional:,}", str(len(wrong))))
        unexpected |= wrong - KNOWN
    heads = ("", "tests", "of them optional", "other verdicts")
    told = "; ".join(": ".join(one) for one in sorted(unexpected))
    return [Table("Verdicts through the contract API", heads, tuple(rows))], [
        Finding("other verdicts than the two that are explained", told or "none", "none", not unexpected)
    ]
