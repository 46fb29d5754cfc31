"""What an answer may not tell."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.guards.base import Context, Finding
from holdfast.guards.leaks import Leaks
from holdfast.guards.streaming import Blocked, Stream

PROMPT = (
    "You are Ada, the assistant of Example Bank. "
    "Never tell anyone the rate that we pay to brokers, which is 4.2 percent. "
    "If a customer asks about mortgages, offer a call with an adviser between nine and five. "
    "Do not mention competitors, and answer in the language of the customer."
)
CANARY = "kestrel-7f3a91-moss"
SECRET = "gw-2Jx9Kq7LmVtR4p"
OUTPUT = Context(direction="output", session="s", prompt=PROMPT, canaries=(CANARY,))
GUARD = Leaks(secrets=[SECRET])


def kind(text, guard=GUARD, context=OUTPUT):
    return guard.check(text, context).kind


@pytest.mark.parametrize(
    "told",
    [
        PROMPT,
        PROMPT.upper(),
        PROMPT.replace(" ", "\n> "),
        " ".join(f"**{word}**" for word in PROMPT.split()),
        PROMPT.replace("e", "e\u200b"),
        "Sure! " + PROMPT[40:160] + " That is all.",
        base64.b64encode(PROMPT.encode()).decode(),
        PROMPT.encode().hex(),
        base64.b64encode(PROMPT[7:150].encode()).decode(),
    ],
)
def test_a_prompt_that_is_told_is_blocked_however_it_is_written(told):
    verdict = GUARD.check(told, OUTPUT)
    assert (verdict.kind, verdict.reason) == ("block", "tells the system prompt")


def test_a_prompt_with_a_word_changed_here_and_there_is_still_it():
    told = PROMPT.split()
    for at in range(5, len(told), 7):
        told[at] = "indeed"
    assert kind(" ".join(told)) == "block"


@pytest.mark.parametrize(
    "answer",
    [
        "I'm Ada, the assistant of Example Bank. How can I help?",
        "Our advisers are there between nine and five. Shall I arrange a call with an adviser?",
        "",
        "Je ne peux pas vous dire le taux que nous payons aux courtiers.",
        "the " * 5000,
    ],
)
def test_answers_that_follow_a_prompt_do_not_tell_it(answer):
    assert kind(answer) == "pass"


def test_what_lies_far_apart_is_not_told():
    told = PROMPT.split()
    chunks = [" ".join(told[at : at + 5]) for at in range(0, 50, 10)]
    assert kind(" and then there is quite a lot of other text that nobody asked for ".join(chunks)) == "pass"


def test_a_short_prompt_is_told_with_most_of_its_words():
    context = Context(direction="output", prompt="The password of the day is swordfish, friend.")
    assert kind("It says: the password of the day is swordfish", context=context) == "block"
    assert kind("The day is over, and the password was changed.", context=context) == "pass"


def test_a_prompt_of_a_few_words_is_nothing_to_protect():
    assert kind("Be brief.", context=Context(direction="output", prompt="Be brief.")) == "pass"


def test_a_question_may_quote_the_prompt_but_no_secret():
    context = Context(direction="input", prompt=PROMPT, canaries=(CANARY,))
    assert kind(PROMPT + CANARY, context=context) == "pass"
    assert kind(f"use {SECRET}", context=context) == "block"


@pytest.mark.parametrize("needle", [CANARY, SECRET])
@pytest.mark.parametrize(
    "write",
    [
        str,
        str.upper,
        lambda text: " ".join(text),
        lambda text: "\u200b".join(text),
        lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
        lambda text: text[::-1],
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex(" ").upper(),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(b"x" + text.encode() + b"yz").decode(),
        lambda text: base64.urlsafe_b64encode(b"xy" + text.encode() + b"z").decode(),
    ],
)
def test_canaries_and_secrets_are_found_however_they_are_written(needle, write):
    text = f"Well: {write(needle)}, and so on."
    verdict = GUARD.check(text, OUTPUT)
    assert verdict.kind == "block"
    assert needle not in verdict.reason
    found = verdict.findings[0]
    assert found.start >= 6
    assert found.end <= len(text) - len(", and so on.") + 1


def test_some_of_a_canary_is_none():
    assert kind(f"{CANARY[:-2]} {CANARY[2:]}") == "pass"


@pytest.mark.parametrize("secret", ["", "short", "---------"])
def test_secrets_that_would_be_found_by_chance_are_refused(secret):
    with pytest.raises(ValueError, match="8 letters"):
        Leaks(secrets=[secret])


def test_too_few_words_of_the_prompt_are_refused():
    with pytest.raises(ValueError, match="prompt_words"):
        Leaks(prompt_words=5)


def test_stand_ins_of_other_sessions_are_asked_for():
    def foreign(text, context):
        at = text.find("other@example.org")
        return [Finding("a stand-in of another session", at, at + 17)] if at >= 0 and context.session == "s" else []

    guard = Leaks(stand_ins=foreign)
    assert guard.check("write to other@example.org", OUTPUT).reason == "tells a stand-in of another session"
    assert kind("write to mine@example.org", guard) == "pass"


@pytest.mark.parametrize("text", [PROMPT * 3000, "a" * 1_000_000, "you are the " * 80_000, "kestrel7" * 100_000])
def test_hostile_texts_take_linear_time(text):
    assert kind(text[:1_000_000]) in ("pass", "block")


PIECES = st.lists(
    st.sampled_from(
        [PROMPT[:60], PROMPT[60:130], PROMPT[130:], CANARY[:9], CANARY[9:], "Hello there. ", " ", "\n" * 700]
    )
)


@settings(deadline=None)
@given(PIECES.map("".join), st.integers(5, 900))
def test_a_stream_is_blocked_if_the_whole_answer_is_and_before_it_told(text, size):
    stream = Stream(GUARD, OUTPUT)
    out = ""
    try:
        for at in range(0, len(text), size):
            out += stream.feed(text[at : at + size])
        out += stream.end()
    except Blocked:
        assert kind(text) == "block"
        assert kind(out) == "pass"
    else:
        assert kind(text) == "pass"
        assert out == text
