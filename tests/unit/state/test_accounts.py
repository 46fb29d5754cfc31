import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from clocks import NOW_US, ManualClock
from holdfast.errors import StateError, TooManyTries
from holdfast.state.accounts import MOST_SESSIONS, Account, Accounts
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import ROLES, Keys, digest

PASSWORD = "correct horse battery"
OTHER = "staple of the battery"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / STATE_FILE


@pytest.fixture
def accounts(path: Path, clock: ManualClock) -> Iterator[Accounts]:
    accounts = Accounts(path, clock)
    yield accounts
    accounts.close()


@pytest.fixture
def ann(accounts: Accounts) -> Account:
    return accounts.create("ann", "admin", None, PASSWORD)


# --- accounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_an_account_is_kept_as_it_was_made(accounts: Accounts, role: str) -> None:
    account = accounts.create("ann@example.org", role, "acme", PASSWORD)
    assert accounts.all() == [account]
    assert account == Account(name="ann@example.org", role=account.role, tenant="acme", created_us=NOW_US)
    assert account.role == role


@pytest.mark.parametrize("role", ["app", "developer", "reviewer"])
def test_a_role_that_sees_one_tenant_must_have_one(accounts: Accounts, role: str) -> None:
    with pytest.raises(StateError, match=f"the role {role} sees the calls of one tenant: name it"):
        accounts.create("ann", role, None, PASSWORD)
    assert accounts.all() == []


@pytest.mark.parametrize(
    ("name", "role", "tenant", "message"),
    [
        ("", "admin", None, "^account '': expected up to 64"),
        ("an n", "admin", None, "^account 'an n': expected"),
        ("\ud800", "admin", None, "^account .*: expected"),
        ("ann", "god", None, "^role 'god': expected one of app,"),
        ("ann", "admin", "", "^tenant '': expected"),
    ],
)
def test_an_account_that_can_not_be_one_is_refused(
    accounts: Accounts, name: str, role: str, tenant: str | None, message: str
) -> None:
    with pytest.raises(StateError, match=message):
        accounts.create(name, role, tenant, PASSWORD)
    assert accounts.version() == 0


def test_two_accounts_have_two_names(accounts: Accounts, ann: Account) -> None:
    with pytest.raises(StateError, match="account ann: there is one of this name already"):
        accounts.create("ann", "app", "acme", OTHER)
    assert accounts.all() == [ann]
    assert accounts.verify("ann", PASSWORD) == ann


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused_and_not_told(
    accounts: Accounts, ann: Account, password: str
) -> None:
    for change in (
        lambda: accounts.create("bob", "admin", None, password),
        lambda: accounts.change_password("ann", password),
    ):
        with pytest.raises(StateError, match=f"12 to 256 characters, this one has {len(password)}") as refused:
            change()
        assert not password or password not in str(refused.value)
    assert accounts.all() == [ann]


@pytest.mark.parametrize("password", ["x" * 12, "x" * 256, "\u00e9" * 12, "\ud800" * 12, "\x00" * 12])
def test_every_character_may_be_in_a_password(accounts: Accounts, password: str) -> None:
    ann = accounts.create("ann", "admin", None, password)
    assert accounts.verify("ann", password) == ann
    assert accounts.verify("ann", password[:-1] + "y") is None


def test_a_password_is_the_same_however_a_keyboard_writes_it(accounts: Accounts) -> None:
    ann = accounts.create("ann", "admin", None, "caf\u00e9 caf\u00e9 caf\u00e9")
    assert accounts.verify("ann", "cafe\u0301 cafe\u0301 cafe\u0301") == ann


def test_a_removed_account_is_gone_with_its_sessions(accounts: Accounts, ann: Account) -> None:
    token = accounts.open_session(ann, 60)
    assert accounts.remove("ann") == ann
    assert accounts.all() == []
    assert accounts.verify("ann", PASSWORD) is None
    assert accounts.session(token) is None
    with pytest.raises(StateError, match="no account 'ann'"):
        accounts.open_session(ann, 60)


