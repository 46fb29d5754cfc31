import stat
from pathlib import Path

import pytest

from holdfast.errors import LogError
from holdfast.privacy.subjects import SubjectHasher


def test_a_subject_always_has_the_same_hash_and_no_other_has_it() -> None:
    hasher = SubjectHasher(b"k" * 32)
    assert hasher.hash("ada") == hasher.hash("ada")
    assert len({hasher.hash(name) for name in ("ada", "Ada", "ada ", "", "\ud800")}) == 5


def test_a_hash_shows_neither_the_name_nor_the_key() -> None:
    hasher = SubjectHasher(b"k" * 32)
    digest = hasher.hash("ada")
    assert len(digest) == 32
    assert int(digest, 16) >= 0
    assert "k" not in repr(hasher).replace("SubjectHasher", "")


def test_another_key_gives_other_hashes() -> None:
    assert SubjectHasher(b"k" * 32).hash("ada") != SubjectHasher(b"l" * 32).hash("ada")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    first = SubjectHasher.load(directory)
    assert SubjectHasher.load(directory).hash("ada") == first.hash("ada")
    assert SubjectHasher.read(directory).hash("ada") == first.hash("ada")
    key = directory / "subject.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(key.read_bytes()) == 32


def test_reading_never_makes_a_key(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"subject\.key.*can't be read"):
        SubjectHasher.read(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "subject.key").write_bytes(content)
    with pytest.raises(LogError, match="instead of 32: restore it"):
        SubjectHasher.load(tmp_path)
    assert (tmp_path / "subject.key").read_bytes() == content


def test_a_directory_that_can_not_be_made_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(LogError, match="can't be made"):
        SubjectHasher.load(tmp_path / "state")
