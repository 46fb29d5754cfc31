import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import NOW_US, ManualClock
from holdfast.errors import StateError
from holdfast.state.files import STATE, STATE_FILE
from holdfast.state.keys import ID_LENGTH, ROLES, Key, Keys, digest
from holdfast.state.limits import Limit

HOUR_US = 3_600_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / STATE_FILE


@pytest.fixture
def keys(path: Path, clock: ManualClock) -> Iterator[Keys]:
    keys = Keys(path, clock)
    yield keys
    keys.close()


def found(keys: Keys, id: str) -> Key:
    return {key.id: key for key in keys.all()}[id]


def sql(path: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(statement, values)
    db.close()


# --- creating ---------------------------------------------------------------------------------------------------------


def test_a_token_begins_with_the_id_of_its_key_and_is_too_long_to_guess(keys: Keys) -> None:
    token, key = keys.create(tenant="acme", role="app")
    prefix, id, rest = token.split("_")
    assert prefix == "hf"
    assert key.id == f"hf_{id}" == token[:ID_LENGTH]
    assert len(id) == 8
    assert len(rest) >= 40
    assert rest.isalnum()
    assert key.digest == digest(token)
    assert len(key.digest) == 32


def test_no_two_tokens_have_anything_in_common(keys: Keys) -> None:
    tokens = [keys.create(tenant="acme", role="app")[0] for _ in range(20)]
    assert len({token[:ID_LENGTH] for token in tokens}) == len({token[ID_LENGTH:] for token in tokens}) == 20


@pytest.mark.parametrize("role", ROLES)
def test_a_key_is_kept_as_it_was_made(keys: Keys, role: str) -> None:
    _, key = keys.create(tenant="acme", role=role, features=["b", "a", "b"], expires_us=NOW_US + 1)
    assert keys.all() == [key]
    assert (key.tenant, key.role, key.features) == ("acme", role, ("a", "b"))
    assert (key.created_us, key.expires_us, key.revoked_us, key.successor) == (NOW_US, NOW_US + 1, None, None)


def test_the_limits_of_a_key_are_kept_and_are_its_own(keys: Keys) -> None:
    given = [
        Limit.parse("key", "", "requests", "600/min"),
        Limit.parse("key", "hf_another_", "nanousd", "0.5usd"),
        Limit.parse("tenant", "acme", "tokens", "1M/month"),
    ]
    _, key = keys.create(tenant="acme", role="app", limits=given)
    assert [limit.of for limit in key.limits] == [key.id, key.id, "acme"]
    assert [limit.text for limit in key.limits] == [limit.text for limit in given]
    assert keys.all() == [key]


@pytest.mark.parametrize("name", ["", " ", "two words", "-x", "é", "a" * 65, "a\n", "\ud800", "../x", "a;b", 'a"'])
def test_a_tenant_that_can_not_be_one_is_refused(keys: Keys, name: str) -> None:
    with pytest.raises(StateError, match=r"^tenant .*: expected up to 64 letters"):
        keys.create(tenant=name, role="app")
    assert keys.version() == 0


@pytest.mark.parametrize("role", ["", "root", "App", "\ud800"])
def test_a_role_that_is_none_is_refused_with_those_that_are(keys: Keys, role: str) -> None:
    with pytest.raises(StateError, match="expected one of app, developer, reviewer, auditor, admin"):
        keys.create(tenant="acme", role=role)


@pytest.mark.parametrize("feature", ["", " a", "a\nb", "\ud800"])
def test_a_feature_that_can_not_be_one_is_refused(keys: Keys, feature: str) -> None:
    with pytest.raises(StateError, match="expected the name of a feature or a model"):
        keys.create(tenant="acme", role="app", features=["a", feature])


@pytest.mark.parametrize("expires_us", [NOW_US, NOW_US - 1, -1, 2**70])
def test_a_key_that_would_have_expired_or_never_would_is_refused(keys: Keys, expires_us: int) -> None:
    with pytest.raises(StateError, match="expires later than now"):
        keys.create(tenant="acme", role="app", expires_us=expires_us)


# --- what tells a token -----------------------------------------------------------------------------------------------


def test_a_token_is_in_no_file_and_in_no_repr(keys: Keys, path: Path) -> None:
    tokens = [keys.create(tenant="acme", role="app")[0]]
    tokens.append(keys.rotate(tokens[0], overlap_s=0)[0])
    keys.revoke(tokens[1])
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    told = repr(keys.all()) + repr(keys) + repr(vars(keys))
    for token in tokens:
        assert token[:ID_LENGTH].encode() in written
        assert token[ID_LENGTH + 1 :].encode() not in written
        assert token[ID_LENGTH + 1 :] not in told


@pytest.mark.parametrize("digits", [bytes.hex, repr])
def test_the_repr_of_a_key_leaves_its_hash_out(keys: Keys, digits: object) -> None:
    _, key = keys.create(tenant="acme", role="app")
    assert digits(key.digest) not in repr(key)  # type: ignore[operator]
    assert key.id in repr(key)


def test_an_error_shows_no_more_of_a_token_than_the_id(keys: Keys) -> None:
    token, _ = keys.create(tenant="acme", role="app")
    other = "hf_" + "z" * 8 + token[ID_LENGTH:]
    for ask in (
        lambda: keys.revoke(other),
        lambda: keys.rotate(other, overlap_s=1),
        lambda: keys.create(tenant=token + " ", role="app"),
        lambda: keys.create(tenant="acme", role=token),
        lambda: keys.create(tenant="acme", role="app", features=[token + " "]),
    ):
        with pytest.raises(StateError) as refused:
            ask()
        assert token[ID_LENGTH + 1 : ID_LENGTH + 6] not in str(refused.value)


def test_files_of_the_state_are_their_owners_alone(keys: Keys, path: Path) -> None:
    keys.create(tenant="acme", role="app")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


# --- how long a key is valid ------------------------------------------------------------------------------------------


def test_a_key_expires_at_its_time_and_not_before(keys: Keys) -> None:
    _, key = keys.create(tenant="acme", role="app", expires_us=NOW_US + 5)
    assert [key.standing(NOW_US + after) for after in (0, 4, 5, 6)] == ["valid", "valid", "expired", "expired"]


def test_a_key_without_an_end_is_valid_for_ever(keys: Keys) -> None:
    _, key = keys.create(tenant="acme", role="app")
    assert key.standing(2**62) == "valid"


def test_a_revoked_key_is_revoked_at_once_and_stays_so(keys: Keys, clock: ManualClock) -> None:
    _, key = keys.create(tenant="acme", role="app", expires_us=NOW_US + 10)
    clock.us += 5
    revoked = keys.revoke(key.id)
    assert revoked.revoked_us == NOW_US + 5
    clock.us += HOUR_US
    assert keys.revoke(key.id) == revoked == found(keys, key.id)
    assert revoked.standing(NOW_US) == "revoked"


def test_a_key_may_be_named_by_its_token(keys: Keys) -> None:
    token, key = keys.create(tenant="acme", role="app")
    assert keys.revoke(token).id == key.id


def test_an_unknown_key_is_named_with_those_that_are_near(keys: Keys) -> None:
    _, key = keys.create(tenant="acme", role="app")
    with pytest.raises(StateError, match=rf"there is no key '{key.id[:-1]}-': did you mean {key.id}\?"):
        keys.revoke(key.id[:-1] + "-")
    with pytest.raises(StateError, match="see holdfast keys list"):
        keys.rotate("\ud800", overlap_s=0)
    with pytest.raises(StateError, match=f"there is no key '{key.id}...'"):
        keys.revoke(key.id + "x")
    assert found(keys, key.id).revoked_us is None


# --- rotating ---------------------------------------------------------------------------------------------------------


def test_a_rotated_key_is_valid_until_the_overlap_is_over(keys: Keys, clock: ManualClock) -> None:
    _, old = keys.create(tenant="acme", role="reviewer", features=["a"])
    clock.us += 7
    _, new = keys.rotate(old.id, overlap_s=3600)
    old = found(keys, old.id)
    assert old.successor == new.id
    assert old.expires_us == NOW_US + 7 + HOUR_US
    assert (new.tenant, new.role, new.features, new.expires_us) == ("acme", "reviewer", ("a",), None)
    assert (new.created_us, new.successor) == (NOW_US + 7, None)
    assert new.digest != old.digest
    assert keys.all() == [old, new]


def test_without_an_overlap_the_old_key_ends_at_once(keys: Keys) -> None:
    _, old = keys.create(tenant="acme", role="app")
    keys.rotate(old.id, overlap_s=0)
    assert found(keys, old.id).standing(NOW_US) == "expired"


def test_an_overlap_does_not_prolong_a_key_that_would_expire(keys: Keys) -> None:
    _, old = keys.create(tenant="acme", role="app", expires_us=NOW_US + 10)
    keys.rotate(old.id, overlap_s=3600)
    assert found(keys, old.id).expires_us == NOW_US + 10


def test_a_new_key_lives_as_long_as_the_one_whose_place_it_takes(keys: Keys, clock: ManualClock) -> None:
    _, old = keys.create(tenant="acme", role="app", expires_us=NOW_US + HOUR_US)
    clock.us += HOUR_US - 1
    _, new = keys.rotate(old.id, overlap_s=3600)
    assert new.expires_us == clock.us + HOUR_US
    assert found(keys, old.id).expires_us == NOW_US + HOUR_US


def test_a_rotation_gives_no_new_budget(keys: Keys) -> None:
    _, old = keys.create(tenant="acme", role="app", limits=[Limit.parse("key", "", "nanousd", "50usd/day")])
    _, new = keys.rotate(old.id, overlap_s=60)
    _, third = keys.rotate(new.id, overlap_s=60)
    assert new.limits == third.limits == old.limits
    assert new.limits[0].of == old.id


def test_a_key_is_rotated_once(keys: Keys) -> None:
    _, old = keys.create(tenant="acme", role="app")
    _, new = keys.rotate(old.id, overlap_s=60)
    with pytest.raises(StateError, match=f"rotated already: {new.id} takes its place"):
        keys.rotate(old.id, overlap_s=60)
    assert len(keys.all()) == 2


def test_what_is_revoked_or_expired_is_not_rotated(keys: Keys, clock: ManualClock) -> None:
    _, revoked = keys.create(tenant="acme", role="app")
    keys.revoke(revoked.id)
    _, expired = keys.create(tenant="acme", role="app", expires_us=NOW_US + 1)
    clock.us += 1
    for key, why in ((revoked, "revoked"), (expired, "expired")):
        with pytest.raises(StateError, match=f"{key.id} is {why}: create a new one"):
            keys.rotate(key.id, overlap_s=60)


@pytest.mark.parametrize("overlap", [-1, float("nan"), float("inf"), 1e300])
def test_an_overlap_that_is_none_is_refused(keys: Keys, overlap: float) -> None:
    _, key = keys.create(tenant="acme", role="app")
    with pytest.raises(StateError, match="overlap of"):
        keys.rotate(key.id, overlap_s=overlap)
    assert keys.all() == [key]


# --- the version ------------------------------------------------------------------------------------------------------


def test_the_version_is_0_until_there_is_a_key_and_grows_with_every_change(keys: Keys, path: Path) -> None:
    reader = Keys(path, ManualClock(), read_only=True)
    versions = [reader.version()]
    for change in (
        lambda: keys.create(tenant="acme", role="app"),
        lambda: keys.rotate(keys.all()[0].id, overlap_s=1),
        lambda: keys.revoke(keys.all()[1].id),
    ):
        change()
        versions.append(reader.version())
    assert versions == [0, 1, 2, 3]
    assert reader.all() == keys.all()
    assert reader.version() == 3
    reader.close()


def test_what_is_refused_changes_nothing(keys: Keys) -> None:
    keys.create(tenant="acme", role="app")
    with pytest.raises(StateError):
        keys.revoke("hf_nobody")
    assert keys.version() == 1


# --- the file ---------------------------------------------------------------------------------------------------------


def test_keys_survive_a_restart(keys: Keys, path: Path, clock: ManualClock) -> None:
    keys.create(tenant="acme", role="app", limits=[Limit.parse("key", "", "tokens", "1k/h")])
    keys.rotate(keys.all()[0].id, overlap_s=60)
    keys.revoke(keys.all()[1].id)
    before = keys.all()
    keys.close()
    again = Keys(path, clock)
    assert again.all() == before
    assert again.version() == 3
    again.close()


def test_a_state_of_a_newer_version_is_refused(keys: Keys, path: Path, clock: ManualClock) -> None:
    keys.close()
    sql(path, f"PRAGMA user_version = {STATE.newest + 1}")
    for read_only in (False, True):
        with pytest.raises(StateError, match=f"the state has format {STATE.newest + 1}, .* upgrade Holdfast"):
            Keys(path, clock, read_only=read_only)


def test_what_is_no_state_is_refused(path: Path, clock: ManualClock) -> None:
    with pytest.raises(StateError, match="there is no state here"):
        Keys(path, clock, read_only=True)
    path.parent.mkdir()
    path.write_bytes(b"not a database, and long enough to be one" * 100)
    with pytest.raises(StateError, match="not a database"):
        Keys(path, clock)


def test_a_reader_changes_nothing(keys: Keys, path: Path, clock: ManualClock) -> None:
    reader = Keys(path, clock, read_only=True)
    with pytest.raises(StateError):
        reader.create(tenant="acme", role="app")
    reader.close()
    assert keys.all() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [("role", "root"), ("features", "{"), ("features", b"\xff"), ("limits", '[{"cap": 1}]'), ("digest", 7)],
)
def test_a_damaged_key_is_an_error_that_names_it(keys: Keys, path: Path, column: str, value: object) -> None:
    _, key = keys.create(tenant="acme", role="app")
    sql(path, f"UPDATE keys SET {column} = ?", value)
    with pytest.raises(StateError, match=f"key '{key.id}': what is kept of it is damaged"):
        keys.all()


