"""The most that an attempt may use, known before it is sent."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import (
    Audio,
    EmbeddingRequest,
    File,
    Image,
    Message,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Unknown,
)
from holdfast.errors import BadRequest
from holdfast.gateway.catalog import Model
from holdfast.gateway.spending.worst_case import ADDED, ADDED_BY_MESSAGE, ADDED_BY_TOOLS, need
from holdfast.http.base import Timeouts
from holdfast.providers.anthropic import AnthropicSurface, AnthropicUpstream
from holdfast.providers.base import Endpoint
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.openai.upstream import OpenAIUpstream
from holdfast.providers.prices import Price, PriceSettings

PRICE = Price.of(PriceSettings(input=1.0, output=2.0))


def model(*, body=None, **fields):
    upstream = OpenAIUpstream(Endpoint(model="m", base_url="http://127.0.0.1", body=body or {}))
    return Model(name="m", provider="openai", upstream=upstream, transport=None, timeouts=Timeouts(), **fields)


def request(*parts, **fields):
    messages = (Message(role="user", parts=parts or (Text(text="hi"),)),)
    return Request(model="m", messages=messages, **fields)


def test_input_is_at_most_the_bytes_that_are_sent_and_what_a_server_adds():
    found = need(model(price=PRICE), request(max_tokens=100), 5000)
    tokens = 5000 + ADDED + ADDED_BY_MESSAGE
    assert found[:3] == (1, tokens + 100, (tokens + 2 * 100) * 1000)


def test_tools_of_the_caller_add_what_tells_the_model_of_them():
    plain = need(model(), request(max_tokens=1), 100)
    tools = need(
        model(), request(max_tokens=1, tools=(Tool(name="f", extra={"type": "function"}), Tool(name="g"))), 100
    )
    assert tools.tokens == plain.tokens + ADDED_BY_TOOLS


@pytest.mark.parametrize(
    ("asked", "max_output", "context", "output"),
    [
        (10, None, None, 10),
        (10, 7, None, 10),
        (90, 7, 50, 50),
        (10, 70, 50, 10),
        (None, 7, 50, 7),
        (None, None, 50, 50),
        (90, None, 50, 50),
    ],
)
def test_output_is_at_most_what_the_caller_asks_for_or_else_what_the_model_gives(asked, max_output, context, output):
    found = need(model(max_output=max_output, context=context), request(max_tokens=asked), 0)
    assert found.tokens == ADDED + ADDED_BY_MESSAGE + output


def test_each_of_several_answers_counts():
    one = need(model(), request(max_tokens=10), 0).tokens
    assert need(model(), request(max_tokens=10, n=4), 0).tokens == one + 30
    assert need(model(body={"n": 3}), request(max_tokens=10), 0).tokens == one + 20
    assert need(model(body={"generationConfig": {"candidateCount": 3}}), request(max_tokens=10), 0).tokens == one + 20
    assert need(model(body={"n": "many"}), request(max_tokens=10), 0).tokens == one


def test_a_prediction_that_was_wrong_is_charged_as_output():
    found = need(model(), request(max_tokens=10, extra={"prediction": {"content": "..."}}), 1000)
    assert found.tokens == 2 * 1000 + ADDED + ADDED_BY_MESSAGE + 10


def test_a_model_that_does_not_say_how_long_an_answer_is_needs_a_setting():
    found = need(model(price=PRICE), request(), 100)
    assert found[:3] == (1, None, None)
    assert "`max_output` of the model m" in found.why


def test_a_model_without_a_price_has_a_worst_case_in_tokens_only():
    found = need(model(), request(max_tokens=10), 100)
    assert found.tokens is not None
    assert found.nanousd is None
    assert "set its `price`" in found.why


MEDIA = [
    Image(url="http://example.com/cat.png"),
    Image(data="AAAA", media_type="image/png"),
    Audio(data="AAAA", format="wav"),
    File(id="file-1"),
    Unknown(wire="openai", value={"type": "video"}),
    ToolResult(call_id="1", content=(Image(url="http://example.com/cat.png"),)),
]


@pytest.mark.parametrize("part", MEDIA, ids=lambda part: type(part).__name__)
def test_what_is_not_words_may_fill_the_context(part):
    found = need(model(context=1000, price=PRICE), request(Text(text="What is it?"), part, max_tokens=10), 9999)
    assert found[:3] == (1, 1010, (1000 + 20) * 1000)


@pytest.mark.parametrize("part", MEDIA, ids=lambda part: type(part).__name__)
def test_what_is_not_words_needs_a_context_that_is_known(part):
    found = need(model(price=PRICE), request(part, max_tokens=10), 9999)
    assert found[:3] == (1, None, None)
    assert "set its `context`" in found.why


@pytest.mark.parametrize(
    "part",
    [
        ToolCall(id="1", name="f", arguments="{}"),
        ToolResult(call_id="1", content=(Text(text="42"),)),
        Reasoning(text="hm"),
        Refusal(text="no"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_words_of_any_kind_are_bounded_by_their_bytes(part):
    assert need(model(), request(part, max_tokens=10), 100).tokens == 100 + ADDED + ADDED_BY_MESSAGE + 10


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (Tool(name="web_search", extra={"type": "web_search_20260318"}),)},
        {"tools": (Tool(name="googleSearch", extra={"googleSearch": {}}),)},
        {"extra": {"web_search_options": {}}},
        {"extra": {"cachedContent": "cachedContents/1"}},
        {"extra": {"mcp_servers": []}},
    ],
)
def test_what_a_provider_brings_in_itself_may_fill_the_context(fields):
    assert need(model(context=1000), request(max_tokens=10, **fields), 50).tokens == 1010


@pytest.mark.parametrize("body", [{"tools": [{"type": "web_search"}]}, {"web_search_options": {}}])
def test_so_may_what_the_settings_of_a_model_add(body):
    assert need(model(context=1000, body=body), request(max_tokens=10), 50).tokens == 1010


def test_embeddings_have_no_output():
    price = Price.of(PriceSettings(input=1.0, output=0.0))
    found = need(model(price=price), EmbeddingRequest(model="m", input=("a", "b")), 100)
    tokens = 100 + ADDED + 2 * ADDED_BY_MESSAGE
    assert found[:3] == (1, tokens, tokens * 1000)


LONGER = [
    {"max_completion_tokens": 50},
    {"n_predict": -1},
    {"max_new_tokens": "50"},
    {"generationConfig": {"maxOutputTokens": 50}},
    {"generation_config": {"max_output_tokens": 50}},
    {"thinking": {"type": "enabled", "budget_tokens": 50}},
    {"reasoning": {"max_tokens": 50}},
    {"extra_body": {"max_tokens": 50}},
]


@pytest.mark.parametrize("extra", LONGER, ids=lambda extra: next(iter(extra)))
def test_a_field_of_another_wire_that_makes_an_answer_longer_counts(extra):
    found = need(model(context=1000), request(max_tokens=10, extra=extra), 0)
    assert found.tokens == ADDED + ADDED_BY_MESSAGE + 1000
    assert need(model(), request(max_tokens=10, extra=extra), 0).tokens is None
    assert need(model(), request(max_tokens=50, extra={"max_completion_tokens": 50}), 0).tokens is not None


def test_a_budget_for_thinking_that_is_above_the_longest_answer_counts():
    assert need(model(context=1000), request(max_tokens=10, reasoning_tokens=50), 0).tokens > 1000
    assert need(model(context=1000), request(max_tokens=50, reasoning_tokens=10), 0).tokens < 1000


@pytest.mark.parametrize(
    "extra", [{"n": 4}, {"best_of": 4}, {"generationConfig": {"candidateCount": 4}}, {"extra_body": {"n": 4}}]
)
def test_a_field_of_another_wire_that_asks_for_several_answers_counts(extra):
    assert need(model(), request(max_tokens=10, extra=extra), 0).tokens == ADDED + ADDED_BY_MESSAGE + 40


@pytest.mark.parametrize(
    "extra",
    [{"service_tier": "priority"}, {"serviceTier": "PRIORITY"}, {"speed": "fast"}, {"models": ["dear"]}],
    ids=lambda extra: next(iter(extra)),
)
def test_what_other_rates_than_the_usual_make_of_a_price_is_not_known(extra):
    found = need(model(price=PRICE), request(max_tokens=10, extra=extra), 0)
    assert found.tokens is not None
    assert found.nanousd is None
    assert f"`{next(iter(extra))}`" in found.why


def test_the_usual_rates_are_known():
    assert need(model(price=PRICE), request(max_tokens=10, extra={"service_tier": "auto"}), 0).nanousd is not None


def caller_of_the_anthropic_wire(**fields):
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **fields}
    return AnthropicSurface().decode(msgspec.json.encode(body), "/v1/messages")


@pytest.mark.parametrize("upstream", [OpenAIUpstream, GoogleUpstream, AnthropicUpstream])
@given(
    fields=st.dictionaries(
        st.sampled_from(["n", "best_of", "max_completion_tokens", "generationConfig", "n_predict"]),
        st.integers(0, 64)
        | st.fixed_dictionaries(
            {}, optional={"candidateCount": st.integers(1, 8), "maxOutputTokens": st.integers(1, 64)}
        ),
        max_size=3,
    )
)
def test_no_field_of_a_caller_gets_out_more_than_what_is_sent_asks_for(upstream, fields):
    asked, source = caller_of_the_anthropic_wire(**fields)
    up = upstream(Endpoint(model="m", base_url="http://127.0.0.1"))
    try:
        sent = up.encode(asked, source).body
    except BadRequest:
        return
    own = Model(name="m", provider="x", upstream=up, transport=None, timeouts=Timeouts(), context=1000)
    found = msgspec.json.decode(sent)
    config = found.get("generationConfig")
    config = config if isinstance(config, dict) else {}
    counts = [found.get("n"), found.get("best_of"), config.get("candidateCount")]
    lengths = [found.get("max_tokens"), found.get("max_completion_tokens"), config.get("maxOutputTokens")]
    answers = max([count for count in counts if isinstance(count, int)], default=1)
    length = max([length for length in lengths if isinstance(length, int)], default=1000)
    assert need(own, asked, len(sent)).tokens >= len(sent) + answers * length


@given(
    parts=st.lists(
        st.sampled_from([Text(text="hi"), Refusal(text="no"), Image(url="x"), ToolResult(call_id="1")]), min_size=1
    ),
    asked=st.none() | st.integers(0, 1000),
    n=st.integers(1, 3),
    context=st.none() | st.integers(1, 1000),
    max_output=st.none() | st.integers(1, 1000),
)
def test_the_short_way_for_plain_requests_comes_to_the_same(parts, asked, n, context, max_output):
    it = model(price=PRICE, context=context, max_output=max_output)
    plain = request(*parts, max_tokens=asked, n=n)
    assert need(it, plain, 500) == need(it, msgspec.structs.replace(plain, extra={"user": "ada"}), 500)
