"""What is hidden keeps its form, differs by session, and comes back exactly."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.guards.pii import accounts, checks, detect, national
from holdfast.guards.pii.standins import Hidden, Json, Standins

_spec = importlib.util.spec_from_file_location("pii_samples", Path(__file__).with_name("samples.py"))
assert _spec is not None
assert _spec.loader is not None
samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(samples)

KEY = b"k" * 32
MARKED = [(kind, text) for kind, texts in samples.FOUND.items() for text in texts]
PIECES = [*(text.replace("<", "").replace(">", "") for _, text in MARKED), *samples.HARMLESS, "\n", ", ", '"', "\\"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=8).map(" ".join)


def hide(text: str, session: str = "s", in_json: bool = False) -> tuple[str, Hidden]:
    return Standins(KEY, session).hide(text, in_json)


def only(kind: str, original: str, context: str = "") -> str:
    hidden, _ = hide(context + original)
    assert hidden.startswith(context)
    return hidden[len(context) :]


@pytest.mark.parametrize(("kind", "marked"), MARKED)
def test_a_stand_in_has_the_form_of_its_original_and_nothing_of_its_content(kind, marked):
    text = marked.replace("<", "").replace(">", "")
    original = marked[marked.index("<") + 1 : marked.index(">")]
    hidden, back = hide(text)
    assert original not in hidden
    assert back.restore(hidden) == text
    standin = next(standin for standin, known in back.originals.items() if known == original)
    assert standin != original
    if kind in ("phone", "card", "national_number", "iban"):
        assert re.sub(r"[^\W_]", "9", standin) == re.sub(r"[^\W_]", "9", original)
    if kind not in ("national_number", "address"):
        assert [finding.kind for finding in detect.find(hidden)] == [kind]


def test_an_email_stays_an_email_under_a_reserved_domain():
    assert re.fullmatch(r"[a-z.]{9}@[a-z]+\.example\.(com|net|org)", only("email", "bob.smith@acme.com"))


def test_a_card_stays_a_card_of_its_network_in_a_test_range():
    standin = only("card", "4111 1111 1111 1111").replace(" ", "")
    assert accounts.network(standin) == "visa"
    assert standin.startswith("400000")


@pytest.mark.parametrize("iban", ["GB82 WEST 1234 5698 7654 32", "de89370400440532013000"])
def test_an_iban_stays_an_iban_of_its_country(iban):
    standin = only("iban", iban)
    assert standin[:2] == iban[:2]
    assert checks.mod97(national.compact(standin))


def test_a_phone_number_becomes_one_for_fiction_where_there_are_some():
    assert re.fullmatch(r"\+1 [2-9]\d\d-555-01\d\d", only("phone", "+1 415-555-2671"))
    assert re.fullmatch(r"\+44 7700 900\d\d\d", only("phone", "+44 7911 123456"))
    assert re.fullmatch(r"\+33 6 39 98 \d\d \d\d", only("phone", "+33 6 12 34 56 78"))
    assert re.fullmatch(r"\+39 \d\d\d \d{7}", only("phone", "+39 347 1234567"))


def test_an_ip_address_becomes_one_of_documentation_or_benchmarks():
    assert re.match(r"192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|198\.1[89]\.", only("ip", "81.2.69.142"))
    assert only("ip", "2a02:6b8::2:242").startswith("2001:db8:")


def test_a_number_of_a_country_stays_valid_there():
    for original in ("529.982.247-25", "85.07.30-033.28", "756.9217.0769.85", "12345678Z", "RSSMRA85T10A562S"):
        number = national.find(only("national_number", original), announced=False)
        assert number is not None
        assert number.country == national.find(original, announced=False).country


def test_a_social_security_number_becomes_one_that_is_nobodys():
    assert re.fullmatch(r"9\d\d-[0-4]\d-\d{4}", only("national_number", "460-89-9847"))


def test_the_same_session_gives_the_same_stand_in_in_any_text():
    first, second = hide("I am bob@acme.com"), hide("Hello, bob@acme.com, bye")
    assert first[1].originals == second[1].originals


def test_another_session_or_key_gives_another_stand_in():
    text = "bob@acme.com"
    standins = {hide(text, f"s{n}")[0] for n in range(50)} | {Standins(b"other", "s0").hide(text)[0]}
    assert len(standins) == 51


def test_one_number_in_two_forms_keeps_being_one_number():
    hidden, _ = hide("call 415-555-2671 or 415.555.2671")
    first, second = re.findall(r"[\d.-]{12}", hidden)
    assert first.replace("-", "") == second.replace(".", "")


def test_a_model_may_leave_out_the_separators():
    hidden, back = hide("card 4111 1111 1111 1111")
    assert back.restore(hidden.replace(" ", "")) == "card4111111111111111"
    assert back.restore(f'{{"card": {hidden[5:].replace(" ", "")}}}', in_json=True) == '{"card": 4111111111111111}'


def test_a_stand_in_that_is_in_the_text_already_is_not_used():
    standin, _ = hide("81.2.69.142")
    text = f"81.2.69.142 is not {standin}"
    hidden, back = hide(text)
    assert back.restore(hidden) == text
    quoted = f"x bob@acme.com and the words {hide('bob@acme.com')[0]}"
    hidden, back = Standins(KEY, "s", {"ip"}).hide(text + quoted)
    assert back.restore(hidden) == text + quoted


def test_a_request_is_hidden_as_one():
    texts = ["I am bob@acme.com", Json('{"to": "bob@acme.com", "phone": "467 3395"}'), "nothing"]
    hidden, back = Standins(KEY, "s").hide_all(texts)
    assert hidden[0].removeprefix("I am ") == json.loads(hidden[1])["to"]
    assert json.loads(hidden[1])["phone"] != "467 3395"
    assert hidden[2] == "nothing"
    assert len(back.originals) == 2


def test_only_the_kinds_that_are_asked_for_are_hidden():
    hidden, _ = Standins(KEY, "s", {"email"}).hide("bob@acme.com at 81.2.69.142")
    assert "bob" not in hidden
    assert hidden.endswith("at 81.2.69.142")


def test_a_text_without_personal_data_is_left_as_it_is():
    assert hide("nothing here") == ("nothing here", Hidden())
    assert hide("") == ("", Hidden())


@given(text=TEXTS, session=st.text(max_size=4))
def test_what_was_hidden_comes_back_exactly(text, session):
    hidden, back = hide(text, session)
    assert back.restore(hidden) == text
    for finding in detect.find(text):
        original = text[finding.start : finding.end]
        assert original in back.originals.values()
        assert original not in back.originals


@given(values=st.lists(TEXTS, max_size=4), ascii_only=st.booleans())
def test_what_was_hidden_in_json_comes_back_with_the_same_meaning(values, ascii_only):
    document = {"values": values, "phone": "467 3395"}
    hidden, back = hide(json.dumps(document, ensure_ascii=ascii_only), in_json=True)
    assert json.loads(hidden)["phone"] != "467 3395"
    assert json.loads(back.restore(hidden, in_json=True)) == document
    escaped = json.dumps(json.loads(hidden), ensure_ascii=not ascii_only).replace("/", "\\/").replace("@", "\\u0040")
    assert json.loads(back.restore(escaped, in_json=True)) == document


@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_sessions_that_are_interleaved_do_not_mix(texts):
    hidden = [hide(text, str(n)) for n, text in enumerate(texts)]
    for text, (shown, back) in zip(texts, hidden, strict=True):
        assert back.restore(shown) == text
