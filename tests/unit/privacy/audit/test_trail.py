import errno
import fcntl
import functools
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from types import FrameType
from typing import IO, Any

import pytest

from holdfast.errors import PrivacyError
from holdfast.privacy import files
from holdfast.privacy.audit import trail as audit
from holdfast.privacy.audit.chain import RESUMED, SIGNED, read_head
from holdfast.privacy.audit.trail import ACTIONS, Trail, kept_heads
from trails import SIGNER, TickingClock, filled, trail_in

TESTS = Path(__file__).parents[3]


def recorded(trail: Trail, action: str = "export") -> list[Any]:
    """Return the number that each entry was given by its test, oldest first."""
    return [entry.details["number"] for entry in trail.entries(action=action)][::-1]


# --- appending --------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_listed_newest_first(tmp_path):
    trail = trail_in(tmp_path)
    first = trail.append("account:anna", "sign_in")
    second = trail.append("os:root", "key.create", key="hf_ab12cd34", tenant="acme")
    assert list(trail.entries())[:2] == [second, first]
    assert (second.n, second.prev, second.details) == (3, first.hash, {"key": "hf_ab12cd34", "tenant": "acme"})


def test_a_signed_trail_begins_with_the_key_that_signs_it(tmp_path):
    (entry,) = filled(tmp_path, 1 + 1).entries(action=SIGNED)
    assert (entry.n, entry.details) == (1, {"key": SIGNER.public})


def test_the_files_are_for_their_owner_alone(tmp_path):
    trail = filled(tmp_path / "state", 2)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (trail.path, trail.head_path, trail.path.parent)]
    assert modes == [0o600, 0o600, 0o700]
    assert sorted(os.listdir(trail.path.parent)) == ["audit.head", "audit.jsonl"]


def test_an_unknown_action_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="knows no action 'keys\\.create'; it knows sign_in, "):
        trail_in(tmp_path).append("os:root", "keys.create")
    assert list(tmp_path.iterdir()) == []


def test_what_must_not_be_in_the_trail_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="holds no password"):
        trail_in(tmp_path).append("os:root", "account.create", password="hunter2")
    assert list(tmp_path.iterdir()) == []


def test_every_action_can_be_recorded(tmp_path):
    trail = trail_in(tmp_path, None)
    for action in ACTIONS:
        trail.append("os:root", action)
    assert [entry.action for entry in trail.entries()] == list(ACTIONS)[::-1]


def test_a_trail_goes_on_in_another_process(tmp_path):
    filled(tmp_path, 3)
    assert trail_in(tmp_path).append("os:root", "export").n == 4
    assert trail_in(tmp_path).verify().ok


# --- listing ----------------------------------------------------------------------------------------------------------


def test_entries_are_found_by_action_actor_and_time(tmp_path):
    trail = trail_in(tmp_path)
    trail.append("account:anna", "sign_in")
    trail.append("account:bert", "sign_in")
    last = trail.append("account:anna", "sign_out")
    assert [entry.actor for entry in trail.entries(action="sign_in")] == ["account:bert", "account:anna"]
    assert [entry.action for entry in trail.entries(actor="account:anna")] == ["sign_out", "sign_in"]
    assert list(trail.entries(since_us=1_760_000_004 * 10**6)) == [last]
    assert list(trail.entries(since_us=10**30)) == []
    assert len(list(trail.entries(since_us=-5))) == 4


def test_a_long_trail_is_read_from_its_end(tmp_path, monkeypatch: pytest.MonkeyPatch):
    trail = filled(tmp_path, 40)
    expected = list(range(40, 0, -1))
    for size in (1, 7, 300, 301, 4096):
        monkeypatch.setattr(audit, "_READ_BYTES", size)
        assert [entry.n for entry in trail.entries()] == expected
    assert [entry.n for entry in islice(trail.entries(), 3)] == [40, 39, 38]


def test_what_is_no_entry_is_passed_over(tmp_path):
    trail = filled(tmp_path, 5)
    lines = trail.path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\xff" * 100 + b"\n"
    trail.path.write_bytes(b"".join(lines))
    assert [entry.n for entry in trail.entries()] == [5, 4, 2, 1]


def test_there_is_nothing_in_a_directory_without_a_trail(tmp_path):
    trail = trail_in(tmp_path)
    assert list(trail.entries()) == []
    assert trail.head() is None
    with pytest.raises(PrivacyError, match="there is no audit trail here"):
        trail.verify()
    assert list(tmp_path.iterdir()) == []


# --- heads kept elsewhere ---------------------------------------------------------------------------------------------