def test_closed_keys_are_an_error_and_may_be_closed_again(keys: Keys) -> None:
    keys.close()
    keys.close()
    with pytest.raises(StateError):
        keys.all()


# --- several at once --------------------------------------------------------------------------------------------------


def test_threads_take_turns(keys: Keys) -> None:
    def work(_: int) -> None:
        _, key = keys.create(tenant="acme", role="app")
        keys.rotate(key.id, overlap_s=60)
        keys.revoke(key.id)
        keys.all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))
    assert keys.version() == 36
    assert sum(key.revoked_us is not None for key in keys.all()) == 12


_WORK = """
import json, sys
from pathlib import Path
from holdfast.clock import SystemClock
from holdfast.errors import StateError
from holdfast.state.keys import Keys

keys = Keys(Path(sys.argv[1]), SystemClock())
done = {"created": [], "rotated": [], "revoked": [], "refused": 0}
print("ready", flush=True)
sys.stdin.readline()
for shared in sys.argv[2:]:
    own = keys.create(tenant="acme", role="app")[1].id
    other = keys.create(tenant="acme", role="app")[1].id
    done["created"] += [own, other]
    for id in (own, shared):
        try:
            done["rotated"].append([id, keys.rotate(id, overlap_s=60)[1].id])
        except StateError as error:
            assert "rotated already" in str(error)
            done["refused"] += 1
    done["revoked"].append(keys.revoke(other).id)
print(json.dumps(done))
"""


