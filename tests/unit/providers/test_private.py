from typing import get_args

import pytest

from holdfast.chat import Message, Request, Text
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Endpoint, Source, Wire
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.private import private_to_others

ENDPOINT = Endpoint(model="claude-x", base_url="https://host.example")
UPSTREAMS = [OpenAIUpstream(ENDPOINT), AnthropicUpstream(ENDPOINT), GoogleUpstream(ENDPOINT)]
OWN: dict[Wire, str] = {"openai": "logit_bias", "anthropic": "thinking", "google": "safetySettings"}


@pytest.mark.parametrize(
    ("upstream", "wire"),
    [(upstream, wire) for upstream in UPSTREAMS for wire in get_args(Wire) if wire != upstream.wire],
    ids=lambda value: getattr(value, "wire", value),
)
def test_no_model_is_sent_what_another_wire_has_for_itself(
    upstream: OpenAIUpstream | AnthropicUpstream | GoogleUpstream, wire: Wire
) -> None:
    extra = {name: 1 for other, name in OWN.items() if other != upstream.wire} | {"novel": 2}
    request = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), extra=extra)
    body = upstream.encode(request, Source(wire=wire, request=request, fields={}, messages={}, tools={})).body
    assert b'"novel":2' in body
    assert [name for name in OWN.values() if f'"{name}"'.encode() in body] == []


@pytest.mark.parametrize("wire", get_args(Wire))
def test_what_a_wire_alone_has_is_not_private_to_others(wire: Wire) -> None:
    assert OWN[wire] not in private_to_others(wire)
    assert {name for other, name in OWN.items() if other != wire} <= private_to_others(wire)
