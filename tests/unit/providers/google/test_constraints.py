"""How Gemini is told of a format."""

import json
from typing import Any

import pytest

from holdfast.chat import Message, Request, ResponseFormat, Text
from holdfast.errors import BadRequest
from holdfast.providers.base import Endpoint
from holdfast.providers.dialects import servers
from holdfast.providers.google import GoogleSurface, GoogleUpstream

HELLO = Message(role="user", parts=(Text(text="hello"),))
MODEL = GoogleUpstream(
    Endpoint(model="gemini-2.5-flash", base_url="https://host.example/v1beta", server=servers.GOOGLE)
)


def config(format: ResponseFormat | None) -> Any:
    request = Request(model="m", messages=(HELLO,), response_format=format)
    return json.loads(MODEL.encode(request).body).get("generationConfig")


def test_a_schema_is_sent_in_its_dialect():
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}, "b": {"const": "x"}}}
    assert config(MODEL.constrain(ResponseFormat(type="schema", schema=schema)).format) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["x"]}}},
    }


def test_choices_are_an_enum_of_texts():
    found = MODEL.constrain(ResponseFormat(type="choice", choices=("yes", "no")))
    assert found.enforced
    assert config(found.format) == {
        "responseMimeType": "text/x.enum",
        "responseSchema": {"type": "STRING", "enum": ["yes", "no"]},
    }


@pytest.mark.parametrize(
    "format", [ResponseFormat(type="pattern", pattern="a"), ResponseFormat(type="grammar", grammar="start: A")]
)
def test_what_the_wire_has_no_words_for_is_asked_for_nowhere_and_refused(format):
    assert MODEL.constrain(format).format is None
    with pytest.raises(BadRequest) as caught:
        config(format)
    assert caught.value.param == "response_format"


def test_a_callers_own_format_goes_byte_for_byte_where_nothing_of_it_changes():
    written = '{"responseMimeType":  "application/json", "responseJsonSchema": {"type": "object"}}'
    body = f'{{"contents": [{{"role": "user", "parts": [{{"text": "hi"}}]}}], "generationConfig": {written}}}'
    request, source = GoogleSurface().decode(body.encode(), "/v1beta/models/m:generateContent")
    assert request.response_format is not None
    found = MODEL.constrain(request.response_format)
    assert found.format is request.response_format
    same = Request(model="m", messages=request.messages, response_format=found.format)
    assert written.encode() in MODEL.encode(same, source).body
    without = Request(model="m", messages=request.messages)
    assert "responseJsonSchema" not in MODEL.encode(without, source).body.decode()
