import contextlib
import hashlib
import random
import secrets
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from clocks import NOW_US, ManualClock
from holdfast.errors import Unauthenticated
from holdfast.gateway.access import LOCAL, Access, Caller
from holdfast.state.accounts import Account
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import ID_LENGTH, Key, Keys, digest
from holdfast.state.limits import Limit

SESSION = secrets.token_urlsafe(32).encode()
ANN = Account(name="ann", role="reviewer", tenant="acme", created_us=NOW_US, session_ends_us=NOW_US + 100)


def issue(id: str = "hf_abcdefgh", **fields: object) -> tuple[bytes, Key]:
    token = f"{id}_{secrets.token_hex(20)}"
    given = {"tenant": "acme", "role": "app", "created_us": NOW_US, **fields}
    return token.encode(), Key(id=id, digest=digest(token), **given)  # type: ignore[arg-type]


TOKEN, KEY = issue()
OTHER_TOKEN, OTHER = issue("hf_22222222", tenant="zeta", role="admin")
ACCESS = Access([KEY, OTHER], {hashlib.sha256(SESSION).digest(): ANN}, ManualClock())


def refused(
    access: Access,
    authorization: bytes | None = None,
    x_api_key: bytes | None = None,
    cookie: bytes | None = None,
) -> str:
    with pytest.raises(Unauthenticated) as error:
        access.caller(authorization, x_api_key, cookie)
    return f"{type(error.value).__name__} {error.value.status} {error.value.message} {error.value.retry_after}"


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_a_key_is_taken_from_either_header() -> None:
    caller = Caller(key="hf_abcdefgh", tenant="acme", role="app")
    assert ACCESS.caller(b"Bearer " + TOKEN, None, None) == caller
    assert ACCESS.caller(None, TOKEN, None) == caller
    assert ACCESS.caller(b"Bearer " + OTHER_TOKEN, None, None) == Caller("hf_22222222", "zeta", "admin")


@pytest.mark.parametrize("scheme", [b"bearer ", b"BEARER ", b"Bearer  ", b"Bearer   "])
def test_the_scheme_may_be_written_in_any_case_and_with_more_spaces(scheme: bytes) -> None:
    assert ACCESS.caller(scheme + TOKEN, None, None).key == KEY.id


def test_a_caller_has_the_rights_of_its_key() -> None:
    limits = (Limit.parse("key", "hf_abcdefgh", "requests", "5/min"),)
    token, key = issue(features=("answer", "gpt"), limits=limits, role="developer")
    caller = Access([key], {}, ManualClock()).caller(None, token, None)
    assert caller == Caller("hf_abcdefgh", "acme", "developer", frozenset({"answer", "gpt"}), limits)


@pytest.mark.parametrize(
    "cookie",
    [b"holdfast_session=%b", b"a=b; holdfast_session=%b", b"x;holdfast_session=%b ;a=b", b"=;; holdfast_session=%b;"],
)
def test_a_session_is_found_among_cookies(cookie: bytes) -> None:
    assert ACCESS.caller(None, None, cookie % SESSION) == Caller(tenant="acme", role="reviewer", account="ann")


def test_a_key_counts_before_a_session_and_the_authorization_before_the_other_header() -> None:
    cookie = b"holdfast_session=" + SESSION
    assert ACCESS.caller(b"Bearer " + TOKEN, OTHER_TOKEN, cookie).key == KEY.id
    assert ACCESS.caller(None, OTHER_TOKEN, cookie).key == OTHER.id
    refused(ACCESS, b"Bearer wrong", OTHER_TOKEN, cookie)
    refused(ACCESS, None, b"wrong", cookie)


def test_other_schemes_are_not_ours() -> None:
    assert ACCESS.caller(b"Basic YTpi", None, b"holdfast_session=" + SESSION).account == "ann"
    assert ACCESS.caller(b"Bearer ", TOKEN, None).key == KEY.id
    refused(ACCESS, b"Basic " + TOKEN)


# --- who is not -------------------------------------------------------------------------------------------------------