def test_a_new_password_ends_the_old_one_and_the_sessions(accounts: Accounts, ann: Account) -> None:
    bob = accounts.create("bob", "admin", None, PASSWORD)
    tokens = [accounts.open_session(ann, 60), accounts.open_session(bob, 60)]
    assert accounts.change_password("ann", OTHER) == ann
    assert accounts.verify("ann", PASSWORD) is None
    assert accounts.verify("ann", OTHER) == ann
    assert accounts.session(tokens[0]) is None
    assert accounts.session(tokens[1]) is not None


def test_an_unknown_account_is_named_with_those_that_are_near(accounts: Accounts, ann: Account) -> None:
    with pytest.raises(StateError, match=r"there is no account 'anne': did you mean ann\?"):
        accounts.remove("anne")
    with pytest.raises(StateError, match="there are 1 accounts"):
        accounts.change_password("\ud800", PASSWORD)
    assert accounts.verify("ann", PASSWORD) == ann


def test_accounts_survive_a_restart(accounts: Accounts, ann: Account, path: Path, clock: ManualClock) -> None:
    token = accounts.open_session(ann, 60)
    accounts.close()
    again = Accounts(path, clock)
    assert again.verify("ann", PASSWORD) == ann
    assert again.session(token) is not None
    again.close()


def test_a_damaged_account_is_an_error_that_names_it(accounts: Accounts, ann: Account, path: Path) -> None:
    with accounts._file.changing() as db:
        db.execute("UPDATE accounts SET role = 'god'")
    with pytest.raises(StateError, match="account 'ann': what is kept of it is damaged"):
        accounts.all()


# --- signing in -------------------------------------------------------------------------------------------------------


def test_a_password_is_kept_as_an_argon2id_hash_with_a_salt_of_its_own(accounts: Accounts, path: Path) -> None:
    for name in ("ann", "bob"):
        accounts.create(name, "admin", None, PASSWORD)
    with accounts._file.reading() as db:
        hashes = [row["password"] for row in db.execute("SELECT password FROM accounts")]
    assert [hash[:31] for hash in hashes] == ["$argon2id$v=19$m=19456,t=2,p=1$"] * 2
    assert hashes[0] != hashes[1]
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert hashes[0].encode() in written
    assert PASSWORD.encode() not in written


@pytest.mark.parametrize("name", ["ann ", "Ann", "bob", "", "a" * 10_000, "\ud800", "ann\x00", "' OR 1=1 --"])
def test_the_password_of_nobody_is_no_password(accounts: Accounts, ann: Account, name: str) -> None:
    assert accounts.verify(name, PASSWORD) is None


@pytest.mark.parametrize("password", ["", PASSWORD + " ", PASSWORD[:-1], PASSWORD.title(), "x" * 100_000])
def test_a_wrong_password_is_none(accounts: Accounts, ann: Account, password: str) -> None:
    assert accounts.verify("ann", password) is None


def test_a_long_password_is_not_cut(accounts: Accounts) -> None:
    accounts.create("ann", "admin", None, "x" * 256)
    assert accounts.verify("ann", "x" * 257) is None


def test_an_unknown_name_costs_as_much_as_a_wrong_password(accounts: Accounts, ann: Account, monkeypatch) -> None:
    checked = []
    from holdfast.state import passwords

    verified = passwords._verified
    monkeypatch.setattr(passwords, "_verified", lambda *given: checked.append(given) or verified(*given))
    accounts.verify("ann", OTHER)
    accounts.verify("bob", OTHER)
    known, unknown = [hash.split("$") for _, hash in checked]
    assert known[:4] == unknown[:4]  # the algorithm and its costs
    assert [len(part) for part in known] == [len(part) for part in unknown]


