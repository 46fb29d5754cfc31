import base64
import os
import random
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import PrivacyError
from holdfast.privacy.sealing import master
from holdfast.privacy.sealing.master import MasterKey, MasterKeySettings

KEY = random.Random(7).randbytes(32)
FORMS = {
    "base64": base64.b64encode(KEY),
    "base64 with a new line": base64.b64encode(KEY) + b"\n",
    "base64 for URLs": base64.urlsafe_b64encode(KEY).rstrip(b"="),
    "hexadecimal": KEY.hex().encode(),
    "capital hexadecimal": b"  " + KEY.hex().upper().encode() + b"\r\n",
    "bytes": KEY,
}
WRONG = {
    "nothing": b"",
    "a password": b"correct horse battery staple",
    "a password of 32 characters": b"correct horse battery staple 123",
    "a password of 31 and a new line": b"correct horse battery staple 12\n",
    "32 hexadecimal digits": KEY[:16].hex().encode(),
    "too few bytes": base64.b64encode(KEY[:31]),
    "too many bytes": base64.b64encode(KEY + b"1"),
    "raw bytes and a new line": KEY + b"\n",
    "not quite hexadecimal": b"g" + KEY.hex().encode()[1:],
    "bytes that are no text": b"\xff" * 64,
    "zeros": bytes(32),
    "zeros in base64": base64.b64encode(bytes(32)),
    "a pattern in hexadecimal": b"ab" * 32,
    "much": b"A" * 5000,
}


def same(key: MasterKey) -> bool:
    return key.derive("test") == MasterKey(KEY).derive("test")


def key_file(directory: Path, content: bytes, mode: int = 0o600) -> MasterKeySettings:
    path = directory / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return MasterKeySettings(file="key")


def command(script: str) -> MasterKeySettings:
    return MasterKeySettings(command=(sys.executable, "-c", script))


def load(settings: MasterKeySettings | None, directory: Path) -> MasterKey:
    return MasterKey.load(settings, directory, directory)


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", FORMS.values(), ids=FORMS.keys())
def test_a_key_may_be_written_in_several_forms(tmp_path: Path, written: bytes) -> None:
    assert same(load(key_file(tmp_path, written), tmp_path))


@pytest.mark.parametrize("written", WRONG.values(), ids=WRONG.keys())
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, written: bytes) -> None:
    with pytest.raises(PrivacyError, match="head -c 32 /dev/urandom") as caught:
        load(key_file(tmp_path, written), tmp_path)
    assert "/key" in caught.value.message
    text = written.decode("latin-1").strip()
    assert not text or text not in str(caught.value) + repr(caught.value.__cause__)


@given(st.binary(max_size=100))
def test_anything_is_a_key_or_a_privacy_error(written: bytes) -> None:
    with suppress(PrivacyError):
        assert len(master._decoded(written, "It")) == 32


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(PrivacyError, match="has 31 bytes instead of 32"):
        MasterKey(KEY[:31])


# --- derived keys -----------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20))
def test_keys_are_derived_as_the_standard_says(key: bytes, purpose: str) -> None:
    theirs = HKDF(SHA256(), 32, salt=b"holdfast", info=purpose.encode()).derive(key)
    assert MasterKey(key).derive(purpose) == theirs


def test_each_purpose_has_another_key_and_none_is_the_master_key() -> None:
    key = MasterKey(KEY)
    assert len({KEY, key.derive("wrap"), key.derive("signing"), key.derive("")}) == 4


def test_a_master_key_shows_nothing_of_itself() -> None:
    key = MasterKey(KEY)
    assert repr(key) == str(key) == "MasterKey(...)"
    assert len(key.fingerprint) == 16
    assert key.fingerprint != MasterKey(KEY[::-1]).fingerprint
    assert bytes.fromhex(key.fingerprint) not in KEY


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_use_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    with pytest.raises(PrivacyError, match=rf"mode {mode:04o}\): chmod 600 '.*/key'"):
        load(key_file(tmp_path, FORMS["base64"], mode), tmp_path)


def test_a_file_that_only_its_owner_may_read_is_taken(tmp_path: Path) -> None:
    assert same(load(key_file(tmp_path, FORMS["base64"], 0o400), tmp_path))


