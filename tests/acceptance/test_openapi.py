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
METHODS = {path: next(iter(operations)) for path, operations in document(["echo"])["paths"].items()}
PATHS = list(METHODS)
CALLS = [path for path, method in METHODS.items() if method == "post"]
LONG_MS = 10_000
EXAMPLES = 300
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
    query = served["paths"]["/api/calls"]["get"]["parameters"]
    query[:] = [parameter for parameter in query if parameter["name"] != "before"]  # only a call's id will do
    return schemathesis.openapi.from_dict(served)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_document_allows_is_answered(path, schema, session, gateway):
    @BOUNDED
    @given(case=schema[path][METHODS[path]].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def check(case):
        case.body = _with_plain_integers(case.body)
        response = case.call(base_url=gateway.url, session=session)
        case.validate_response(response)
        assert response.status_code == 200 or path == "/api/calls/{id}"

    check()


@pytest.mark.parametrize("path", [*CALLS, "/v1/models/{id}", "/api/calls"])
def test_what_the_document_forbids_is_refused(path, schema, session, gateway):
    @BOUNDED
    @given(case=schema[path][METHODS[path]].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def check(case):
        case.call_and_validate(base_url=gateway.url, session=session)

    check()


def _with_plain_integers(value):
    """To JSON Schema 2.0 is an integer. To OpenAI, Anthropic and us it is not, and no SDK writes one so."""
    if isinstance(value, dict):
        return {key: _with_plain_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_plain_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