@pytest.mark.parametrize("name", ["ann", "nobody", "n" * 1000])
def test_after_five_failures_nobody_signs_in_for_the_rest_of_the_minute(
    accounts: Accounts, ann: Account, clock: ManualClock, name: str
) -> None:
    for _ in range(5):
        assert accounts.verify(name, OTHER) is None
        clock.us += 10_000_000
    for password in (OTHER, PASSWORD):
        with pytest.raises(TooManyTries, match="Try again in 10 s") as refused:
            accounts.verify(name, password)
        assert refused.value.retry_after == pytest.approx(10)
        assert refused.value.status == 429
    clock.us += 10_000_000
    assert accounts.verify(name, PASSWORD) == (ann if name == "ann" else None)


def test_the_failures_of_one_account_do_not_keep_out_another(accounts: Accounts, ann: Account) -> None:
    for _ in range(5):
        accounts.verify("bob", OTHER)
    assert accounts.verify("ann", PASSWORD) == ann


def test_who_signs_in_may_fail_again(accounts: Accounts, ann: Account) -> None:
    for _ in range(2):
        for _ in range(4):
            assert accounts.verify("ann", OTHER) is None
        assert accounts.verify("ann", PASSWORD) == ann


def test_what_is_remembered_of_failures_does_not_grow_with_the_name(accounts: Accounts) -> None:
    accounts.verify("n" * 1_000_000, OTHER)
    assert [len(name) for name in accounts._passwords._throttle._failures] == [65]


def test_failures_are_forgotten_when_their_minute_is_over(accounts: Accounts, clock: ManualClock) -> None:
    for number in range(3):
        accounts.verify(f"nobody-{number}", OTHER)
    clock.us += 60_000_000
    accounts.verify("another", OTHER)
    assert set(accounts._passwords._throttle._failures) == {"another"}


def test_two_passwords_are_checked_at_once_and_a_third_is_told_to_come_back(
    accounts: Accounts, ann: Account, monkeypatch
) -> None:
    from holdfast.state import passwords

    verified, entered, leave = passwords._verified, threading.Semaphore(0), threading.Event()

    def held(password: str, hash: str) -> bool:
        entered.release()
        leave.wait(30)
        return verified(password, hash)

    monkeypatch.setattr(passwords, "_verified", held)
    answers: list[Account | None] = []
    threads = [threading.Thread(target=lambda: answers.append(accounts.verify("ann", PASSWORD))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(entered.acquire(timeout=30) for _ in threads)
    for name in ["ann"] * 9 + ["bob"] * 9:
        with pytest.raises(TooManyTries, match="Too many are signing in") as refused:
            accounts.verify(name, PASSWORD)
        assert refused.value.retry_after == 1
    leave.set()
    for thread in threads:
        thread.join()
    assert answers == [ann, ann]
    assert accounts.verify("ann", PASSWORD) == ann  # being told to come back was no failure


def test_many_who_guess_at_names_get_no_more_of_the_processor_than_their_share(clock: ManualClock, monkeypatch) -> None:
    from holdfast.state import passwords

    guessing, checked = passwords.Passwords(clock), []
    monkeypatch.setattr(passwords, "_verified", lambda *_: checked.append(clock.us) and False)
    for number in range(6_000):
        with suppress(TooManyTries):
            guessing.check(f"nobody-{number}", OTHER, None)
        clock.us += 10_000
    assert len(checked) == pytest.approx(passwords.BURST + 60 * passwords.PACE, abs=1)
    assert len([at for at in checked if at < NOW_US + 190_000]) == passwords.BURST - 1  # of the first 19 tries
    clock.us += 60_000_000
    assert not guessing.check("ann", PASSWORD, "hash")


def test_tries_at_the_same_time_count_before_they_are_answered(accounts: Accounts, ann: Account, monkeypatch) -> None:
    from holdfast.state import passwords

    monkeypatch.setattr(passwords, "AT_ONCE", 20)
    many = passwords.Passwords(ManualClock())
    together, tried, refused = threading.Barrier(20), [], []
    monkeypatch.setattr(passwords, "_verified", lambda *_: tried.append(1) and False)

    def guess() -> None:
        together.wait()
        try:
            many.check("ann", OTHER, "hash")
        except TooManyTries:
            refused.append(1)

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tried), len(refused)) == (5, 15)


