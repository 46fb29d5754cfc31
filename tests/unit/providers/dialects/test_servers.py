"""What servers are asked for, and what of it they enforce."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.app.catalogs import UPSTREAMS
from holdfast.chat import ResponseFormat
from holdfast.providers.base import Constrained, Keyword, ModelSettings, Upstream
from holdfast.providers.dialects import servers
from holdfast.providers.dialects.servers import Server
from holdfast.providers.known import PROVIDERS, resolve

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
LOOSE = CLOSED | {"required": []}
SCHEMA = ResponseFormat(type="schema", name="answer", schema=CLOSED)
JSON = ResponseFormat(type="json")
PATTERN = ResponseFormat(type="pattern", pattern="^[a-z]+$")
CHOICE = ResponseFormat(type="choice", choices=("yes", "no"))
GRAMMAR = ResponseFormat(type="grammar", grammar='start: "1"')


def upstream(provider: str, model: str = "some-model", **settings: Any) -> Upstream:
    if PROVIDERS[provider].needs_base_url:
        settings.setdefault("base_url", "http://10.0.0.5/v1")
    address = "http://127.0.0.1:1/v1" if provider == "simulated" else None
    endpoint = resolve(model, ModelSettings(provider=provider, **settings), Path(), address)
    return UPSTREAMS[PROVIDERS[provider].wire](endpoint)


def asked(found: Constrained) -> tuple[str | None, bool]:
    """The type of what is asked for, and whether anything of it is enforced."""
    return found.format.type if found.format is not None else None, bool(found.enforced)


@pytest.mark.parametrize(
    ("provider", "schema", "loose", "json", "pattern", "choice", "grammar"),
    [
        ("openai", ("schema", True), ("schema", False), ("json", True), None, None, None),
        ("azure", ("schema", True), ("schema", False), ("json", True), None, None, None),
        ("anthropic", ("schema", True), ("schema", True), ("json", False), None, None, None),
        ("google", ("schema", True), ("schema", True), ("json", True), None, "choice", None),
        ("mistral", ("schema", True), ("schema", True), ("json", True), None, None, None),
        ("groq", ("json", False), ("json", False), ("json", True), None, None, None),
        ("deepseek", ("json", False), ("json", False), ("json", True), None, None, None),
        ("xai", ("schema", True), ("schema", True), ("json", True), None, None, None),
        ("openrouter", ("schema", False), ("schema", False), ("json", False), None, None, None),
        ("together", ("schema", True), ("schema", True), ("json", True), "pattern", "choice", None),
        ("fireworks", ("schema", True), ("schema", True), ("json", True), "pattern", "choice", None),
        ("cerebras", ("schema", True), ("json", False), ("json", True), None, None, None),
        ("perplexity", ("schema", False), ("schema", False), ("json", False), None, None, None),
        ("moonshot", ("json", False), ("json", False), ("json", True), None, None, None),
        ("ollama", ("schema", True), ("schema", True), ("json", True), None, None, None),
        ("llamacpp", ("schema", True), ("schema", True), ("json", True), "pattern", "choice", None),
        ("vllm", ("schema", True), ("schema", True), ("json", True), "pattern", "choice", "grammar"),
        ("sglang", ("schema", True), ("schema", True), ("json", True), "pattern", "choice", None),
        ("tgi", ("schema", True), ("schema", True), (None, False), "pattern", "choice", None),
        ("simulated", ("schema", False), ("schema", False), ("json", False), None, "choice", None),
    ],
)
def test_each_provider_is_asked_for_what_it_has(provider, schema, loose, json, pattern, choice, grammar):
    model = upstream(provider)
    assert asked(model.constrain(SCHEMA)) == schema
    assert asked(model.constrain(ResponseFormat(type="schema", schema=LOOSE))) == loose
    assert asked(model.constrain(JSON)) == json
    for format, expected in ((PATTERN, pattern), (CHOICE, choice), (GRAMMAR, grammar)):
        found = model.constrain(format)
        assert asked(found) == (expected, expected is not None)
        assert found.enforced + found.checked == (Keyword("", format.type),)


def test_every_provider_is_in_that_table():
    (mark,) = [mark for mark in test_each_provider_is_asked_for_what_it_has.pytestmark if mark.name == "parametrize"]
    assert {row[0] for row in mark.args[1]} == set(PROVIDERS)


@pytest.mark.parametrize(
    ("provider", "model", "server"),
    [
        ("openai", "gpt-5-mini", servers.OPENAI),
        ("openai", "gpt-4.1", servers.OPENAI),
        ("openai", "gpt-4o-2024-08-06", servers.OPENAI),
        ("openai", "gpt-4", servers.JSON_MODE),
        ("openai", "gpt-4-turbo", servers.JSON_MODE),
        ("openai", "gpt-4o-2024-05-13", servers.JSON_MODE),
        ("openai", "gpt-3.5-turbo", servers.JSON_MODE),
        ("openai", "o1-mini", servers.NOTHING),
        ("openai", "ft:gpt-4o-mini-2024-07-18:us::1", servers.TUNED),
        ("groq", "openai/gpt-oss-120b", servers.GROQ),
        ("groq", "moonshotai/kimi-k2-instruct-0905", servers.BEST_EFFORT),
        ("groq", "llama-3.3-70b-versatile", servers.JSON_MODE),
        ("ollama", "qwen3:8b", servers.OLLAMA),
        ("ollama", "gpt-oss:120b-cloud", servers.UNKNOWN),
    ],
)
def test_some_models_of_a_provider_are_held_to_more_or_less(provider, model, server):
    assert upstream(provider, model).server is server


@pytest.mark.parametrize(
    ("model", "structured"),
    [
        ("claude-sonnet-4-5", True),
        ("claude-opus-4-6", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-1", False),
        ("claude-3-5-haiku-latest", False),
        ("claude-sonnet-4-20250514", False),
    ],
)
def test_claude_is_held_to_a_schema_from_4_5_on(model, structured):
    assert asked(upstream("anthropic", model).constrain(SCHEMA)) == ("schema", structured)


@pytest.mark.parametrize(
    ("provider", "base_url", "known"),
    [
        ("openai", "https://eu.api.openai.com/v1", True),
        ("openai", "http://10.0.0.5:8000/v1", False),
        ("openai", "https://api.openai.com.evil.example/v1", False),
        ("anthropic", "https://gateway.example", False),
        ("google", "https://aiplatform.googleapis.com/v1", True),
        ("vllm", "https://anywhere.example/v1", True),
        ("azure", "https://us.openai.azure.com/openai/v1", True),
    ],
)
def test_of_a_server_at_another_address_nothing_is_known(provider, base_url, known):
    found = upstream(provider, base_url=base_url).constrain(SCHEMA)
    assert asked(found) == ("schema", known)
    if not known:
        assert found.format is SCHEMA


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("format", [SCHEMA, JSON, PATTERN, CHOICE, GRAMMAR, ResponseFormat(type="text")])
def test_a_format_that_goes_as_it_is_stays_the_same_object_however_often_it_is_asked(provider, format):
    model = upstream(provider)
    first, again = model.constrain(format), model.constrain(msgspec.structs.replace(format))
    assert first == again
    if first.format == format and PROVIDERS[provider].server.says_json == "openai":
        assert first.format is format


def test_a_hint_that_the_caller_wants_no_more_of_stays_one():
    hint = msgspec.structs.replace(SCHEMA, strict=False)
    found = upstream("openai").constrain(hint)
    assert found.format is hint
    assert not found.enforced
    assert upstream("cerebras").constrain(hint).format is hint


def test_what_can_not_be_enforced_is_a_hint_with_the_reason():
    found = upstream("openai").constrain(ResponseFormat(type="schema", schema=LOOSE, strict=True))
    assert found.format is not None
    assert (found.format.strict, found.format.schema) == (False, LOOSE)
    assert found.reason == "the root has properties that may be left out"


def test_an_answer_that_may_be_no_object_is_asked_for_nowhere_that_gives_objects_only():
    array = ResponseFormat(type="schema", schema={"type": "array", "items": CLOSED})
    assert upstream("openai").constrain(array).format is None
    assert upstream("deepseek").constrain(array).format is None
    assert asked(upstream("vllm").constrain(array)) == ("schema", True)


def test_an_unknown_server_is_told_to_be_strict_only_where_none_would_refuse_that():
    unknown = upstream("openrouter")
    assert unknown.constrain(msgspec.structs.replace(SCHEMA, strict=True)).format.strict is True
    assert unknown.constrain(ResponseFormat(type="schema", schema=LOOSE, strict=True)).format.strict is None


@pytest.mark.parametrize("provider", ["vllm", "sglang", "tgi", "together", "fireworks", "llamacpp"])
def test_an_expression_that_engines_differ_about_is_checked_here(provider):
    found = upstream(provider).constrain(ResponseFormat(type="pattern", pattern=r"\p{L}+"))
    assert (found.format, found.enforced) == (None, ())


def test_all_data_about_servers_is_used():
    used = {id(provider.server) for provider in PROVIDERS.values()}
    used |= {id(server) for provider in PROVIDERS.values() for _, server in provider.exceptions}
    assert {id(value) for value in vars(servers).values() if isinstance(value, Server)} <= used


def test_formats_are_remembered_within_bounds():
    model = upstream("vllm")
    for i in range(100):
        model.constrain(ResponseFormat(type="choice", choices=(f"c{i}",)))
    assert len(model._constrained) == 32
    huge = ResponseFormat(type="choice", choices=tuple(f"c{i:09}" for i in range(10_000)))
    assert asked(model.constrain(huge)) == ("choice", True)
    assert len(model._constrained) == 32
