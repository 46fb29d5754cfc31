"""Every change of an audit trail is found. Small ones are changed in every way there is."""

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from holdfast.errors import PrivacyError
from holdfast.privacy.audit.chain import (
    SUCCEEDED,
    UNSIGNED,
    ZERO,
    entry_line,
    head_line,
    read_entry,
    read_head,
    succession,
)
from holdfast.privacy.audit.inspection import Report
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.sealing import ciphers
from holdfast.privacy.signing import Signer
from trails import SIGNER, filled, large, trail_in

OTHER = Signer(b"o" * 32)
SIGNERS = pytest.mark.parametrize("signer", [SIGNER, None], ids=["signed", "unsigned"])


def found(trail: Trail) -> list[str]:
    return [str(finding) for finding in trail.verify().findings]


def lines_of(trail: Trail) -> list[bytes]:
    return trail.path.read_bytes().splitlines(keepends=True)


def write(trail: Trail, lines: list[bytes]) -> None:
    trail.path.write_bytes(b"".join(lines))


# --- in every way there is --------------------------------------------------------------------------------------------


@SIGNERS
@pytest.mark.parametrize("file", ["path", "head_path"])
def test_every_changed_bit_is_found(tmp_path, signer, file):
    trail = filled(tmp_path, 3, signer)
    path: Path = getattr(trail, file)
    whole = path.read_bytes()
    with path.open("r+b", buffering=0) as changed:
        for bit in range(8 * len(whole)):
            at = bit // 8
            changed.seek(at)
            changed.write(bytes([whole[at] ^ 1 << bit % 8]))
            assert not trail.verify().ok, f"bit {bit % 8} of byte {at}"
            changed.seek(at)
            changed.write(whole[at : at + 1])
    assert trail.verify().ok


@SIGNERS
@pytest.mark.parametrize("file", ["path", "head_path"])
def test_every_truncation_is_found(tmp_path, signer, file):
    trail = filled(tmp_path, 4, signer)
    path: Path = getattr(trail, file)
    for size in reversed(range(path.stat().st_size)):
        with path.open("r+b") as changed:
            changed.truncate(size)
        assert not trail.verify().ok, f"{size} bytes"


@SIGNERS
def test_every_removal_of_lines_is_found(tmp_path, signer):
    trail = filled(tmp_path, 6, signer)
    lines = lines_of(trail)
    for start, end in combinations(range(len(lines) + 1), 2):
        write(trail, lines[:start] + lines[end:])
        assert not trail.verify().ok, f"lines {start + 1} to {end}"


@SIGNERS
def test_every_swap_of_two_lines_is_found(tmp_path, signer):
    trail = filled(tmp_path, 6, signer)
    lines = lines_of(trail)
    for one, other in combinations(range(len(lines)), 2):
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        write(trail, swapped)
        assert not trail.verify().ok, f"lines {one + 1} and {other + 1}"


@SIGNERS
def test_every_repetition_of_a_line_at_any_place_is_found(tmp_path, signer):
    trail = filled(tmp_path, 6, signer)
    lines = lines_of(trail)
    for line in lines:
        for place in range(len(lines) + 1):
            write(trail, [*lines[:place], line, *lines[place:]])
            assert not trail.verify().ok


EDITS = st.tuples(st.booleans(), st.integers(0, 2000), st.integers(0, 400), st.binary(max_size=40))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EDITS, min_size=1, max_size=3), st.sampled_from([SIGNER, None]), st.integers(1, 3))
def test_no_edit_of_the_files_goes_unseen_not_even_once_the_trail_went_on(tmp_path_factory, edits, signer, more):
    trail = filled(tmp_path_factory.mktemp("trail"), 4, signer)
    before, last = trail.path.read_bytes(), len(lines_of(trail)[-1])
    head = trail.head_path.read_bytes()
    for of_head, start, length, new in edits:
        path = trail.head_path if of_head else trail.path
        data = path.read_bytes()
        path.write_bytes(data[:start] + new + data[start + length :])
    now, same_head = trail.path.read_bytes(), trail.head_path.read_bytes() == head
    assume(not (same_head and now == before))
    assert not trail.verify().ok
    can_be_completed = same_head and before.startswith(now) and len(now) >= len(before) - last
    for _ in range(more):
        trail.append("os:root", "export", subject="ab" * 16)
    assert trail.verify().ok == can_be_completed


# --- in a large one ---------------------------------------------------------------------------------------------------