_WITHOUT = """
import sys
sys.modules["cryptography"] = None
from pathlib import Path
from holdfast.clock import SystemClock
from holdfast.errors import StateError
from holdfast.gateway.access import Access
from holdfast.state.accounts import Accounts
from holdfast.state.keys import Keys

path = Path(sys.argv[1])
Keys(path, SystemClock()).create(tenant="acme", role="app")
accounts = Accounts(path, SystemClock())
for ask in (
    lambda: accounts.create("ann", "admin", None, "x" * 12),
    lambda: accounts.verify("ann", "x" * 12),
):
    try:
        ask()
    except StateError as error:
        print(error)
"""


def test_without_cryptography_keys_work_and_accounts_say_what_to_install(path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _WITHOUT, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == 'accounts need cryptography: pip install "holdfast[custody]"\n' * 2


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_session_is_of_its_account_until_it_ends(accounts: Accounts, ann: Account, clock: ManualClock) -> None:
    token = accounts.open_session(ann, 3600)
    clock.us += 3_600_000_000 - 1
    found = accounts.session(token)
    assert found is not None
    assert (found.name, found.session_ends_us) == ("ann", NOW_US + 3_600_000_000)
    assert accounts.sessions() == {digest(token): found}
    clock.us += 1
    assert accounts.session(token) is None
    assert accounts.sessions() == {}


def test_a_session_that_is_closed_is_gone_and_the_others_stay(accounts: Accounts, ann: Account) -> None:
    first, second = accounts.open_session(ann, 60), accounts.open_session(ann, 60)
    accounts.close_session(first)
    accounts.close_session(first)
    accounts.close_session("\ud800")
    assert accounts.session(first) is None
    assert accounts.session(second) is not None


def test_a_session_is_kept_as_a_hash(accounts: Accounts, ann: Account, path: Path) -> None:
    token = accounts.open_session(ann, 60)
    written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert digest(token) in written
    assert token.encode() not in written
    assert len(token) >= 43


@pytest.mark.parametrize("token", ["", "x", "\ud800", "x" * 100_000])
def test_what_is_no_token_is_no_session(accounts: Accounts, ann: Account, token: str) -> None:
    accounts.open_session(ann, 60)
    assert accounts.session(token) is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_time_that_is_none_is_refused(accounts: Accounts, ann: Account, ttl: float) -> None:
    with pytest.raises(StateError, match="session of"):
        accounts.open_session(ann, ttl)


def test_sessions_that_ended_and_the_oldest_of_too_many_make_room(
    accounts: Accounts, ann: Account, clock: ManualClock
) -> None:
    bob = accounts.create("bob", "admin", None, PASSWORD)
    bobs = accounts.open_session(bob, 3600)
    short = accounts.open_session(ann, 1)
    clock.us += 2_000_000
    tokens = [accounts.open_session(ann, 3600) for _ in range(MOST_SESSIONS + 1)]
    assert set(accounts.sessions()) == {digest(token) for token in [bobs, *tokens[1:]]}
    with accounts._file.reading() as db:
        assert not db.execute("SELECT * FROM sessions WHERE digest = ?", (digest(short),)).fetchall()


def test_the_version_of_keys_grows_with_accounts_and_sessions(accounts: Accounts, path: Path) -> None:
    keys = Keys(path, ManualClock(), read_only=True)
    versions = [keys.version()]
    tokens: list[str] = []
    for change in (
        lambda: accounts.create("ann", "admin", None, PASSWORD),
        lambda: tokens.append(accounts.open_session(accounts.all()[0], 60)),
        lambda: accounts.close_session(tokens[0]),
        lambda: accounts.change_password("ann", OTHER),
        lambda: accounts.remove("ann"),
    ):
        change()
        versions.append(keys.version())
    assert versions == [0, 1, 2, 3, 4, 5]
    accounts.verify("ann", PASSWORD)
    assert keys.version() == 5 == accounts.version()
    keys.close()
