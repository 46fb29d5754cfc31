"""Credentials are masked, what only looks like them is not."""

import base64
import binascii
import json
import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.guards.base import Context
from holdfast.guards.secrets.assigned import entropy
from holdfast.guards.secrets.guard import SPAN, Secrets
from holdfast.guards.streaming import Blocked, Stream

ALNUM = string.ascii_letters + string.digits
RANDOM = random.Random(7)
CONTEXT = Context(direction="output")


def some(length, letters=ALNUM):
    return "".join(RANDOM.choices(letters, k=length))


def github():
    body, digits = some(30), ""
    rest = binascii.crc32(body.encode())
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + digits
    return f"ghp_{body}{digits}"


def jwt(header=b'{"alg":"HS256","typ":"JWT"}'):
    return f"{base64.urlsafe_b64encode(header).decode().rstrip('=')}.eyJzdWIiOiIxIn0.{some(43)}"


def pem(length=1200, kind="RSA PRIVATE KEY"):
    body = base64.b64encode(RANDOM.randbytes(length)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


TOKENS = {
    "GitHub token": github(),
    "AWS access key": "AKIA" + some(16, "ABCDEFGHJKLMNPQR234567"),
    "Google API key": "AIza" + some(35),
    "OpenAI key": f"sk-proj-{some(40)}T3BlbkFJ{some(40)}",
    "Anthropic key": f"sk-ant-api03-{some(93)}AA",
    "Stripe key": f"sk_live_{some(24)}",
    "Slack token": f"xoxb-{some(12, string.digits)}-{some(12, string.digits)}-{some(24)}",
    "Holdfast key": f"hf_{some(8, 'abcdefgh2345')}_{some(40)}",
    "Hugging Face token": f"hf_{some(34, string.ascii_letters)}",
    "Telegram token": f"{some(10, '123456789')}:AA{some(33)}",
    "Azure storage key": f"AccountKey={some(86)}==",
    "JWT": jwt(),
    "private key": pem(),
}


def masked(text, **settings):
    verdict = Secrets(**settings).check(text, CONTEXT)
    return verdict.text if verdict.kind == "rewrite" else text


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("around", ["{}", "see {}.", '{{"a": "{}"}}', "\\n{}", "a%3D{}", "`{}`", "({}),", "x={}&y=1"])
def test_what_has_the_shape_of_a_token_is_masked(kind, around):
    token = TOKENS[kind]
    assert masked(around.format(token)) == around.format(f"[{kind}]")


def test_the_checksum_tells_a_token_from_one_that_is_made_up():
    assert masked("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") == "[GitHub token]"
    assert masked("ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18") != "[GitHub token]"


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-" + "x" * 48,
        "sk-proj-your-key-goes-here-and-nowhere-else-1234567890T3BlbkFJ",
        "eyJhbGciOiJIUzI1NiJ9",
        f"eyJ{some(20)}.{some(20)}.{some(20)}",
        jwt(b'["alg"]'),
        "xAKIA" + some(16, "ABCDEFGHJKLMNPQR234567"),
        pem(kind="CERTIFICATE"),
        pem(kind="PUBLIC KEY"),
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY----- is how a key starts",
    ],
)
def test_what_only_looks_like_a_token_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password: Falcon-4711!", "password: [password]"),
        ("DB_PASSWORD='Falcon4711'", "DB_PASSWORD='[password]'"),
        ('{"passwd": "aB3$xyz"}', '{"passwd": "[password]"}'),
        ("The password is Falcon4711.", "The password is [password]."),
        ("Passwort: Zürich2019", "Passwort: [password]"),
        ("**Password:** `hunter22`", "**Password:** `[password]`"),
        ("api_key=da39a3ee5e6b4b0d3255bfef95601890afd80709", "api_key=[secret]"),
        ("client_secret: 8Kd02mfLs93Kfj20sLQm", "client_secret: [secret]"),
        ("Authorization: Bearer 8Kd02mfLs93Kfj20sLQm", "Authorization: Bearer [secret]"),
        ("İ token = 8Kd02mfLs93Kfj20sLQm;", "İ token = [secret];"),
        ("postgres://app:s3cr-et@db/x", "postgres://app:[password in a URL]@db/x"),
        ("redis://:p%40ss12@db:6379", "redis://:[password in a URL]@db:6379"),
    ],
)
def test_what_is_called_a_secret_is_masked_and_nothing_around_it(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "password: required",
        "Your password must have 12 characters.",
        "password: Optional[str2] = None, password=config['pass1']",
        "password:!0,number:!0",
        "decoded_secret = base64.b64decode(secret[6:])",
        "private_key: ed25519.Ed25519PrivateKey",
        "password=os.environ['PASSWORD_1']",
        "password: ${DB_PASSWORD_1}",
        "password: ********",
        "password_hash: 5f4dcc3b5aa765d61d8327deb882cf99",
        "max_tokens: 16384",
        "commit token: da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "key: 123e4567-e89b-12d3-a456-426614174000",
        "public_key: 8Kd02mfLs93Kfj20sLQm",
        "key: com.example.service.AccountManagerFactoryBean2",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "postgres://user:password@localhost/x",
        "mysql://root:root@localhost/x",
        "https://example.com:8080/a@b",
        "",
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize("length", [120, 2350, 9000])
def test_private_keys_of_any_length_are_masked_whole(length):
    key = pem(length)
    assert masked(f"a\n{key}\nb") == "a\n[private key]\nb"
    assert json.loads(masked(json.dumps({"key": key}))) == {"key": "[private key]"}
    assert masked(key[:-40]) == "[private key]"


def test_a_reason_names_kinds_and_quotes_nothing():
    verdict = Secrets(action="block").check(f"{github()} and {github()}, password: Falcon4711", CONTEXT)
    assert (verdict.kind, verdict.text, verdict.score) == ("block", None, 1.0)
    assert verdict.reason == "secrets: 2 x GitHub token, password"
    assert [verdict.findings[0].start, verdict.findings[0].end] == [0, 40]


def test_kinds_that_are_ignored_pass():
    assert masked(TOKENS["JWT"], ignore=["JWT"]) == TOKENS["JWT"]


def test_findings_that_overlap_are_one():
    token = github()
    assert masked(f"password: {token}") == "password: [GitHub token]"
    assert masked(f"password: x1!{token}") == "password: [password]"


def test_a_value_that_holds_the_next_name_hides_no_value():
    assert "Falcon" not in masked("password: Falcon4711password: Falcon4711password: Falcon4711")


@pytest.mark.parametrize("before", ["eyJzdWIiOiIxIn0.abcd.", "glpat-example-", "pypi-AgEexample-example-example-"])
def test_what_is_no_token_hides_none_that_follows(before):
    token = TOKENS["Stripe key"]
    assert token not in masked(f"{before}{'a' * 20}-{token}")


def test_entropy_is_in_bits_of_a_character():
    assert entropy("abcd" * 4) == 2


PARTS = ["password: Falcon4711", "token=", "8Kd02mfLs93Kfj20sLQm", "key: ", " ", "\n", ".", "eyJ", "://a:", "b1!@c"]
OTHERS = ["x" * SPAN, "Hello there. ", "-----BEGIN PRIVATE KEY-----", "é", "\ud800"]
PIECES = st.sampled_from([*TOKENS.values(), *PARTS, *OTHERS])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.integers(5, 3000))
def test_a_stream_is_masked_as_the_whole_text_is(text, size):
    stream = Stream(Secrets(), CONTEXT)
    out = "".join([stream.feed(text[at : at + size]) for at in range(0, len(text), size)]) + stream.end()
    assert out == masked(text)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join), st.integers(5, 3000))