def test_what_is_done_to_one_of_100_000_entries_is_found(tmp_path):
    trail, chosen = large(tmp_path, 100_000), random.Random(7)
    assert trail.verify() == Report(100_000, SIGNER.public)
    whole = trail.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for _ in range(2):
        at, one, other = chosen.randrange(len(whole)), *chosen.sample(range(len(lines)), 2)
        trail.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chosen.randrange(8)]) + whole[at + 1 :])
        assert f"line {whole.count(bytes([10]), 0, at) + 1}:" in found(trail)[0]
        trail.path.write_bytes(whole[:at])
        assert not trail.verify().ok
        write(trail, lines[:one] + lines[one + 1 :])
        told = f"line {one + 1}: entry {one + 1} is missing"
        assert told in found(trail)[0]
        swapped = list(lines)
        swapped[one], swapped[other] = lines[other], lines[one]
        write(trail, swapped)
        assert f"line {min(one, other) + 1}: " in found(trail)[0]


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_sound_trail_is_said_to_be_sound(tmp_path):
    assert filled(tmp_path, 5).verify() == Report(5, SIGNER.public)


def test_all_that_is_wrong_is_told_with_its_line(tmp_path):
    trail = filled(tmp_path, 12)
    lines = lines_of(trail)
    lines[2] = lines[2].replace(b"acme", b"evil")
    lines[4], lines[5] = lines[5], lines[4]
    write(trail, lines[:8] + lines[10:])
    assert found(trail) == [
        "line 3: this is not what was written: it was changed: its hash is another.",
        "line 5: entry 5 is missing before this one.",
        "line 6: entry 5 comes after entry 6: entries were swapped or repeated.",
        "line 7: entry 6 is missing before this one.",
        "line 9: entries 9 to 10 are missing before this one.",
    ]


def test_one_changed_entry_is_one_finding(tmp_path):
    trail = filled(tmp_path, 5)
    for line in range(5):
        lines = lines_of(trail)
        lines[line] = lines[line].replace(b'"action":"', b'"action":"x')
        path = tmp_path / str(line)
        path.mkdir()
        copy = trail_in(path)
        write(copy, lines)
        copy.head_path.write_bytes(trail.head_path.read_bytes())
        assert found(copy) == [f"line {line + 1}: this is not what was written: it was changed: its hash is another."]


def test_an_entry_that_was_replaced_by_one_with_a_right_hash_is_found(tmp_path):
    trail = filled(tmp_path, 5)
    lines = lines_of(trail)
    old = read_entry(lines[2].rstrip())
    lines[2] = entry_line(3, 0, "os:eve", old.action, old.details, old.prev) + b"\n"
    write(trail, lines)
    assert found(trail) == ["line 4: this entry does not follow the one before it: one of them was replaced."]


def test_the_last_entry_replaced_by_one_with_a_right_hash_is_found(tmp_path):
    trail = filled(tmp_path, 3)
    lines = lines_of(trail)
    old = read_entry(lines[2].rstrip())
    lines[2] = entry_line(3, 0, "os:eve", old.action, old.details, old.prev) + b"\n"
    write(trail, lines)
    assert "line 3: audit.head holds another last entry: one of them was replaced." in found(trail)


def test_entries_that_something_else_appended_are_found(tmp_path):
    trail = filled(tmp_path, 3)
    last = read_entry(lines_of(trail)[-1].rstrip())
    with trail.path.open("ab") as file:
        file.write(entry_line(4, 0, "os:eve", "export", {}, last.hash) + b"\n")
    assert "audit.head says there are 3 entries" in found(trail)[0]
    trail.append("os:root", "export")
    assert any("swapped or repeated" in finding for finding in found(trail))


def test_a_last_entry_that_is_cut_or_missing_is_found_and_said_not_to_be_lost(tmp_path):
    trail = filled(tmp_path, 3)
    lines = lines_of(trail)
    write(trail, lines[:2])
    assert found(trail) == ["line 3: entry 3 is missing. audit.head holds it, and the next entry puts it back."]
    write(trail, [*lines[:2], lines[2][:40]])
    assert found(trail) == ["line 3: entry 3 is cut. audit.head holds it, and the next entry puts it back."]


def test_a_deleted_trail_is_found_by_its_head(tmp_path):
    trail = filled(tmp_path, 3)
    trail.path.unlink()
    assert found(trail)[0] == "line 1: entries 1 to 3 are missing at the end: audit.head says there are 3."
    trail.append("os:root", "export")
    assert "entries 1 to 3 are missing" in found(trail)[0]


def test_a_deleted_head_is_found_for_good(tmp_path):
    trail = filled(tmp_path, 3)
    write(trail, lines_of(trail)[:2])
    trail.head_path.unlink()
    assert found(trail) == ["audit.head is gone. Entries may be missing at the end."]
    trail.append("os:root", "export")
    assert "line 3: the trail went on here after damage: the head was gone" in found(trail)[0]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 5000, b"{" * 2_000_000, b"[" * 100_000])
def test_files_that_are_something_else_are_findings_and_no_error(tmp_path, content):
    trail = filled(tmp_path, 3)
    trail.path.write_bytes(content)
    assert not trail.verify().ok
    trail.head_path.write_bytes(content)
    assert not trail.verify().ok or content == b""


