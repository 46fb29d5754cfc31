import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.privacy.audit.chain import SIGNED, ZERO, Damaged, entry_line, head_line, read_entry, read_head
from trails import SIGNER

NAMES = st.from_regex(r"[a-z]{1,8}_n", fullmatch=True)
TEXTS = st.text(max_size=300) | st.text('\ud800\x00\n"\\é', max_size=20)
DETAILS = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS | st.lists(TEXTS))


def line_of(actor: str = "os:root", **details: object) -> bytes:
    return entry_line(1, 1_760_000_000.25, actor, "export", details, ZERO)


@given(st.integers(1, 10**9), TEXTS, DETAILS)
def test_an_entry_is_one_line_and_can_be_read_back(n, actor, details):
    line = entry_line(n, 1_760_000_000.25, actor, "export", details, ZERO)
    entry = read_entry(line)
    assert b"\n" not in line
    assert (entry.n, entry.at, entry.prev) == (n, "2025-10-09T08:53:20.250000Z", ZERO)
    assert entry.details.keys() == details.keys()


def test_an_entry_is_plain_json_with_its_hash_last():
    line = line_of(subject="ab" * 16, calls=3, tenants=["acme"])
    told = json.loads(line)
    assert list(told) == ["n", "at", "actor", "action", "details", "prev", "hash"]
    assert told["details"] == {"subject": "ab" * 16, "calls": 3, "tenants": ["acme"]}


@pytest.mark.parametrize(
    "name",
    ["password", "new_password", "token", "api_key", "secret", "body", "bodies", "reply", "request", "message", "text"],
)
def test_an_entry_has_no_place_for_secrets_and_for_what_people_say(name):
    with pytest.raises(ValueError, match=f"holds no {name}"):
        line_of(**{name: "x"})


@pytest.mark.parametrize("name", ["key", "requests", "tokens", "account", "subject", "features"])
def test_an_entry_has_a_place_for_names_and_limits(name):
    assert read_entry(line_of(**{name: "x"})).details == {name: "x"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("hf_ab12cd34_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4", "hf_ab12cd34_***"),
        ("the key hf_ab12cd34_Zm9vYmFyYmF6, revoked", "the key hf_ab12cd34_***, revoked"),
        ("hf_ab12cd34", "hf_ab12cd34"),
        ("Bearer abc.def", "Bearer ***"),
        ("sk-proj-123", "sk-***"),
    ],
)
def test_what_looks_like_a_secret_is_blanked_wherever_it_stands(text, kept):
    entry = read_entry(line_of(actor=text, note=text, notes=[text]))
    assert (entry.actor, entry.details) == (kept, {"note": kept, "notes": [kept]})


def test_a_long_text_is_cut_and_no_secret_is_left_of_what_was_cut():
    details = read_entry(line_of(a="b" * 10**6, c="d" * 180 + " hf_ab12cd34_" + "s" * 100)).details
    assert details["a"] == "b" * 200 + "…"
    assert "ss" not in details["c"]


@pytest.mark.parametrize("value", [{"a": 1}, b"bytes", [1], object()])
def test_a_detail_is_a_text_a_number_or_a_list_of_texts(value):
    with pytest.raises(TypeError, match="holds texts, numbers and lists of texts"):
        line_of(a=value)


def test_an_entry_has_an_end():
    with pytest.raises(ValueError, match="an entry of the audit trail has at most"):
        line_of(**{f"a{n}": ["\x00" * 200] * 100 for n in range(10)})


@given(st.binary(max_size=400))
def test_whatever_is_read_is_an_entry_or_damaged(data):
    for read in (read_entry, read_head):
        with pytest.raises(Damaged):
            read(data)


@pytest.mark.parametrize("signer", [None, SIGNER])
def test_a_head_holds_the_last_entry_and_is_signed_where_that_is_possible(signer):
    head = read_head(head_line(1, 300, line_of(), signer))
    assert (head.entries, head.size, head.last) == (1, 300, read_entry(line_of()))
    assert head.check() == ("signed" if signer else "unsigned")


def test_a_head_of_another_key_is_not_signed_by_this_one():
    raw = head_line(1, 300, line_of(), SIGNER)
    forged = raw.replace(b'"signature":"', b'"signature":"0').replace(b'"}\n', b'"}\n')[:-4] + b'"}\n'
    assert read_head(forged).check() == "forged"


def test_a_head_that_contradicts_itself_is_damaged():
    with pytest.raises(Damaged, match="contradicts itself"):
        read_head(head_line(2, 300, line_of(), None))
    with pytest.raises(Damaged, match="contradicts itself"):
        read_head(head_line(1, 300, line_of(), SIGNER).partition(b'"signature"')[0] + b'"signature":null}\n')


def test_what_the_trail_says_of_itself_is_an_entry_like_others():
    assert read_entry(entry_line(1, 0, "audit", SIGNED, {"key": SIGNER.public}, ZERO)).action == SIGNED
