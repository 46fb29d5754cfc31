import hmac
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_the_subjects_of_tenants_have_hashes_of_their_own() -> None:
    hasher = SubjectHasher(b"k" * 32)
    pairs = [
        ("ada", None),
        ("ada", "acme"),
        ("ada", "beta"),
        ("ada", ""),
        ("acme", "ada"),
        ("meada", "ac"),
        ("", "ada"),
    ]
    assert len({hasher.hash(subject, tenant) for subject, tenant in pairs}) == len(pairs)


def test_without_a_tenant_a_hash_is_what_it_always_was() -> None:
    assert SubjectHasher(b"k" * 32).hash("ada") == hmac.digest(b"k" * 32, b"ada", "sha256").hex()[:32]


@given(
    st.tuples(st.text("aé\ud800\x00ÿ"), st.text("aé\ud800\x00ÿ")),
    st.tuples(st.text("aé\ud800\x00ÿ"), st.text("aé\ud800\x00ÿ")),
)
def test_no_two_pairs_of_tenant_and_subject_share_a_hash(one: tuple[str, str], other: tuple[str, str]) -> None:
    hasher = SubjectHasher(b"k" * 32)
    assert (hasher.hash(*one) == hasher.hash(*other)) == (one == other)
    assert hasher.hash(*one) != hasher.hash("".join(other))