def test_a_file_with_nothing_but_wrong_lines_is_told_within_bounds(tmp_path):
    trail = filled(tmp_path, 3)
    trail.path.write_bytes(b"\n" * 10**6)
    findings = found(trail)
    assert len(findings) == 10_001
    assert findings[-1] == "there may be more: only the first 10000 findings are told."


# --- whoever writes it anew -------------------------------------------------------------------------------------------


def forge(trail: Trail, entries: int, signer: Signer | None) -> None:
    """Cut the trail and write a head for what is left, as one can who has no key of this installation."""
    lines = lines_of(trail)[:entries]
    write(trail, lines)
    size = trail.path.stat().st_size
    trail.head_path.write_bytes(head_line(entries, size, lines[-1].rstrip(), signer))


@pytest.mark.parametrize("signer", [OTHER, None], ids=["with another key", "without a signature"])
def test_a_forged_head_is_found_before_and_after_the_trail_went_on(tmp_path, signer):
    trail = filled(tmp_path, 6)
    forge(trail, 4, signer)
    assert "audit.head is" in found(trail)[0]
    trail_in(tmp_path).append("os:root", "export")
    assert "line 5: heads began to be signed anew here" in found(trail)[0]


def test_a_trail_that_says_itself_that_it_is_not_signed_any_more_is_found(tmp_path):
    trail = filled(tmp_path, 3)
    trail_in(tmp_path, None).append("os:eve", "export")
    assert read_entry(lines_of(trail)[3].rstrip()).action == UNSIGNED
    assert "line 4: heads are not signed any more" in found(trail)[0]
    trail.append("os:root", "export")
    assert "line 4: heads are not signed any more" in found(trail)[0]


def test_a_trail_written_anew_without_a_key_is_found_where_the_key_is_at_hand(tmp_path):
    filled(tmp_path, 4, None)
    trail = trail_in(tmp_path)
    assert found(trail) == ["audit.head is not signed, though this installation signs heads since it started last."]


def test_a_trail_written_anew_with_another_key_is_found_where_the_key_is_at_hand(tmp_path):
    filled(tmp_path, 4, OTHER)
    assert "but the key of this installation is" in found(trail_in(tmp_path))[0]


def test_a_trail_rolled_back_with_its_head_is_found_by_a_head_kept_elsewhere(tmp_path):
    trail = filled(tmp_path, 4)
    earlier = trail.path.read_bytes(), trail.head_path.read_bytes()
    trail.append("os:root", "export")
    kept = read_head(trail.head() or b"")
    assert trail.verify([kept]).ok
    trail.path.write_bytes(earlier[0])
    trail.head_path.write_bytes(earlier[1])
    assert trail.verify().ok
    assert [str(finding) for finding in trail.verify([kept]).findings] == [
        "the head that was kept has an entry 5, the trail has none: it was rolled back."
    ]
    trail_in(tmp_path).append("os:root", "erase")
    assert "line 5: the head that was kept has another entry 5" in str(trail.verify([kept]).findings[0])


def test_a_kept_head_of_any_age_is_met(tmp_path):
    trail, kept = trail_in(tmp_path), []
    for _ in range(4):
        trail.append("os:root", "export")
        kept.append(read_head(trail.head() or b""))
    assert trail.verify(kept).ok


def test_everything_deleted_is_found_by_a_head_kept_elsewhere(tmp_path):
    trail = filled(tmp_path, 4)
    kept = read_head(trail.head() or b"")
    trail.path.unlink()
    trail.head_path.unlink()
    assert any("it was rolled back" in str(finding) for finding in trail.verify([kept]).findings)


def test_a_kept_head_with_a_wrong_signature_is_found(tmp_path):
    trail = filled(tmp_path, 4)
    signature = read_head(trail.head() or b"").signature
    forged = (trail.head() or b"").replace(signature.encode(), b"0" * 128)
    assert "its signature is wrong" in str(trail.verify([read_head(forged)]).findings[0])


# --- signed and unsigned ----------------------------------------------------------------------------------------------


def test_a_trail_without_signatures_is_sound_but_said_to_be_unsigned(tmp_path):
    report = filled(tmp_path, 3, None).verify()
    assert (report.ok, report.key) == (True, None)
    assert 'pip install "holdfast[custody]"' in report.warnings[0]


def test_a_trail_that_began_to_be_signed_says_up_to_where_it_was_not(tmp_path):
    filled(tmp_path, 3, None)
    trail = trail_in(tmp_path)
    trail.append("os:root", "export")
    report = trail.verify()
    assert report.ok
    assert "Up to line 4 nothing was signed" in report.warnings[0]


