"""The gateway keeps its published OpenAPI document: schemathesis makes requests from it, right and wrong."""

import json
from collections.abc import Iterator

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from acceptance.gateways import Gateway, running_gateway
from holdfast.gateway.serving.pages.openapi import document

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
PUBLISHED = document(["answer", "echo", "other"])
METHODS = {path: next(iter(operations)) for path, operations in PUBLISHED["paths"].items()}
OPERATIONS = [(path, method) for path, operations in PUBLISHED["paths"].items() for method in operations]
CALLS = [path for path, method in METHODS.items() if method == "post"]
MODES = list(GenerationMode)
LONG_MS = 10_000
ASK = {
    "model": "echo",
    "messages": [{"role": "user", "content": "ping"}],
    "max_tokens": 5,
    "input": "ping",
    "choices": ["a", "b"],
}
"""A body that every call takes."""
BOUNDED = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
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
    return schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")


@pytest.fixture(scope="module")
def answerable(gateway):
    """The document as served, but for deadlines that can't be met, and cursors, which are ids of calls."""
    served = gateway.get("/openapi.json")
    served["components"]["schemas"]["Hints"]["properties"]["deadline_ms"]["anyOf"][0]["minimum"] = LONG_MS
    for path in CALLS:
        for parameter in served["paths"][path]["post"]["parameters"]:
            if parameter["name"] == "x-holdfast-deadline-ms":
                parameter["schema"]["minimum"] = LONG_MS
    for limit in ("max_tokens", "max_completion_tokens"):  # which may cut a choice in the middle
        served["components"]["schemas"]["DistributionRequest"]["properties"][limit] = {"type": "null"}
    for path in ("/api/calls", "/api/calls/search"):
        query = served["paths"][path]["get"]["parameters"]
        query[:] = [parameter for parameter in query if parameter["name"] != "before"]
    return schemathesis.openapi.from_dict(served)


@pytest.mark.parametrize("path", METHODS)
def test_what_the_document_allows_is_answered(path, answerable, session, gateway):
    @BOUNDED
    @given(case=answerable[path][METHODS[path]].as_strategy(generation_mode=GenerationMode.POSITIVE))
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
        response = case.call(base_url=gateway.url, session=session)
        if response.status_code != 504 or response.json()["error"].get("code") != "deadline_exceeded":
            case.validate_response(response)

    check()


@pytest.mark.parametrize("path", METHODS)
def test_every_limit_of_every_field_and_every_other_method_is_as_documented(path, answerable, session, gateway):
    operation = answerable[path][METHODS[path]]
    generation = answerable.config.generation
    for case in answerable.iter_coverage_cases(operation, generation_modes=MODES, generation_config=generation):
        if not _is_ours(case):
            case.call_and_validate(base_url=gateway.url, session=session)


def test_the_document_is_about_this_gateway(gateway):
    assert gateway.get("/openapi.json") == PUBLISHED


def test_the_index_lists_every_route_with_its_method(gateway):
    assert set(gateway.get("/")["routes"]) == {f"{method.upper()} {path}" for path, method in OPERATIONS}


NONSENSE = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "null": b"null",
    "a number": b"1e999",
    "a list": b"[]",
    "text": "Grüße".encode(),
    "not UTF-8": b'{"model":"\xff\xfe"}',
    "UTF-16": json.dumps(ASK).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(ASK).encode(),
    "NaN": b'{"model":"echo","max_tokens":5,"messages":[{"role":"user","content":"x"}],"input":"x","temperature":NaN}',
    "a form": b"model=echo&input=ping",
    "a lone surrogate": b'{"model":"\\ud800","max_tokens":5,"messages":[{"role":"user","content":"x"}],"input":"x"}',
    "half a body": json.dumps(ASK).encode()[:-1],
    "two bodies": json.dumps(ASK).encode() * 2,
    "a huge number": json.dumps(ASK).encode()[:-1] + b',"x":1e400}',
    "a number of many digits": json.dumps(ASK).encode()[:-1] + b',"x":' + b"9" * 10_000 + b"}",
    "a deep nest": json.dumps(ASK).encode()[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a deep object": json.dumps(ASK).encode()[:-1] + b',"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "a NUL": b"\x00" + json.dumps(ASK).encode(),
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_refused_in_the_envelope_of_the_wire(path, body, session, gateway):
    response = session.post(gateway.url + path, data=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    _assert_error(response, path)


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("depth", [100, 400, 900, 1000])
def test_what_nests_deeply_is_answered_or_refused_and_logged(path, depth, session, gateway):
    body = json.dumps(ASK).encode()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    response = session.post(gateway.url + path, data=body)
    assert response.status_code in (200, 400)
    gateway.call(response.headers["x-holdfast-call"])


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("content_type", ["text/plain", "application/xml; charset=utf-16", "ü", ""])
def test_a_body_is_json_whatever_its_content_type_says(path, content_type, session, gateway):
    headers = {"content-type": content_type.encode()}
    response = session.post(gateway.url + path, data=json.dumps(ASK), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("value", ["9" * 400, "9" * 15, "-1", "0", "1.5", "1e3", "٣", "NaN", ""])
def test_a_deadline_that_is_no_sensible_number_is_refused_or_capped(path, value, session, gateway):
    headers = {"x-holdfast-deadline-ms": value.encode()}
    response = session.post(gateway.url + path, data=json.dumps(ASK), headers=headers)
    assert response.status_code == (200 if value == "9" * 15 else 400)


@pytest.mark.parametrize("path", CALLS)
def test_a_deadline_of_hundreds_of_digits_in_the_body_is_refused(path, session, gateway):
    response = session.post(gateway.url + path, json=ASK | {"holdfast": {"deadline_ms": 10**400}})
    assert response.status_code == 400
    _assert_error(response, path)


@pytest.mark.parametrize(
    "query",
    [
        "since=99999999999d",
        "until=" + "9" * 400 + "s",
        "since=-1s",
        "since=0001-01-01",
        "since=0001-01-01T00:00:00%2B23:59",
        "until=9999-12-31T23:59:59-23:59",
        "since=NaNs",
        "limit=0",
        "limit=1001",
        "limit=99999999999999999999",
        "limit=1.0",
        "limit=%D9%A3",
        "limit=null",
        "outcome=null",
        "before=%00",
        "before=%FF",
        "tag=none",
        "unknown=1",
        "%",
        "=",
    ],
)
def test_a_query_of_the_log_that_makes_no_sense_is_refused_or_finds_nothing(query, session, gateway):
    response = session.get(f"{gateway.url}/api/calls?{query}&name=nobody")
    assert response.status_code == 400 or response.json() == {"calls": [], "next": None}


@pytest.mark.parametrize("query", ["name=null", "name=%00", "name=%F0%9F%8C%8A&tag=%3D&session=&error=%27--", "&&&"])
def test_any_words_may_be_looked_for(query, session, gateway):
    assert session.get(f"{gateway.url}/api/calls?{query}").status_code == 200


def _assert_error(response, path):
    envelope = response.json()
    id = envelope["request_id"] if path == "/v1/messages" else envelope["error"]["call"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-holdfast-call"] == id
    assert envelope["error"]["message"]


def _is_ours(case):
    """Whether a case is about what the test itself has changed in the document."""
    about = case.meta.phase.data.description or ""
    return (
        "deadline" in about or "unexpected properties" in about or "deadline" in (case.meta.phase.data.parameter or "")
    )


def _with_plain_integers(value):
    """To JSON Schema 2.0 is an integer. To OpenAI, Anthropic and us it is not, and no SDK writes one so."""
    if isinstance(value, dict):
        return {key: _with_plain_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_plain_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
