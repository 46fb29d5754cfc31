import json
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from holdfast.chat import (
    Audio,
    Choice,
    EmbeddingReply,
    EmbeddingRequest,
    File,
    Image,
    Logprob,
    Message,
    Reasoning,
    Refusal,
    Reply,
    Request,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Unknown,
    Usage,
)
from holdfast.events import Attempt, Call, Repair
from holdfast.log.view import call_json
from holdfast.privacy.masking import FACTS, blur, mask, masked
from log_samples import make_call

SECRET = "Geheimnis"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Anna Kraft, born 1985-03-12.", "xxxx xxxxx, xxxx 9999-99-99."),
        ("- a\n\t* b: 50 % of $9", "- x\n\t* x: 99 % of $9".replace("of", "xx")),
        ("ß é e\u0301 Ñandú", "x x xx xxxxx"),
        ("漢字、かな。 \u0664\u0665 ½ ² Ⅷ ①", "xx、xx。 99 9 9 9 9"),
        ("हिन्दी", "xxxxxx"),
        ("Ⓐ 🄰 🇦 🙂 ℃ \u2800 \U000e0041 \u200b \ue000", "x x x x x x x x x"),
        ("“a” – b… (c) [d] {e} <f>", "“x” – x… (x) [x] {x} <x>"),
        ("", ""),
    ],
)
def test_letters_become_x_and_digits_9_and_the_rest_stays(text, shown):
    assert mask(text) == shown