WRONG = {
    "nothing": (None, None, None),
    "empty headers": (b"", b"", b""),
    "a scheme alone": (b"Bearer", None, None),
    "no scheme": (TOKEN, None, None),
    "an id alone": (b"Bearer " + TOKEN[:ID_LENGTH], None, None),
    "a secret alone": (None, TOKEN[ID_LENGTH + 1 :], None),
    "the secret of another key": (None, KEY.id.encode() + OTHER_TOKEN[ID_LENGTH:], None),
    "a hash": (None, KEY.digest, None),
    "a hash after an id": (None, KEY.id.encode() + b"_" + KEY.digest.hex().encode(), None),
    "bytes that are no text": (b"Bearer \xff\xfe", b"\xff\x00", b"\xff"),
    "a long one": (b"Bearer " + TOKEN * 1000, None, None),
    "two tokens": (b"Bearer " + TOKEN + b" " + OTHER_TOKEN, None, None),
    "a list of tokens": (b"Bearer " + TOKEN + b", Bearer " + TOKEN, None, None),
    "a tab": (b"Bearer\t" + TOKEN, None, None),
    "a key as a session": (None, None, b"holdfast_session=" + TOKEN),
    "a session as a key": (None, SESSION, None),
    "an empty cookie": (None, None, b"holdfast_session="),
    "another cookie": (None, None, b"xholdfast_session=" + SESSION),
    "a cookie in other letters": (None, None, b"Holdfast_Session=" + SESSION),
    "a quoted cookie": (None, None, b'holdfast_session="' + SESSION + b'"'),
    "a session and another": (None, None, b"holdfast_session=" + SESSION + b"; holdfast_session=x"),
    "two sessions": (None, None, b"holdfast_session=x; holdfast_session=" + SESSION),
    "the hash of a session": (None, None, b"holdfast_session=" + hashlib.sha256(SESSION).digest()),
}


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG.keys())
def test_whatever_is_wrong_the_answer_is_the_same(headers: tuple[bytes | None, bytes | None, bytes | None]) -> None:
    message = "The call brings no valid key: send one as Authorization: Bearer, or as x-api-key."
    assert refused(ACCESS, *headers) == f"Unauthenticated 401 {message} None"


def test_an_expired_key_and_a_revoked_one_get_the_answer_of_an_unknown_one() -> None:
    clock = ManualClock()
    expiring, expires = issue("hf_33333333", expires_us=NOW_US + 10)
    gone, revoked = issue("hf_44444444", revoked_us=NOW_US)
    access = Access([expires, revoked], {}, clock)
    clock.us += 9
    assert access.caller(None, expiring, None).key == expires.id
    unknown = refused(access, None, TOKEN)
    assert refused(access, None, gone) == unknown
    clock.us += 1
    assert refused(access, None, expiring) == unknown


def test_a_session_ends_at_its_time() -> None:
    clock = ManualClock()
    access = Access([], {hashlib.sha256(SESSION).digest(): ANN}, clock)
    cookie = b"holdfast_session=" + SESSION
    clock.us += 99
    assert access.caller(None, None, cookie).account == "ann"
    clock.us += 1
    refused(access, None, None, cookie)


def test_no_character_of_a_token_can_be_another() -> None:
    for place in range(len(TOKEN)):
        for other in range(256):
            if other != TOKEN[place]:
                altered = TOKEN[:place] + bytes([other]) + TOKEN[place + 1 :]
                with pytest.raises(Unauthenticated):
                    ACCESS.caller(b"Bearer " + altered, None, None)


def test_no_character_can_be_added_at_either_end_of_a_token() -> None:
    for other in range(256):
        for altered in (TOKEN + bytes([other]), bytes([other]) + TOKEN):
            refused(ACCESS, None, altered)


@given(st.data())
def test_no_altered_token_is_accepted(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TOKEN)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from([TOKEN, OTHER_TOKEN, OTHER.id.encode()])))
    altered = TOKEN[:place] + put + TOKEN[place + cut :]
    if altered not in (TOKEN, OTHER_TOKEN):
        refused(ACCESS, None, altered)