def test_a_missing_file_is_an_error_that_tells_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match=r"key: there is no master key\. To make one: \(umask 077 && head"):
        load(MasterKeySettings(file="key"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_that_the_error_tells_makes_a_key(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError) as caught:
        load(MasterKeySettings(file="key"), tmp_path)
    assert os.system(caught.value.message.partition("To make one: ")[2]) == 0
    assert load(MasterKeySettings(file="key"), tmp_path).fingerprint


def test_a_directory_or_a_pipe_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PrivacyError, match="folder: the master key can't be read: Is a directory"):
        load(MasterKeySettings(file="folder"), tmp_path)
    with pytest.raises(PrivacyError, match="pipe: the master key is not in a file there"):
        load(MasterKeySettings(file="pipe"), tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "key/key"])
def test_a_path_that_can_not_be_is_a_privacy_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "key").touch()
    with pytest.raises(PrivacyError, match="can't be read"):
        load(MasterKeySettings(file=name), tmp_path)


# --- the state directory's own ----------------------------------------------------------------------------------------


def test_without_settings_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    first = MasterKey.load(None, tmp_path, directory)
    assert MasterKey.load(None, tmp_path, directory).fingerprint == first.fingerprint
    assert [file.name for file in directory.iterdir()] == ["master.key"]
    assert stat.S_IMODE((directory / "master.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(base64.b64decode((directory / "master.key").read_bytes())) == 32


def test_all_who_make_it_at_once_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: load(None, tmp_path / "state"), range(64)))
    assert len({key.fingerprint for key in keys}) == 1


def test_another_place_says_nothing_of_the_one_in_the_state_directory(tmp_path: Path) -> None:
    load(key_file(tmp_path, KEY), tmp_path)
    assert not (tmp_path / "master.key").exists()


def test_reading_never_makes_one(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="there is no master key"):
        MasterKey.load(None, tmp_path, tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_none_is_made_where_a_keyring_needs_the_lost_one(tmp_path: Path) -> None:
    (tmp_path / "keyring.db").touch()
    with pytest.raises(PrivacyError, match=r"the master key is gone, and keyring\.db beside it needs it: restore it"):
        load(None, tmp_path)
    assert not (tmp_path / "master.key").exists()


def test_a_state_directory_that_can_not_be_made_is_a_privacy_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(PrivacyError, match=r"can't be (made|read)"):
        load(None, tmp_path / "state")


# --- the environment --------------------------------------------------------------------------------------------------


def test_a_key_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER", FORMS["base64"].decode())
    assert same(load(MasterKeySettings(env="MASTER"), tmp_path))


def test_a_variable_that_is_not_set_or_no_key_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrivacyError, match="variable MASTER of the master key is not set"):
        load(MasterKeySettings(env="MASTER"), tmp_path)
    monkeypatch.setenv("MASTER", "hunter2")
    with pytest.raises(PrivacyError, match="variable MASTER is not a master key") as caught:
        load(MasterKeySettings(env="MASTER"), tmp_path)
    assert "hunter2" not in str(caught.value)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_key_may_come_from_a_command(tmp_path: Path) -> None:
    assert same(load(command(f"print({FORMS['base64'].decode()!r})"), tmp_path))
    assert same(load(command(f"import sys; sys.stdout.buffer.write({KEY!r})"), tmp_path))


def test_a_command_runs_in_the_folder_of_the_configuration_and_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "$(key)").write_bytes(KEY)
    assert same(load(MasterKeySettings(command=("cat", "$(key)")), tmp_path))


def test_a_command_that_fails_is_an_error_that_shows_nothing_of_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="failed with status 3: run it by hand") as caught:
        load(command("import sys; print('s3cret'); print('s3cret', file=sys.stderr); sys.exit(3)"), tmp_path)
    assert "s3cret" not in caught.value.message


def test_a_command_shows_nothing_where_the_gateway_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(command(f"import sys; sys.stderr.write('s3cret'); print({FORMS['base64'].decode()!r})"), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_command_that_prints_no_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="printed is not a master key") as caught:
        load(command("print('s3cret')"), tmp_path)
    assert "s3cret" not in caught.value.message


def test_a_command_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for program in ("no-such-program", "null\0", str(tmp_path)):
        with pytest.raises(PrivacyError, match="of the master key can't be run"):
            load(MasterKeySettings(command=(program,)), tmp_path)


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(master, "COMMAND_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(PrivacyError, match=r"took more than 0\.5 seconds"):
        load(MasterKeySettings(command=("sh", "-c", "sleep 60 & sleep 60")), tmp_path)
    assert time.monotonic() - began < 20


def test_a_command_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="printed is not a master key"):
        load(MasterKeySettings(command=("yes",)), tmp_path)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", [{}, {"file": "a", "env": "B"}, {"command": []}, {"file": "a", "key": "b"}, {"command": "kms decrypt"}]
)
def test_a_key_comes_from_exactly_one_place(table: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, MasterKeySettings)