def test_without_the_key_of_the_installation_the_key_of_the_head_is_told(tmp_path):
    filled(tmp_path, 3)
    report = trail_in(tmp_path, None).verify()
    assert report.ok
    assert report.warnings == (f"The master key is not at hand: compare the key with yours: {SIGNER.public}.",)


def test_a_signature_that_can_not_be_checked_is_said_to_be_unchecked(tmp_path, monkeypatch: pytest.MonkeyPatch):
    trail = filled(tmp_path, 3)
    monkeypatch.setattr(ciphers, "available", lambda: False)
    report: Any = trail_in(tmp_path, None).verify()
    assert report.ok
    assert "The signature was not checked" in report.warnings[0]
    trail.path.write_bytes(trail.path.read_bytes()[:-300])
    assert not trail.verify().ok


def test_a_first_entry_that_follows_another_one_is_found(tmp_path):
    trail = trail_in(tmp_path, None)
    lines = [entry_line(n, 0, "os:root", "export", {}, ZERO.replace("0", "a")) for n in (1,)]
    write(trail, [lines[0] + b"\n"])
    trail.head_path.write_bytes(head_line(1, len(lines[0]) + 1, lines[0], None))
    assert "line 1: this entry does not follow" in found(trail)[0]


# --- another key ------------------------------------------------------------------------------------------------------


def succeeded(directory: Path) -> Trail:
    """Return a trail whose key was changed to that of OTHER."""
    trail = filled(directory, 3)
    assert trail.succeed("os:root", OTHER)
    trail.append("os:root", "key.create", tenant="acme")
    return trail


def test_a_key_for_which_the_one_before_vouches_is_right(tmp_path):
    trail = succeeded(tmp_path)
    report = trail.verify()
    assert (report.findings, report.warnings, report.key) == ((), (), OTHER.public)
    assert trail_in(tmp_path, OTHER).verify().ok
    assert trail_in(tmp_path, OTHER).signing_keys() == {SIGNER.public, OTHER.public}
    assert f"but the key of this installation is {SIGNER.public}" in found(trail_in(tmp_path, SIGNER))[0]


def test_a_key_succeeds_once(tmp_path):
    trail = succeeded(tmp_path)
    assert not trail.succeed("os:root", OTHER)
    assert not trail_in(tmp_path, SIGNER).succeed("os:root", OTHER)
    assert len(lines_of(trail)) == 5


def test_a_succession_that_was_cut_off_is_completed_by_the_next_entry(tmp_path):
    trail = succeeded(tmp_path)
    whole = lines_of(trail)
    (tmp_path / "again").mkdir()
    again = filled(tmp_path / "again", 3)
    again.succeed("os:root", OTHER)
    write(again, lines_of(again)[:3])
    trail_in(tmp_path / "again", OTHER).append("os:root", "key.create", tenant="acme")
    assert len(lines_of(again)) == len(whole)
    assert trail_in(tmp_path / "again", OTHER).verify().ok


FORGER = Signer(b"f" * 32)


def forged(directory: Path, details: dict[str, str]) -> Trail:
    """Return a trail in which somebody with another key put their own in its place."""
    trail = filled(directory, 3)
    lines = lines_of(trail)
    lines.append(entry_line(4, 1.0, "os:root", SUCCEEDED, details, read_entry(lines[-1].rstrip()).hash) + b"\n")
    write(trail, lines)
    trail.head_path.write_bytes(head_line(4, sum(map(len, lines)), lines[-1].rstrip(), FORGER))
    return trail_in(directory, FORGER)


def test_a_key_for_which_none_before_vouches_is_found(tmp_path):
    prev = read_entry(lines_of(filled(tmp_path / "x", 3))[-1].rstrip()).hash
    right = succession(SIGNER, FORGER.public, prev)
    attempts = [
        succession(FORGER, FORGER.public, prev),
        succession(FORGER, FORGER.public, prev) | {"by": SIGNER.public},
        succession(SIGNER, FORGER.public, ZERO),
        succession(SIGNER, OTHER.public, prev) | {"key": FORGER.public},
        right | {"signature": "x"},
        {"key": FORGER.public},
        {},
    ]
    for number, details in enumerate(attempts):
        trail = forged(tmp_path / str(number), details)
        assert any("none before vouches" in finding for finding in found(trail)), details
        assert SIGNER.public not in trail.signing_keys()
    assert forged(tmp_path / "right", right).verify().ok


def test_nothing_vouches_without_a_key(tmp_path):
    with pytest.raises(PrivacyError, match="nothing can vouch"):
        filled(tmp_path, 3, None).succeed("os:root", OTHER)
    assert filled(tmp_path, 1, None).signing_keys() == frozenset()


def test_a_key_that_is_not_the_present_one_does_not_vouch(tmp_path):
    filled(tmp_path, 3)
    with pytest.raises(PrivacyError, match="not with the present one"):
        trail_in(tmp_path, FORGER).succeed("os:root", OTHER)