@given(st.lists(st.one_of(st.none(), st.binary(max_size=80)), min_size=3, max_size=3))
def test_no_headers_are_anything_but_refused(headers: list[bytes | None]) -> None:
    refused(ACCESS, *headers)


# --- while there are no keys ------------------------------------------------------------------------------------------


def test_without_a_key_or_an_account_everyone_is_local() -> None:
    access = Access([], {}, ManualClock(), open=True)
    assert access.open
    assert access.caller(None, None, None) is LOCAL
    assert access.caller(b"Bearer wrong", b"wrong", b"wrong") is LOCAL
    assert Caller(key=None, tenant=None, role="admin", features=None, limits=(), account=None) == LOCAL


def test_access_is_closed_unless_it_is_said_to_be_open() -> None:
    access = Access([], {}, ManualClock())
    assert not access.open
    refused(access)


@pytest.mark.parametrize("end", [{"revoked_us": NOW_US}, {"expires_us": NOW_US}, {}])
def test_where_there_ever_was_a_key_access_is_never_open(end: dict[str, int]) -> None:
    access = Access([structs.replace(KEY, **end)], {}, ManualClock(), open=True)
    assert not access.open
    refused(access)


def test_the_version_of_the_state_says_whether_there_ever_was_one(tmp_path: Path) -> None:
    clock = ManualClock()
    keys = Keys(tmp_path / STATE_FILE, clock)
    assert Access(keys.all(), {}, clock, open=keys.version() == 0).open
    token, key = keys.create(tenant="acme", role="admin")
    access = Access(keys.all(), {}, clock, open=keys.version() == 0)
    assert access.caller(b"Bearer " + token.encode(), None, None) == Caller(key.id, "acme", "admin")
    keys.revoke(key.id)
    access = Access(keys.all(), {}, clock, open=keys.version() == 0)
    assert not access.open
    refused(access, b"Bearer " + token.encode())
    keys.close()


# --- what is told -----------------------------------------------------------------------------------------------------


def test_no_repr_tells_a_token() -> None:
    told = repr(ACCESS) + repr(vars(ACCESS)) + repr(ACCESS.caller(None, TOKEN, None))
    assert TOKEN[ID_LENGTH + 1 :].decode() not in told
    assert SESSION.decode() not in told


def test_the_error_keeps_no_token() -> None:
    wrong = TOKEN[:-1] + b"-"
    with pytest.raises(Unauthenticated) as error:
        ACCESS.caller(None, wrong, None)
    assert wrong[ID_LENGTH + 1 :].decode() not in repr(error.value) + repr(vars(error.value))


def _fastest(tokens: dict[str, bytes], rounds: int) -> dict[str, float]:
    """Return the least time that refusing each took, measured in turns: what else the machine does falls out."""
    least = dict.fromkeys(tokens, float("inf"))
    order = random.Random(7)
    names = list(tokens)
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            began = time.perf_counter_ns()
            for _ in range(20):
                with contextlib.suppress(Unauthenticated):
                    ACCESS.caller(None, tokens[name], None)
            least[name] = min(least[name], time.perf_counter_ns() - began)
    return least


def test_the_time_that_a_wrong_key_takes_does_not_tell_how_much_of_it_is_right() -> None:
    head, secret = TOKEN[: ID_LENGTH + 1], TOKEN[ID_LENGTH + 1 :]
    wrong = {
        "nothing of the secret": head + bytes(byte ^ 1 for byte in secret),
        "half of it": head + secret[:20] + bytes(byte ^ 1 for byte in secret[20:]),
        "all but the last": head + secret[:-1] + b"-",
        "nor the id": b"hf_99999999_" + secret,
    }
    for rounds in (300, 1000, 3000):  # more where the machine is busy
        least = _fastest(wrong, rounds)
        if max(least.values()) < 1.1 * min(least.values()):
            return
    pytest.fail(f"the times differ: {least}")