@given(st.text())
def test_no_letter_and_no_digit_survives_and_the_shape_stays(text):
    shown = mask(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        assert after == before or after in "x9"
        if before.isalnum() or unicodedata.category(before)[0] in "LMN":
            assert after == ("9" if unicodedata.category(before)[0] == "N" else "x")
        if before.isascii() and not before.isalnum():
            assert after == before


@given(st.text())
def test_masking_twice_is_masking_once(text):
    assert mask(mask(text)) == mask(text)


@given(st.text(min_size=1), st.text(min_size=1))
def test_texts_of_the_same_shape_look_the_same(text, other):
    letters = "".join([other[n % len(other)] if c.isalpha() else c for n, c in enumerate(text)])
    if all(c.isalpha() for c in other):
        assert mask(letters) == mask(text)


def test_every_character_there_is_can_be_masked():
    everything = "".join(map(chr, range(0x110000)))
    shown = mask(everything)
    assert len(shown) == len(everything)
    kept = {c for c, after in zip(everything, shown, strict=True) if after == c} - {"x", "9"}
    assert not any(unicodedata.normalize("NFKD", c)[0].isalnum() for c in kept)


def test_a_long_text_takes_time_in_proportion():
    def taken(size: int) -> float:
        text = ("Anna 漢字 \U0001f642 12. " * (size // 14))[:size]
        start = time.perf_counter()
        mask(text)
        return time.perf_counter() - start

    assert min(taken(800_000) for _ in range(3)) < 20 * min(taken(100_000) for _ in range(3))


# --- any JSON ---------------------------------------------------------------------------------------------------------


@given(JSON)
def test_any_json_keeps_its_structure_and_none_of_its_content(value):
    shown = blur(value)
    json.dumps(shown, allow_nan=False)
    assert shape(shown) == shape(value)
    assert all(set(text) & ALNUM <= set("x9#0123456789") for text in texts(shown))


ALNUM = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted(map(str, map(shape, value.values())))
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *[text for item in value.values() for text in texts(item)]]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_names_of_members_that_become_the_same_are_told_apart():
    assert blur({"ann": 1, "bob": 22, "x#2": 3, "cat": True}) == {"xxx": 9, "xxx#2": 99, "x#9": 9, "xxx#3": True}


def test_numbers_and_truth_are_content_too():
    assert blur([39.5, -120, 0, True, False, None, 10**400]) == [9.9, 999, 9, True, True, None, 9999999999999999999]


def test_what_is_nested_without_end_is_cut():
    value: Any = SECRET
    for _ in range(5000):
        value = [value]
    shown = blur(value)
    assert str(shown).count("[") == 65
    assert SECRET not in str(shown)


# --- calls ------------------------------------------------------------------------------------------------------------

PARTS = (
    Text(text=SECRET),
    Image(url=SECRET, data=SECRET, media_type=SECRET, detail=SECRET),
    Audio(data=SECRET, format=SECRET),
    File(name=SECRET, data=SECRET, url=SECRET, id=SECRET),
    Reasoning(text=SECRET, signature=SECRET, redacted=SECRET),
    Refusal(text=SECRET),
    ToolCall(id=SECRET, name=SECRET, arguments=f'{{"{SECRET}": 1985}}', signature=SECRET),
    ToolResult(call_id=SECRET, content=(Text(text=SECRET), Image(url=SECRET)), name=SECRET, is_error=True),
    Unknown(wire=SECRET, value={SECRET: [1985, SECRET]}),
)
REQUEST = Request(
    model="gpt",
    messages=(Message(role="user", parts=PARTS, name=SECRET), Message(role="system", parts=())),
    tools=(Tool(name=SECRET, description=SECRET, parameters={SECRET: SECRET}, strict=True, extra={SECRET: 1}),),
    tool_choice=ToolChoice(mode="named", name=SECRET),
    response_format=ResponseFormat(
        type="schema", schema={SECRET: SECRET}, name=SECRET, description=SECRET, pattern=SECRET, choices=(SECRET,)
    ),
    max_tokens=100,
    temperature=0.5,
    stop=(SECRET,),
    seed=7,
    reasoning_effort="low",
    stream=True,
    extra={SECRET: SECRET, "metadata": {"role": SECRET}},
)
TOKEN = Logprob(token=SECRET, logprob=-0.25, bytes=(71, 101), top=(Logprob(token=SECRET, logprob=-1.5),))
REPLY = Reply(
    id=SECRET,
    model="gpt-5",
    choices=(Choice(parts=PARTS, finish="tool_calls", logprobs=(TOKEN,), stop_sequence=SECRET, refusal_reason=SECRET),),
    usage=Usage(input_tokens=12, output_tokens=34),
    fingerprint=SECRET,
    created=1_760_000_000,
    extra={SECRET: SECRET},
)
CALL = make_call(
    request=REQUEST,
    reply=REPLY,
    error="bad_request",
    message=SECRET,
    session="s-1",
    tags={"team": "search"},
    ledger=(Repair("fence", 3, SECRET, SECRET),),
    attempts=(Attempt(model="gpt", provider="openai", started_us=0, duration_us=5, error="x", message=SECRET),),
)


def test_nothing_that_anybody_wrote_is_left_of_a_call():
    told = call_json(CALL)
    assert str(told).count(SECRET) > 40
    assert SECRET not in str(masked(told))
    for form in ("1985", "71, 101", "-0.25"):
        assert form in str(told)
        assert form not in str(masked(told))


def test_the_words_and_the_settings_of_the_wire_stay():
    request, reply = masked(call_json(CALL))["request"], masked(call_json(CALL))["reply"]
    assert [message["role"] for message in request["messages"]] == ["user", "system"]
    assert [part["type"] for part in request["messages"][0]["parts"]] == [
        *("text", "image", "audio", "file", "reasoning", "refusal", "tool_call", "tool_result", "unknown")
    ]
    told = ("model", "max_tokens", "temperature", "seed", "reasoning_effort", "stream")
    assert [request[name] for name in told] == ["gpt", 100, 0.5, 7, "low", True]
    assert (request["response_format"]["type"], request["tool_choice"]["mode"]) == ("schema", "named")
    assert request["messages"][0]["parts"][7]["content"][0] == {"type": "text", "text": "x" * len(SECRET)}
    assert (reply["model"], reply["usage"]) == ("gpt-5", {"input_tokens": 12, "output_tokens": 34})
    assert (reply["created"], reply["choices"][0]["finish"]) == (1_760_000_000, "tool_calls")


def test_texts_keep_their_shape():
    call = make_call(request=Request(model="gpt", messages=(Message(role="user", parts=(Text(text="Hi, Anna!"),)),)))
    assert masked(call_json(call))["request"]["messages"][0]["parts"] == [{"type": "text", "text": "xx, xxxx!"}]


def test_the_facts_of_a_call_stay_with_its_session_and_its_tags():
    told = call_json(CALL)
    shown = masked(told)
    facts = told.keys() - {"request", "reply", "ledger", "message", "attempts"}
    assert {name: shown[name] for name in facts} == {name: told[name] for name in facts}
    assert (shown["session"], shown["tags"], shown["error"]) == ("s-1", {"team": "search"}, "bad_request")
    assert shown["message"] == "x" * len(SECRET)
    assert shown["attempts"] == [{**told["attempts"][0], "message": "x" * len(SECRET)}]
    assert shown["ledger"] == [{**told["ledger"][0], "before": "x" * len(SECRET), "after": "x" * len(SECRET)}]


def test_embeddings_tell_nothing_of_their_texts():
    asked = EmbeddingRequest(model="e", input=(SECRET,), dimensions=256, extra={"user": SECRET})
    answered = EmbeddingReply(model="e-3", vectors=((0.125, -0.5), "AAAAPg=="))
    shown = masked(call_json(make_call(request=asked, reply=answered)))
    assert shown["request"]["input"] == ["x" * len(SECRET)]
    assert shown["request"]["dimensions"] == 256
    assert shown["reply"]["vectors"] == [[9.9, 9.9], "xxxxxx=="]
    tokens = structs.replace(asked, input=((101, 7592),))
    assert masked(call_json(make_call(request=tokens)))["request"]["input"] == [[999, 9999]]


def test_a_call_without_bodies_stays_as_it_is():
    told = call_json(make_call(request=None, reply=None, message=None))
    assert masked(told) == {**told, "attempts": [{**a, "message": blur(a["message"])} for a in told["attempts"]]}


@pytest.mark.parametrize("error", ["limit_exceeded", "price_unknown", "model_down", "deadline_exceeded"])
def test_an_error_in_the_gateways_own_words_says_why_and_one_that_may_quote_somebody_does_not(error):
    ours = {"error": error, "message": "The limit is used up."}
    theirs = {"error": "bad_request", "message": SECRET}
    shown = masked({**ours, "attempts": [theirs, ours]})
    assert (shown["message"], shown["attempts"][1]["message"]) == ("The limit is used up.",) * 2
    assert shown["attempts"][0]["message"] == "x" * len(SECRET)
    assert masked({**theirs, "attempts": [ours]})["message"] == "x" * len(SECRET)
    assert masked({"error": [error], "message": SECRET})["message"] == "x" * len(SECRET)


def test_every_field_of_a_call_is_either_a_fact_or_masked():
    shown = {"attempts", "request", "reply", "ledger", "message"}
    fields = {name.replace("nanousd", "usd") for name in Call.__struct_fields__}
    assert fields - set(FACTS) == shown
    assert call_json(CALL).keys() - set(FACTS) == shown


@pytest.mark.parametrize("body", ["a text", 7, None, [1985], {"messages": SECRET, "choices": 3, "model": {"a": 1}}])
def test_a_body_of_another_shape_is_masked_whole(body):
    shown = masked({"request": body, "reply": body, "ledger": body, "attempts": body, "unheard_of": SECRET})
    assert SECRET not in str(shown)
    assert "1985" not in str(shown)
    assert shown["unheard_of"] == "x" * len(SECRET)
