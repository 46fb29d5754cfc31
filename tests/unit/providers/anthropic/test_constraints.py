"""How Claude is told of a format."""

import json
from typing import Any

import pytest

from holdfast.chat import Message, Request, ResponseFormat, Text
from holdfast.errors import BadRequest
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint
from holdfast.providers.dialects import servers

HELLO = Message(role="user", parts=(Text(text="hello"),))
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}, "required": ["a"]}
WIRE: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string", "description": '{"minLength": 2}'}},
    "required": ["a"],
    "additionalProperties": False,
}


def upstream(model: str = "claude-sonnet-4-5") -> AnthropicUpstream:
    return AnthropicUpstream(Endpoint(model=model, base_url="https://host.example", server=servers.ANTHROPIC))


def test_a_schema_is_sent_in_its_dialect_with_what_is_left_in_words():
    found = upstream().constrain(ResponseFormat(type="schema", schema=SCHEMA))
    request = Request(model="m", messages=(HELLO,), response_format=found.format)
    body = json.loads(upstream().encode(request).body)
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": WIRE}}


def test_nothing_is_enforced_of_what_older_models_are_asked_for():
    old = upstream("claude-3-5-haiku-latest")
    found = old.constrain(ResponseFormat(type="schema", schema=SCHEMA))
    assert found.enforced == ()
    assert {keyword.keyword for keyword in found.checked} == {"type", "properties", "required", "minLength"}
    request = Request(model="m", messages=(HELLO,), response_format=found.format)
    assert "output_config" not in json.loads(old.encode(request).body)


@pytest.mark.parametrize(
    "format",
    [
        ResponseFormat(type="pattern", pattern="a"),
        ResponseFormat(type="choice", choices=("a",)),
        ResponseFormat(type="grammar", grammar="start: A"),
    ],
)
def test_what_the_wire_has_no_words_for_is_asked_for_nowhere_and_refused(format):
    assert upstream().constrain(format).format is None
    with pytest.raises(BadRequest) as caught:
        upstream().encode(Request(model="m", messages=(HELLO,), response_format=format))
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_callers_own_format_goes_byte_for_byte_or_is_replaced(field):
    asked: dict[str, Any] = {"type": "json_schema", "schema": WIRE}
    written = json.dumps({"format": asked} if field == "output_config" else asked, indent=3)
    said = f'{{"model": "m", "max_tokens": 9, "messages": [{{"role": "user", "content": "hi"}}], "{field}": {written}}}'
    request, source = AnthropicSurface().decode(said.encode(), "")
    assert request.response_format is not None
    found = upstream().constrain(request.response_format)
    assert found.format is request.response_format
    same = Request(model="m", messages=request.messages, response_format=found.format, max_tokens=8)
    assert written.encode() in upstream().encode(same, source).body
    without = json.loads(upstream().encode(Request(model="m", messages=request.messages), source).body)
    assert without.keys().isdisjoint({"output_config", "output_format"})
