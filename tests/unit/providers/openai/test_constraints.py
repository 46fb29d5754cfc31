"""How the servers of the OpenAI wire are told of a format."""

import json
from typing import Any

import pytest

from holdfast.chat import Message, Request, ResponseFormat, Text
from holdfast.errors import BadRequest
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.dialects import servers
from holdfast.providers.dialects.servers import Server
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream

HELLO = Message(role="user", parts=(Text(text="hello"),))
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


def upstream(server: Server) -> OpenAIUpstream:
    return OpenAIUpstream(Endpoint(model="served", base_url="https://host.example/v1", server=server))


def sent(server: Server, format: ResponseFormat | None, source: Source | None = None) -> dict[str, Any]:
    request = Request(model="m", messages=(HELLO,), response_format=format)
    body = json.loads(upstream(server).encode(request, source).body)
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


PATTERN = ResponseFormat(type="pattern", pattern="^a+$")
CHOICE = ResponseFormat(type="choice", choices=("yes", "c++"))
GRAMMAR = ResponseFormat(type="grammar", grammar='start: "1"')


@pytest.mark.parametrize(
    ("server", "format", "fields"),
    [
        (servers.VLLM, PATTERN, {"structured_outputs": {"regex": "a+"}}),
        (servers.VLLM, CHOICE, {"structured_outputs": {"choice": ["yes", "c++"]}}),
        (servers.VLLM, GRAMMAR, {"structured_outputs": {"grammar": 'start: "1"'}}),
        (servers.SGLANG, PATTERN, {"regex": "a+"}),
        (servers.SGLANG, CHOICE, {"regex": r"yes|c\+\+"}),
        (servers.TGI, PATTERN, {"response_format": {"type": "regex", "value": "a+"}}),
        (servers.TGI, CHOICE, {"response_format": {"type": "regex", "value": r"yes|c\+\+"}}),
        (servers.TOGETHER, PATTERN, {"response_format": {"type": "regex", "pattern": "a+"}}),
        (servers.LLAMACPP, PATTERN, {"grammar": 'root ::= "a"+'}),
        (servers.LLAMACPP, CHOICE, {"grammar": 'root ::= "yes" | "c++"'}),
        (servers.FIREWORKS, PATTERN, {"response_format": {"type": "grammar", "grammar": 'root ::= "a"+'}}),
    ],
)
def test_each_server_has_fields_of_its_own(server, format, fields):
    found = upstream(server).constrain(format)
    assert found.format is format
    assert found.enforced
    assert sent(server, found.format) == fields


@pytest.mark.parametrize("format", [PATTERN, CHOICE, GRAMMAR])
@pytest.mark.parametrize("server", [servers.UNKNOWN, servers.OPENAI, servers.JSON_MODE])
def test_what_a_server_can_not_be_told_is_refused(server, format):
    with pytest.raises(BadRequest) as caught:
        sent(server, format)
    assert caught.value.param == "response_format"


def test_an_expression_that_is_not_for_every_engine_is_refused():
    with pytest.raises(BadRequest):
        sent(servers.VLLM, ResponseFormat(type="pattern", pattern=r"\bword\b"))


def test_a_schema_is_sent_with_the_flag_that_makes_it_binding():
    format = ResponseFormat(type="schema", name="answer", schema=SCHEMA | {"additionalProperties": False})
    found = upstream(servers.OPENAI).constrain(format)
    assert sent(servers.OPENAI, found.format) == {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        }
    }


def test_tgi_has_a_form_of_its_own_for_schemas_too():
    found = upstream(servers.TGI).constrain(ResponseFormat(type="schema", schema=SCHEMA))
    assert sent(servers.TGI, found.format) == {"response_format": {"type": "json", "value": SCHEMA}}


def test_nothing_is_sent_where_nothing_can_be_enforced():
    assert sent(servers.OPENAI, upstream(servers.OPENAI).constrain(PATTERN).format) == {}


# --- a caller's own format --------------------------------------------------------------------------------------------


def spoken(strict: Any) -> tuple[Request, Source, bytes]:
    written = json.dumps({"name": "x", "strict": strict, "schema": SCHEMA}, indent=3)
    asked = f'{{"type":  "json_schema", "json_schema": {written}}}'
    body = f'{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], "response_format": {asked}}}'
    return *OpenAISurface().decode(body.encode(), ""), asked.encode()


@pytest.mark.parametrize(("server", "strict"), [(servers.OPENAI, True), (servers.VLLM, None), (servers.UNKNOWN, True)])
def test_a_callers_own_format_goes_byte_for_byte_where_nothing_of_it_changes(server, strict):
    request, source, asked = spoken(strict)
    model = upstream(server)
    found = model.constrain(request.response_format)
    assert found.format is request.response_format
    changed = Request(model="m", messages=request.messages, response_format=found.format, temperature=0.5)
    assert asked in model.encode(changed, source).body


def test_a_callers_own_format_is_replaced_by_what_the_server_is_asked_for():
    request, source, _ = spoken(None)
    model = upstream(servers.OPENAI)
    changed = Request(
        model="m", messages=request.messages, response_format=model.constrain(request.response_format).format
    )
    assert json.loads(model.encode(changed, source).body)["response_format"]["json_schema"]["strict"] is True
    without = Request(model="m", messages=request.messages)
    assert "response_format" not in json.loads(model.encode(without, source).body)