def test_of_a_blocked_stream_no_secret_has_left(text, size):
    guard = Secrets(action="block")
    stream = Stream(guard, CONTEXT)
    out = ""
    try:
        for at in range(0, len(text), size):
            out += stream.feed(text[at : at + size])
        out += stream.end()
    except Blocked:
        first = guard.check(text, CONTEXT).findings[0]
        assert len(out) <= first.start
    else:
        assert guard.check(text, CONTEXT).kind == "pass"


HOSTILE = [
    "sk-",
    "key=",
    "password: ",
    "://a:b@",
    "-----BEGIN PRIVATE KEY-----",
    "eyJ",
    "eyJaaaaaaaa-",
    "eyJa.",
    "ghp_a",
]
MORE = [
    "pwd:",
    "fm2_-",
    "pypi-AgE-",
    "sk-proj-",
    "eyJaaaaaaaa-.",
    "xoxb-1",
    "a",
    "1",
    "A",
    "token is ",
    'key="',
    "9999999999:AA",
    "bearer ",
    "secret_key: a1B2",
    "\\n",
    "İ",
    "SG.a.",
]


@pytest.mark.parametrize("unit", [*HOSTILE, *MORE])
def test_hostile_texts_take_linear_time(unit):
    text = (unit * (500_000 // len(unit) + 1))[:500_000]
    start = time.process_time()
    Secrets().check(text, CONTEXT)
    assert time.process_time() - start < 1.5


@given(st.text(st.characters(codec=None)))
def test_any_text_is_checked_without_an_error(text):
    assert Secrets().check(text, CONTEXT).kind in ("pass", "rewrite")