def test_heads_are_read_back_from_a_file_of_them(tmp_path):
    trail, text = trail_in(tmp_path), b""
    for _ in range(3):
        trail.append("os:root", "export")
        text += b"\n" + (trail.head() or b"")
    assert [head.entries for head in kept_heads(text, "heads")] == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b"", "heads: there is no head in it"),
        (b"\n \n", "heads: there is no head in it"),
        (b"\n{}\n", "heads:2: this is not what holdfast audit head printed: it is no head"),
        (b"\xff", "heads:1: this is not"),
    ],
)
def test_a_file_of_something_else_is_refused(text, wrong):
    with pytest.raises(PrivacyError, match=wrong):
        kept_heads(text, "heads")


# --- at once ----------------------------------------------------------------------------------------------------------


def test_threads_append_at_once_and_lose_nothing(tmp_path):
    trail = trail_in(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: trail.append("os:root", "export", number=number), range(80)))
    assert sorted(recorded(trail)) == list(range(80))
    assert trail.verify().ok


APPENDING = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from trails import trail_in
trail = trail_in(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    trail.append("os:root", "export", number=number)
    print(number, flush=True)
"""


def appending(directory: Path, start: int, end: int) -> subprocess.Popen[str]:
    program = APPENDING.format(tests=str(TESTS))
    command = [sys.executable, "-c", program, str(directory), str(start), str(end)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_append_at_once_and_lose_nothing(tmp_path):
    processes = [appending(tmp_path, 100 * n, 100 * n + 40) for n in range(3)]
    numbers = [int(line) for process in processes for line in process.communicate()[0].split()]
    trail = trail_in(tmp_path)
    assert sorted(recorded(trail)) == sorted(numbers) == [100 * n + m for n in range(3) for m in range(40)]
    assert trail.verify().ok


def test_whatever_was_recorded_by_processes_that_were_killed_is_there(tmp_path):
    processes = [appending(tmp_path, 10**6 * n, 10**6 * (n + 1)) for n in range(3)]
    numbers = []
    for round, process in enumerate(processes):
        assert process.stdout is not None
        numbers += [int(line) for line in islice(process.stdout, 15 + round)]
        process.kill()
        numbers += [int(line) for line in process.communicate()[0].split()]
    trail = trail_in(tmp_path)
    trail.append("os:root", "erase")
    assert trail.verify().ok
    assert set(numbers) <= set(recorded(trail))
    assert len(recorded(trail)) <= len(numbers) + len(processes)


def test_one_waits_for_another_and_says_so_when_it_takes_too_long(tmp_path, monkeypatch: pytest.MonkeyPatch):
    trail = filled(tmp_path, 2)
    monkeypatch.setattr(audit, "LOCK_SECONDS", 0.0)
    with trail.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for use in (lambda: trail.append("os:root", "export"), trail.verify):
            with pytest.raises(PrivacyError, match="another process holds it locked"):
                use()
    assert trail.append("os:root", "export").n == 3


def test_a_trail_that_is_taken_away_before_it_is_locked_is_not_written_to(tmp_path):
    class Late(Trail):
        def _wait_for_lock(self, file: IO[bytes], kind: int) -> None:
            if not (tmp_path / "away.jsonl").exists():
                self.path.rename(tmp_path / "away.jsonl")
            super()._wait_for_lock(file, kind)

    filled(tmp_path, 2)
    trail = Late(tmp_path, SIGNER, TickingClock())
    trail.append("os:root", "export")
    assert [entry.action for entry in trail.entries()] == ["export", RESUMED]
    assert len((tmp_path / "away.jsonl").read_bytes().splitlines()) == 2
    assert not trail.verify().ok


# --- an end at any moment ---------------------------------------------------------------------------------------------


def killer(number: int) -> Callable[[FrameType, str, Any], Any]:
    """Return a tracer that kills this process before the line number `number` that the audit trail runs."""
    steps = count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in (audit.__file__, files.__file__):
            return None
        if event == "line" and next(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def append_in_a_child(trail: Trail, number: int) -> bool:
    """Append in a process that is killed before the step `number`. Return whether it lived."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            sys.settrace(killer(number))
            trail.append("os:root", "export", number=number)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # no other thread has to do with it
@pytest.mark.parametrize("entries", [0, 2])
def test_a_process_that_is_killed_at_any_step_leaves_a_trail_that_goes_on(tmp_path, entries):
    for number in count():
        trail = filled(tmp_path / str(number), entries) if entries else trail_in(tmp_path / str(number))
        before = len(list(trail.entries()))
        lived = append_in_a_child(trail, number)
        assert trail.append("os:root", "erase").n > before
        assert trail.verify().ok, f"step {number}"
        if lived:
            assert recorded(trail) == [number]
            break
        assert recorded(trail) in ([], [number])
    assert number > 40


class Disk:
    """Fails at the step `number`: of a write, half is done then."""

    def __init__(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left = number
        for name in ("open", "pread", "fsync", "replace", "fstat"):
            monkeypatch.setattr(os, name, functools.partial(self._do, getattr(os, name)))
        monkeypatch.setattr(audit, "write_durably", functools.partial(self._write, files.write_durably))

    def _do(self, step: Callable[..., Any], *arguments: Any) -> Any:
        self._left -= 1
        if self._left == -1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return step(*arguments)

    def _write(self, step: Callable[..., Any], file: IO[bytes], data: bytes) -> None:
        if self._left == 0:
            file.write(data[: len(data) // 2])
        self._do(step, file, data)


@pytest.mark.parametrize("entries", [0, 2])
def test_a_disk_that_fails_at_any_step_leaves_a_trail_that_goes_on(tmp_path, entries):
    for number in count():
        trail = filled(tmp_path / str(number), entries) if entries else trail_in(tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch:
            Disk(number, patch)
            try:
                trail.append("os:root", "export", number=number)
                done = True
            except PrivacyError:
                done = False
        trail.append("os:root", "erase")
        assert trail.verify().ok, f"step {number}"
        if done:
            assert recorded(trail) == [number]
            break
        assert recorded(trail) in ([], [number])
    assert number > 10


def test_an_entry_cut_at_any_byte_is_completed_by_the_next_one(tmp_path):
    trail = filled(tmp_path, 3)
    for cut in range(1, len(trail.head() or b"") // 3):
        with trail.path.open("r+b") as file:
            file.truncate(trail.path.stat().st_size - min(cut, 200))
        trail.append("os:root", "export", number=cut)
    assert trail.verify().ok
    assert recorded(trail) == list(range(1, cut + 1))


@pytest.mark.parametrize("room", [0, 10, 700, 1000])
def test_a_full_disk_is_an_error_and_no_entry_is_lost_to_it(tmp_path, room):
    trail = filled(tmp_path, 6)
    size = trail.path.stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room if room < 500 else room, limit[1]))
    try:
        for number in range(3):
            with pytest.raises(PrivacyError, match="the audit trail can't be used: File too large"):
                trail.append("os:root", "export", number=number)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    trail.append("os:root", "export", number=7)
    assert trail.verify().ok
    assert recorded(trail)[-1] == 7
    assert len(recorded(trail)) <= 2
    assert "audit.head.new" not in os.listdir(tmp_path)


def test_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PrivacyError, match="the audit trail can't be used"):
        trail_in(tmp_path / "file").append("os:root", "export")
    (tmp_path / "audit.jsonl").mkdir()
    for use in (lambda: trail_in(tmp_path).append("os:root", "export"), trail_in(tmp_path).verify):
        with pytest.raises(PrivacyError, match="the audit trail can't be used"):
            use()


# --- after damage -----------------------------------------------------------------------------------------------------


def test_a_damaged_trail_goes_on_and_says_that_it_was_damaged(tmp_path, caplog: pytest.LogCaptureFixture):
    trail = filled(tmp_path, 5)
    lines = trail.path.read_bytes().splitlines(keepends=True)
    trail.path.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    assert trail.append("os:root", "export").n == 7
    assert "the audit trail was damaged" in caplog.text
    export, resumed, *_ = trail.entries()
    assert (export.n, resumed.action) == (7, RESUMED)
    assert resumed.prev == read_head_of(lines[4])
    assert not trail.verify().ok


def read_head_of(line: bytes) -> str:
    return line.rstrip()[-66:-2].decode()


def test_a_sound_head_is_needed_to_go_on_in_silence(tmp_path):
    for number, content in enumerate((None, b"", b"{}", b"\xff\x00")):
        trail = filled(tmp_path / str(number), 3)
        if content is None:
            trail.head_path.unlink()
        else:
            trail.head_path.write_bytes(content)
        assert trail.append("os:root", "export").n == 6
        assert [entry.action for entry in trail.entries()][:3] == ["export", SIGNED, RESUMED]
        assert read_head(trail.head() or b"").entries == 6


def test_a_process_that_goes_on_notices_that_the_files_were_rolled_back(tmp_path):
    trail = filled(tmp_path, 3)
    earlier = trail.path.read_bytes(), trail.head_path.read_bytes()
    trail.append("os:root", "export")
    trail_in(tmp_path).append("os:root", "export")
    assert trail.append("os:root", "export").n == 6
    trail.path.write_bytes(earlier[0])
    trail.head_path.write_bytes(earlier[1])
    assert trail.verify().ok
    trail.append("os:root", "erase")
    assert "the trail and its head were rolled back from entry 6 to 3" in str(trail.verify().findings)


def test_a_process_that_goes_on_notices_that_the_files_were_deleted(tmp_path):
    trail = filled(tmp_path, 3)
    trail.path.unlink()
    trail.head_path.unlink()
    trail.append("os:root", "erase")
    assert "rolled back from entry 3 to 0" in str(trail.verify().findings)
