import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import database
from holdfast.errors import PrivacyError
from holdfast.privacy.sealing import keyring as keyring_module
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.sealer import Destroyed, Sealer
from keyrings import ADA, BOB, MASTER, OTHER, keyring

HERE = b"here"


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Keyring]:
    ring = keyring(tmp_path)
    yield ring
    ring.close()


def wrapped(directory: Path) -> dict[str, bytes]:
    """Return the wrapped keys as they are in the file."""
    db = sqlite3.connect(directory / "keyring.db")
    rows = db.execute("SELECT owner, wrapped FROM keys").fetchall()
    db.close()
    return dict(rows)


def holding(directory: Path, needle: bytes) -> set[str]:
    """Return the files of the keyring that hold these bytes."""
    return {file.name for file in directory.glob("keyring.db*") if needle in file.read_bytes()}


def tamper(directory: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(directory / "keyring.db")
    with db:
        db.execute(statement, values)
    db.close()


# --- making and opening -----------------------------------------------------------------------------------------------


def test_each_owner_has_one_key_of_its_own_number(ring: Keyring) -> None:
    keys = ring.key([ADA, BOB, ADA])
    assert set(keys) == {ADA, BOB}
    assert keys[ADA].number != keys[BOB].number
    assert ring.key([ADA])[ADA] is keys[ADA] is ring.at_hand(ADA)


def test_a_key_is_the_same_after_opening_the_file_again(tmp_path: Path, ring: Keyring) -> None:
    sealed = Sealer(ring).seal(ADA, b"words", HERE)
    number = ring.key([ADA])[ADA].number
    again = keyring(tmp_path)
    assert again.key([ADA])[ADA].number == number
    assert Sealer(again).open(ADA, sealed, HERE) == b"words"
    again.close()


def test_a_key_is_on_disk_before_it_can_be_used(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA])
    with ring._file.reading() as db:
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
    assert set(wrapped(tmp_path)) == {ADA}


def test_all_who_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    rings = [keyring(tmp_path) for _ in range(4)]
    owners = [f"{number:032x}" for number in range(30)]
    barrier = threading.Barrier(8)

    def make(n: int) -> dict[str, int]:
        barrier.wait()
        mine = [*random.Random(n).sample(owners, 20), ADA]
        return {owner: key.number for owner, key in rings[n % 4].key(mine).items()}

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert len({numbers[ADA] for numbers in made}) == 1
    assert len({pair for numbers in made for pair in numbers.items()}) == len(set().union(*made))
    sealed = [Sealer(ring).seal(ADA, b"words", HERE) for ring in rings]
    for ring in rings:
        assert {Sealer(ring).open(ADA, one, HERE) for one in sealed} == {b"words"}
        ring.close()


def test_processes_that_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from keyrings import *\n"
        "from holdfast.privacy.sealing.sealer import Sealer\n"
        "sys.stdin.read(1)\n"
        "print(Sealer(keyring(Path(sys.argv[1]))).seal(ADA, b'words', b'here').hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        for _ in range(3)
    ]
    sealed = [bytes.fromhex(process.communicate(b"\n")[0].decode()) for process in processes]
    ring = keyring(tmp_path)
    assert [Sealer(ring).open(ADA, one, HERE) for one in sealed] == [b"words"] * 3
    assert len(wrapped(tmp_path)) == 1
    ring.close()