def test_two_processes_that_change_keys_at_once_lose_nothing(path: Path, keys: Keys) -> None:
    shared = [keys.create(tenant="acme", role="app")[1].id for _ in range(10)]
    command = [sys.executable, "-c", _WORK, str(path), *shared]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda worker: worker.communicate("\n", timeout=60), workers))
    done = [json.loads(output) for output, _ in ended]
    state = {key.id: key for key in keys.all()}
    assert len(state) == 10 + 2 * 20 + 2 * 10 + 10
    assert sum(each["refused"] for each in done) == 10  # each of the shared ones was rotated by one of the two
    assert {old: new for each in done for old, new in each["rotated"]} == {
        key.id: key.successor for key in state.values() if key.successor
    }
    assert {id for each in done for id in each["revoked"]} == {id for id, key in state.items() if key.revoked_us}
    assert {id for each in done for id in each["created"]} <= set(state)
    assert keys.version() == 10 + 2 * 20 + 2 * 10 + 10 + 2 * 10


# --- a law ------------------------------------------------------------------------------------------------------------

_changes = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.one_of(st.none(), st.integers(1, 50))),
        st.tuples(st.just("rotate"), st.integers(0, 30)),
        st.tuples(st.just("revoke"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=20,
)


@given(_changes)
def test_whatever_happens_a_key_is_never_valid_for_longer_than_it_was_given(tmp_path_factory, changes) -> None:
    clock = ManualClock()
    keys = Keys(tmp_path_factory.mktemp("keys") / STATE_FILE, clock)
    try:
        ends: dict[str, int | None] = {}
        for what, number in changes:
            known = list(ends)
            try:
                if what == "create":
                    key = keys.create(tenant="t", role="app", expires_us=number and clock.us + number)[1]
                    ends[key.id] = key.expires_us
                elif what == "rotate" and known:
                    key = keys.rotate(known[number % len(known)], overlap_s=number / 1_000_000)[1]
                    ends[key.id] = key.expires_us
                elif what == "revoke" and known:
                    keys.revoke(known[number % len(known)])
                elif what == "wait":
                    clock.us += number
            except StateError:
                pass
        for key in keys.all():
            end = ends[key.id]
            assert end is None or (key.expires_us is not None and key.expires_us <= end)
            assert not (key.revoked_us is not None and key.standing(clock.us) == "valid")
            if key.successor is not None:
                assert key.expires_us is not None
    finally:
        keys.close()
