"""The gateway keeps its published OpenAPI document: schemathesis makes requests from it, right and wrong."""

from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from acceptance.gateways import Gateway, running_gateway
from holdfast.gateway.openapi import document

CONFIG = """
[models.echo]
provider = "simulated"
name = "sim-echo"
price = { input = 1.0, output = 2.0 }

[models.other]
provider = "simulated"
name = "sim-echo"

[features.answer]
models = ["echo", "other"]
last_resort = { message = "Not now." }
"""
OPERATIONS = [(path, method) for path, operations in document(["echo"])["paths"].items() for method in operations]
CALLS = [path for path, method in OPERATIONS if method == "post"]
LONG_MS = 10_000
EXAMPLES = 25
BOUNDED = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("openapi"), CONFIG) as running:
        yield running
        assert "Traceback" not in running.stderr


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="module")
def schema(gateway):
    """The document as served, but for deadlines that can't be met: 504 is right for those."""
    served = gateway.get("/openapi.json")
    hints = served["components"]["schemas"]["Hints"]["properties"]
    hints["deadline_ms"]["anyOf"][0]["minimum"] = LONG_MS
    for path in CALLS:
        for parameter in served["paths"][path]["post"]["parameters"]:
            if parameter["name"] == "x-holdfast-deadline-ms":
                parameter["schema"]["minimum"] = LONG_MS
    return schemathesis.openapi.from_dict(served)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_the_document_allows_is_answered_and_the_rest_refused(path, method, mode, schema, session, gateway):
    strategy = schema[path][method].as_strategy(generation_mode=mode)

    @BOUNDED
    @given(case=strategy)
    def check(case):
        case.call_and_validate(base_url=gateway.url, session=session)

    check()