def test_the_file_is_for_its_owner_alone(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA])
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_no_data_key_is_in_the_file_or_in_what_is_shown(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = random.Random(5).randbytes(32)
    monkeypatch.setattr(keyring_module.os, "urandom", lambda size: secret[:size])
    key = ring.key([ADA])[ADA]
    assert holding(tmp_path, secret) == set()
    for shown in (repr(ring), repr(key), repr(ring._current), repr(Sealer(ring))):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_more_owners_than_memory_holds_keep_their_keys(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "MOST_AT_HAND", 10)
    owners = [f"{number:032x}" for number in range(25)]
    sealer = Sealer(ring)
    sealed = {owner: sealer.seal(owner, owner.encode(), HERE) for owner in owners}
    assert all(sealer.open(owner, data, HERE) == owner.encode() for owner, data in sealed.items())
    assert len(ring._current) <= 10
    assert len(ring._opened) <= 10
    assert set(ring.key(owners)) == set(owners)  # more at once than are kept


@pytest.mark.parametrize("owner", ["", "tenant:", "tenant:a'b\"c", "tenant:\0", "tenant:" + "ü" * 5000])
def test_any_text_may_be_an_owner(ring: Keyring, owner: str) -> None:
    sealer = Sealer(ring)
    assert sealer.open(owner, sealer.seal(owner, b"words", HERE), HERE) == b"words"


def test_an_owner_that_is_no_text_is_a_privacy_error(ring: Keyring) -> None:
    with pytest.raises(PrivacyError, match="not valid Unicode"):
        ring.key(["tenant:\ud800"])
    with pytest.raises(PrivacyError, match="not valid Unicode"):
        ring.destroy("tenant:\ud800")
    assert ring.key([ADA])


@given(number=st.integers(0, 2**64 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_number_that_no_key_has_is_an_error(ring: Keyring, number: int) -> None:
    mine = ring.key([ADA])[ADA].number
    if number != mine:
        with pytest.raises(PrivacyError, match="there is no key"):
            ring.open(ADA, number)
    with pytest.raises(PrivacyError, match="there is no key"):
        ring.open(BOB, mine)


# --- destroying -------------------------------------------------------------------------------------------------------


def test_after_destroying_a_key_nothing_sealed_with_it_can_be_opened(tmp_path: Path, ring: Keyring) -> None:
    sealer = Sealer(ring)
    sealed, other = sealer.seal(ADA, b"words", HERE), sealer.seal(BOB, b"others", HERE)
    number = ring.key([ADA])[ADA].number
    assert sealer.open(ADA, sealed, HERE) == b"words"
    assert ring.destroy(ADA) == number
    for opened in (ring, keyring(tmp_path)):
        with pytest.raises(Destroyed):
            Sealer(opened).open(ADA, sealed, HERE)
        assert Sealer(opened).open(BOB, other, HERE) == b"others"
    opened.close()


def test_a_key_that_is_not_there_is_destroyed_already(ring: Keyring) -> None:
    assert ring.destroy(ADA) == 0
    ring.key([ADA])
    assert ring.destroy(ADA) > 0
    assert ring.destroy(ADA) == 0


def test_an_owner_who_comes_back_gets_a_new_key_with_a_new_number(ring: Keyring) -> None:
    sealer = Sealer(ring)
    old = sealer.seal(ADA, b"old", HERE)
    numbers = [ring.key([ADA])[ADA].number]
    for _ in range(3):
        ring.destroy(ADA)
        numbers.append(ring.key([ADA])[ADA].number)
    assert len(set(numbers)) == 4
    assert sealer.open(ADA, sealer.seal(ADA, b"new", HERE), HERE) == b"new"
    with pytest.raises(Destroyed):
        sealer.open(ADA, old, HERE)


def test_nothing_of_a_destroyed_key_is_left_in_any_file(tmp_path: Path, ring: Keyring) -> None:
    others = [keyring(tmp_path) for _ in range(2)]
    ring.key([ADA, BOB])
    key = wrapped(tmp_path)[ADA]
    assert holding(tmp_path, key) == {"keyring.db-wal"}  # the search does find it
    others[0].key([f"{number:032x}" for number in range(2000)])
    tamper(tmp_path, "PRAGMA wal_checkpoint(PASSIVE)")
    assert holding(tmp_path, key) == {"keyring.db", "keyring.db-wal"}
    for other in others:
        other.key([ADA])
    ring.destroy(ADA)
    for piece in (key, key[:24], key[-24:]):
        assert holding(tmp_path, piece) == set()
    assert (tmp_path / "keyring.db-wal").stat().st_size == 0
    assert holding(tmp_path, wrapped(tmp_path)[BOB]) == {"keyring.db"}
    for other in others:
        other.close()


def test_nothing_of_any_destroyed_key_is_left_whatever_else_happens(tmp_path: Path, ring: Keyring) -> None:
    """Pages are divided and joined as owners come, go and come back."""
    chance = random.Random(3)
    gone: list[bytes] = []
    for round in range(12):
        ring.key([f"{'tenant:' * chance.randrange(20)}{chance.randrange(2000)}" for _ in range(200)])
        if round == 6:
            before = wrapped(tmp_path).values()
            ring.rewrap(OTHER)
            gone += [key for key in before if any(key)]
        keys = {owner: key for owner, key in wrapped(tmp_path).items() if any(key)}
        for owner in chance.sample(sorted(keys), 15):
            ring.destroy(owner)
            gone.append(keys[owner])
    content = b"".join(file.read_bytes() for file in tmp_path.glob("keyring.db*"))
    assert len(gone) > 500
    assert not [key for key in gone if key[:16] in content or key[-16:] in content]
    assert all(key in content for key in wrapped(tmp_path).values())


def test_other_processes_drop_a_destroyed_key_at_their_next_batch(tmp_path: Path, ring: Keyring) -> None:
    other = keyring(tmp_path)
    sealer = Sealer(other)
    sealed = sealer.seal(ADA, b"words", HERE)
    assert sealer.open(ADA, sealed, HERE) == b"words"
    ring.destroy(ADA)
    sealer.prepare([BOB])
    assert other.at_hand(ADA) is None
    assert other._opened == {}
    with pytest.raises(Destroyed):
        sealer.open(ADA, sealed, HERE)
    again = sealer.seal(ADA, b"again", HERE)
    assert Sealer(ring).open(ADA, again, HERE) == b"again"
    other.close()


def test_other_processes_keep_their_keys_when_new_ones_are_made(tmp_path: Path, ring: Keyring) -> None:
    other = keyring(tmp_path)
    key = other.key([ADA])[ADA]
    ring.key([BOB])
    other.refresh()
    assert other.at_hand(ADA) is key
    other.close()


def test_a_reader_that_holds_on_to_a_destroyed_key_is_an_error_and_scrubbing_again_helps(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring.key([ADA])
    key = wrapped(tmp_path)[ADA]
    ring._file._db.execute("PRAGMA busy_timeout = 1")
    reader = sqlite3.connect(tmp_path / "keyring.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM keys").fetchall()
    with pytest.raises(PrivacyError, match="a reader still holds"):
        ring.destroy(ADA)
    assert ring.at_hand(ADA) is None
    reader.close()
    ring.scrub()
    assert holding(tmp_path, key) == set()


# --- damage -----------------------------------------------------------------------------------------------------------


@given(bit=st.integers(0, 60 * 8 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_a_single_bit_that_changed_in_a_wrapped_key_is_found(tmp_path: Path, ring: Keyring, bit: int) -> None:
    ring.key([ADA])
    good = wrapped(tmp_path)[ADA]
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    tamper(tmp_path, "UPDATE keys SET wrapped = ?", bytes(flipped))
    other = keyring(tmp_path)
    try:
        with pytest.raises(PrivacyError, match="key 1 has been altered: restore"):
            other.key([ADA])
        with pytest.raises(PrivacyError, match="key 1 has been altered: restore"):
            other.open(ADA, 1)
    finally:
        other.close()
        tamper(tmp_path, "UPDATE keys SET wrapped = ?", good)


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE keys SET owner = '{BOB}' WHERE owner = '{ADA}'",
        "UPDATE keys SET number = number + 10",
        "UPDATE keys SET wrapped = substr(wrapped, 1, 59)",
        "UPDATE keys SET wrapped = x''",
        "UPDATE keys SET wrapped = zeroblob(32)",
    ],
)
def test_a_wrapped_key_is_bound_to_its_owner_and_number(tmp_path: Path, ring: Keyring, change: str) -> None:
    ring.key([ADA])
    tamper(tmp_path, change)
    other = keyring(tmp_path)
    with pytest.raises(PrivacyError, match="has been altered"):
        other.key([ADA, BOB])
    other.close()


def test_a_file_that_is_damaged_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keyring.db"
    path.write_bytes(b"not a database, whatever it is" * 200)
    with pytest.raises(PrivacyError, match="not a database"):
        keyring(tmp_path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(PrivacyError, match="a database of another program"):
        keyring(tmp_path)


def test_a_closed_keyring_says_so(ring: Keyring) -> None:
    ring.key([ADA])
    ring.close()
    assert ring.at_hand(ADA) is None
    for use in (ring.refresh, ring.scrub, lambda: ring.key([ADA]), lambda: ring.open(ADA, 1)):
        with pytest.raises(PrivacyError, match="keyring is closed"):
            use()


def test_a_keyring_that_another_process_holds_locked_is_a_privacy_error(
    tmp_path: Path, ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring._file._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "keyring.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(PrivacyError, match="another process holds it locked"):
        ring.key([ADA])
    other.execute("ROLLBACK")
    other.close()
    assert ring.key([ADA])


# --- the master key ---------------------------------------------------------------------------------------------------


def test_another_master_key_is_refused_at_the_start(tmp_path: Path, ring: Keyring) -> None:
    for read_only in (False, True):
        with pytest.raises(PrivacyError, match=rf"{MASTER.fingerprint}, and not by this one \({OTHER.fingerprint}\)"):
            keyring(tmp_path, OTHER, read_only=read_only)
    assert keyring(tmp_path).close() is None


def test_without_a_master_key_erasures_are_known_but_no_keys(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA])
    ring.erasures.begin(ADA)
    bare = keyring(tmp_path, None)
    assert bare.erased_at(ADA) is not None
    with pytest.raises(PrivacyError, match="without the master key"):
        bare.key([BOB])
    bare.close()


def test_rewrapping_changes_the_master_key_and_no_data_key(tmp_path: Path, ring: Keyring) -> None:
    owners = [ADA, BOB, *(f"{number:032x}" for number in range(2500))]
    ring.key(owners)
    ring.destroy(BOB)
    sealed = Sealer(ring).seal(ADA, b"words", HERE)
    old = wrapped(tmp_path)
    assert ring.rewrap(OTHER) == 2501
    assert all(holding(tmp_path, key) == set() for key in (old[ADA], old[owners[-1]]))
    assert not any(wrapped(tmp_path)[BOB])
    with pytest.raises(PrivacyError, match="not by this"):
        keyring(tmp_path, MASTER)
    again = keyring(tmp_path, OTHER)
    for opened in (ring, again):
        assert Sealer(opened).open(ADA, sealed, HERE) == b"words"
    assert ring.key(["new"])["new"].number == again.key(["new"])["new"].number
    again.close()


def test_rewrapping_is_all_or_nothing(tmp_path: Path, ring: Keyring) -> None:
    ring.key([ADA, BOB])
    before = wrapped(tmp_path)
    tamper(tmp_path, "UPDATE keys SET wrapped = zeroblob(59) WHERE owner = ?", BOB)
    with pytest.raises(PrivacyError, match=r"key [12] has been altered"):
        ring.rewrap(OTHER)
    tamper(tmp_path, "UPDATE keys SET wrapped = ? WHERE owner = ?", before[BOB], BOB)
    assert wrapped(tmp_path) == before
    again = keyring(tmp_path)
    assert set(again.key([ADA, BOB])) == {ADA, BOB}
    again.close()


def test_a_process_with_the_old_master_key_makes_and_opens_no_keys_after_a_rewrap(
    tmp_path: Path, ring: Keyring
) -> None:
    other = keyring(tmp_path)
    other.key([ADA])
    ring.key([BOB])
    ring.rewrap(OTHER)
    for owner in (BOB, "new"):
        with pytest.raises(PrivacyError, match="give the right one"):
            other.key([owner])
    assert set(wrapped(tmp_path)) == {ADA, BOB}
    assert other.key([ADA])  # what it has in memory still serves
    other.close()


def test_a_keyring_to_read_makes_nothing(tmp_path: Path, ring: Keyring) -> None:
    sealed = Sealer(ring).seal(ADA, b"words", HERE)
    reader = keyring(tmp_path, read_only=True)
    assert Sealer(reader).open(ADA, sealed, HERE) == b"words"
    for change in (lambda: reader.key([BOB]), lambda: reader.destroy(ADA), lambda: reader.erasures.begin(ADA)):
        with pytest.raises(PrivacyError, match="open for reading alone"):
            change()
    reader.close()
    with pytest.raises(PrivacyError, match="there is no keyring here"):
        keyring(tmp_path / "nowhere", read_only=True)


def test_the_kind_of_file_is_known_by_its_mark(tmp_path: Path, ring: Keyring) -> None:
    db = sqlite3.connect(tmp_path / "keyring.db")
    assert db.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"HOLK"
    db.close()
    assert database.BUSY_MS > 0
