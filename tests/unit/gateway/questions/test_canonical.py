"""One spelling for what is the same, and a key for what has the same answer."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Message, Request, ResponseFormat, Text
from holdfast.gateway.questions.canonical import SEED, canonical, canonical_source, hash_of, key_of, reproduce
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint, Source
from holdfast.providers.openai import OpenAISurface, OpenAIUpstream
from strategies import json_values, requests

FEATURE = hash_of({"feature": "answer"})
ENDPOINT = Endpoint(model="house", base_url="http://10.0.0.5/v1")
BODY: dict[str, Any] = {"model": "answer", "messages": [{"role": "user", "content": "How deep is the kelp?"}]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
}


def spelt(value: Any, chance: random.Random) -> str:
    """Write JSON in some way: members in any order, numbers and white space as they please."""
    if isinstance(value, dict):
        members = [f"{json.dumps(name)}: {spelt(item, chance)}" for name, item in value.items()]
        chance.shuffle(members)
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[ " + ",".join([spelt(item, chance) for item in value]) + "]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if isinstance(value, int):
        return chance.choice([str(value), f"{value}.0", f"{value}e0"])
    return chance.choice([repr(value), f"{value:.17e}"])


def asked(body: dict[str, Any] | bytes = BODY, *, prompt: str | None = None, **more: Any) -> tuple[Request, Source]:
    """What the pipeline has of a call in the OpenAI wire when it makes its key."""
    raw = body if isinstance(body, bytes) else json.dumps(body | more).encode()
    request, source = OpenAISurface().decode(raw, "/v1/chat/completions")
    if prompt is not None:
        told = Message(role="system", parts=(Text(text=prompt),))
        request = msgspec.structs.replace(request, messages=(told, *request.messages))
    return reproduce(request), source


def key(body: dict[str, Any] | bytes = BODY, *, prompt: str | None = None, **more: Any) -> bytes:
    return key_of(FEATURE, *asked(body, prompt=prompt, **more))


# --- JSON -------------------------------------------------------------------------------------------------------------


@given(json_values(), st.integers(0, 2**32))
def test_json_has_one_spelling_however_it_came(value: Any, seed: int) -> None:
    chance = random.Random(seed)
    one = canonical(spelt(value, chance).encode())
    assert canonical(spelt(value, chance).encode()) == one
    assert canonical(one) == one
    assert json.loads(one) == value


@given(json_values(), json_values())
def test_different_json_has_different_spellings(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    numbers = (int, float)
    if not same and isinstance(one, numbers) and isinstance(other, numbers) and bool not in (type(one), type(other)):
        same = one == other
    spellings = [canonical(msgspec.json.encode(value)) for value in (one, other)]
    assert (spellings[0] == spellings[1]) >= same
    if spellings[0] == spellings[1]:
        assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"1", b"true"), (b"0", b"false"), (b'"1"', b"1"), (b"1e400", b"null"), (b"1e400", b"1e401"), (b"[]", b"{}")],
)
def test_what_only_looks_alike_stays_different(one: bytes, other: bytes) -> None:
    assert canonical(one) != canonical(other)


def test_fields_of_a_schema_keep_their_order_as_models_answer_in_it() -> None:
    turned = {"properties": dict(reversed(SCHEMA["properties"].items())), "type": "object"}
    assert canonical(json.dumps(SCHEMA).encode()) == canonical(json.dumps(dict(reversed(SCHEMA.items()))).encode())
    assert canonical(json.dumps(SCHEMA).encode()) != canonical(json.dumps(turned).encode())
    assert list(json.loads(canonical(json.dumps(turned).encode()))["properties"]) == ["answer", "reasoning"]


def test_a_field_that_is_called_properties_is_a_schema_like_any() -> None:
    inner = {"type": "object", "properties": {"b": {}, "a": {}}}
    one = {"properties": {"properties": inner}}
    other = {"properties": {"properties": dict(reversed(inner.items()))}}
    assert canonical(json.dumps(one).encode()) == canonical(json.dumps(other).encode())


@pytest.mark.parametrize(
    "raw", [b"{", b'"\\ud800"', b"\xff", b"[" * 100_000, b"123456789012345678901234567890", b"", b"NaN"]
)
def test_what_has_no_spelling_of_its_own_stays_as_it_came(raw: bytes) -> None:
    assert canonical(raw) == raw


# --- requests ---------------------------------------------------------------------------------------------------------


@given(requests(n=False))
def test_a_request_is_reproduced_at_temperature_zero_with_a_seed(request: Request) -> None:
    fixed = reproduce(request)
    assert (fixed.temperature, fixed.top_p, fixed.top_k) == (0.0, None, None)
    assert fixed.seed == (SEED if request.seed is None else request.seed)
    assert fixed.messages is request.messages
    assert reproduce(fixed) == fixed


def test_several_answers_to_one_request_may_differ() -> None:
    request, _ = asked(n=3, temperature=0.8, top_p=0.9)
    assert (request.temperature, request.top_p, request.seed) == (0.8, 0.9, SEED)


@pytest.mark.parametrize("prompt", [None, "Answer briefly."])
@given(json_values(), st.integers(0, 2**32))
def test_what_is_sent_does_not_depend_on_the_spelling(prompt: str | None, value: Any, seed: int) -> None:
    schema_in_order = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}, "x": value}]
    messages = [*BODY["messages"], {"role": "user", "content": "Well?", "x_odd": value}]
    body = {"model": "answer", "x_more": value, "messages": messages, "temperature": 1}
    chance, sent = random.Random(seed), set()
    for _ in range(2):
        raw = f'{spelt(body, chance)[:-1]}, "tools": {json.dumps(schema_in_order)}}}'
        request, source = asked(raw.encode(), prompt=prompt)
        sent.add(OpenAIUpstream(ENDPOINT).encode(request, canonical_source(source)).body)
    assert len(sent) == 1
    told = json.loads(sent.pop())
    assert told["x_more"] == value
    assert told["messages"][-1]["x_odd"] == value
    assert told["temperature"] == 0
    assert list(told["tools"][0]["function"]["parameters"]["properties"]) == ["reasoning", "answer"]


def test_what_only_a_wire_knows_is_sent_from_its_one_spelling_too() -> None:
    content = [{"text": "x", "type": "text", "cache_control": {"type": "ephemeral"}}]
    body = {"model": "answer", "max_tokens": 5, "messages": [{"role": "user", "content": content}]}
    request, source = AnthropicSurface().decode(json.dumps(body).encode(), "/v1/messages")
    sent = AnthropicUpstream(ENDPOINT).encode(reproduce(request), canonical_source(source)).body
    assert b'[{"cache_control":{"type":"ephemeral"},"text":"x","type":"text"}]' in sent


# --- keys -------------------------------------------------------------------------------------------------------------


@given(json_values(), st.integers(0, 2**32))
def test_equal_requests_have_equal_keys_however_they_are_spelt(value: Any, seed: int) -> None:
    body = BODY | {"x_more": value, "messages": [{"role": "user", "content": "Well?", "x_odd": value}]}
    chance = random.Random(seed)
    assert key(spelt(body, chance).encode()) == key(spelt(body, chance).encode())


@given(requests(), requests())
def test_different_requests_have_different_keys(one: Request, other: Request) -> None:
    keys = [key_of(FEATURE, request) for request in (one, other)]
    alike = [msgspec.structs.replace(request, stream=False, stream_usage=False) for request in (one, other)]
    assert (keys[0] == keys[1]) == (alike[0] == alike[1])


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "How deep is the kelp"}]},
        {"messages": [{"role": "user", "content": "How deep is the kelp?", "name": "Ann"}]},
        {"messages": [{"role": "user", "content": "How deep is the kelp?", "only_here": 1}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "How deep is the kelp?", "odd": 1}]}]},
        {"messages": [*BODY["messages"], {"role": "assistant", "content": "Very"}]},
        {"model": "other"},
        {"max_tokens": 10},
        {"stop": ["."]},
        {"seed": 7},
        {"n": 2},
        {"presence_penalty": 0.5},
        {"logprobs": True},
        {"reasoning_effort": "low"},
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"tools": [{"type": "function", "function": {"name": "look", "odd": 1}}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "odd": 1}}},
        {"never_heard_of": 1},
        {"never_heard_of": True},
        {"never_heard_of": 123456789012345678901234567890},
        {"user": "ann"},
        {"safety_identifier": "ann"},
    ],
    ids=json.dumps,
)
def test_whatever_can_change_the_answer_changes_the_key(change: dict[str, Any]) -> None:
    assert key(**change) != key()
    assert key(**change) == key(**change)


def test_each_change_has_a_key_of_its_own() -> None:
    odd = [1, True, "1", None, 1.5, [1], {"1": 1}, 123456789012345678901234567890, 123456789012345678901234567891]
    assert len({key(odd=value) for value in odd}) == len(odd)


@pytest.mark.parametrize(
    "change",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"temperature": 0.9},
        {"temperature": 1, "top_p": 0.3, "top_k": 4},
        {"seed": SEED},
        {"n": 1},
        {"metadata": {"trace": "17"}},
        {"store": True},
        {"service_tier": "flex"},
        {"prompt_cache_key": "k"},
        {"holdfast": {"session": "s", "variables": {"name": "Ann"}}},
    ],
    ids=json.dumps,
)
def test_what_the_answer_does_not_depend_on_leaves_the_key_alone(change: dict[str, Any]) -> None:
    assert key(**change) == key()


def test_how_several_answers_are_drawn_changes_the_key() -> None:
    assert len({key(n=2), key(n=2, temperature=0.5), key(n=2, top_p=0.5)}) == 3


def test_whose_answer_it_is_changes_the_key() -> None:
    request, source = asked()
    owners: list[dict[str, Any]] = [
        {},
        {"subject": ""},
        {"subject": "a"},
        {"tenant": "a"},
        {"subject": "a", "tenant": "a"},
    ]
    assert len({key_of(FEATURE, request, source, **owner) for owner in owners}) == len(owners)


def test_who_asks_in_the_words_of_another_wire_changes_the_key() -> None:
    def metadata(user: str) -> bytes:
        body = {**BODY, "max_tokens": 5, "metadata": {"user_id": user}}
        request, source = AnthropicSurface().decode(json.dumps(body).encode(), "/v1/messages")
        return key_of(FEATURE, reproduce(request), source)

    assert metadata("ann") != metadata("bob")


def test_the_prompt_and_what_fills_it_changes_the_key() -> None:
    assert len({key(), key(prompt="Greet Ann."), key(prompt="Greet Bob.")}) == 3
    request, source = asked()
    assert key_of(FEATURE, request, source, variables={"a": "1", "b": "2"}) == key_of(
        FEATURE, request, source, variables={"b": "2", "a": "1"}
    )
    assert key_of(FEATURE, request, source, variables={"a": "1"}) != key_of(FEATURE, request, source)


def test_where_the_prompt_stands_changes_the_key() -> None:
    request, source = asked()
    prompt = Message(role="system", parts=(Text(text="Answer briefly."),))
    orders = [(prompt, *request.messages), (*request.messages, prompt), (prompt,), (prompt, prompt)]
    keys = {key_of(FEATURE, msgspec.structs.replace(request, messages=order), source) for order in orders}
    assert len(keys) == len(orders)


def test_what_the_gateway_changed_changes_the_key() -> None:
    request, source = asked()
    changed = [
        msgspec.structs.replace(request, response_format=ResponseFormat(type="json")),
        msgspec.structs.replace(request, extra={"added": 1}),
        msgspec.structs.replace(request, max_tokens=9),
    ]
    assert len({key_of(FEATURE, one, source) for one in [request, *changed]}) == 4


def test_a_request_that_json_can_not_say_has_a_key_all_the_same() -> None:
    one, other = [reproduce(Request(model="m", messages=(), extra={"x": 10**30 + more})) for more in (0, 1)]
    assert key_of(FEATURE, one) == key_of(FEATURE, one) != key_of(FEATURE, other)


def test_the_feature_is_in_the_key_and_named_texts_have_no_order() -> None:
    assert hash_of({"a": "1", "b": "2"}) == hash_of({"b": "2", "a": "1"})
    assert (
        len({hash_of(parts) for parts in [{"a": "1"}, {"a1": ""}, {"": "a1"}, {"a": "2"}, {}, {"a": "", "1": ""}]}) == 6
    )
    request, source = asked()
    assert key_of(hash_of({"a": "1"}), request, source) != key_of(hash_of({"a": "2"}), request, source)
