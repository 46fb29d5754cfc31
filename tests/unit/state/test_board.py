"""What the workers of a gateway share, among real processes where it is the kernel that keeps order."""

import json
import os
import signal
import subprocess
import sys

import pytest

from holdfast.state.board import CELLS, LASTING, ROWS, Board

WORKER = """
import json, sys
from pathlib import Path
from holdfast.state.board import Board

board = Board.join(Path(sys.argv[1]), int(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    name, what, *values = json.loads(line)
    row = board.row(name)
    if what == "add":
        row.own[values[0]] += values[1]
    elif what == "share":
        row.shared[values[0]] = values[1]
    result = {"lock": row.try_lock, "unlock": row.unlock, "total": lambda: row.total(values[0]),
              "shared": lambda: row.shared[values[0]]}.get(what, lambda: None)()
    print(json.dumps(result), flush=True)
"""


class Worker:
    """A process that has joined a board and does what it is told."""

    def __init__(self, path, number):
        command = [sys.executable, "-c", WORKER, str(path), str(number)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self._process.stdout.readline() == "ready\n"
        return self

    def do(self, name, what, *values):
        self._process.stdin.write(json.dumps([name, what, *values]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self, number=signal.SIGKILL):
        self._process.send_signal(number)
        self._process.communicate()


@pytest.fixture
def board(tmp_path):
    board = Board.create(tmp_path / "workers", 3)
    yield board
    board.close()


@pytest.fixture
def workers(board):
    workers = [Worker(board.path, number) for number in range(3)]
    yield [worker.ready() for worker in workers]
    for worker in workers:
        worker.end()


@pytest.fixture
def alone():
    return Board.create(None, 1)


# --- among processes --------------------------------------------------------------------------------------------------


def test_workers_see_what_the_others_count_and_share(workers, board):
    for number, worker in enumerate(workers):
        worker.do("gpt", "add", 3, 10**number)
    workers[2].do("house", "add", 3, 5)
    workers[1].do("gpt", "share", 1, 0.25)
    assert [worker.do("gpt", "total", 3) for worker in workers] == [111, 111, 111]
    assert [worker.do("house", "total", 3) for worker in workers] == [5, 5, 5]
    assert workers[0].do("gpt", "shared", 1) == board.row("gpt").shared[1] == 0.25
    assert board.row("gpt").total(3) == 111


def test_one_worker_at_a_time_has_the_lock_of_a_row(workers):
    first, second, _ = workers
    assert first.do("gpt", "lock")
    assert not second.do("gpt", "lock")
    assert second.do("house", "lock")
    second.do("gpt", "unlock")
    assert not second.do("gpt", "lock")
    first.do("gpt", "unlock")
    assert second.do("gpt", "lock")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_worker_that_dies_is_free_at_once_and_what_it_shared_stays(workers, number):
    first, second, _ = workers
    assert first.do("gpt", "lock")
    first.do("gpt", "share", 0, 7.0)
    first.end(number)
    assert second.do("gpt", "lock")
    assert second.do("gpt", "shared", 0) == 7.0


def test_a_worker_that_loads_more_rows_keeps_its_locks(workers):
    first, second, _ = workers
    assert first.do("gpt", "lock")
    for n in range(20):
        first.do(f"model {n}", "add", 0, 1)
    assert not second.do("gpt", "lock")


def test_what_a_dead_worker_was_doing_is_forgotten_and_what_has_happened_is_not(workers, board):
    first, second, _ = workers
    for worker in (first, second):
        worker.do("gpt", "add", 0, 4)
        worker.do("gpt", "add", CELLS - LASTING, 7)
    first.end()
    board.clear_slot(0)
    assert second.do("gpt", "total", 0) == 4
    assert second.do("gpt", "total", CELLS - LASTING) == 14
    heir = Worker(board.path, 0).ready()
    heir.do("gpt", "add", CELLS - LASTING, 1)
    assert heir.do("gpt", "total", CELLS - LASTING) == 15
    heir.end()


def test_workers_that_find_new_names_at_the_same_time_agree_on_their_rows(workers):
    names = [f"model {n}" for n in range(60)]
    for turn, name in enumerate(names):
        workers[turn % 3].do(name, "add", 0, turn + 1)
    for worker in workers:
        assert [worker.do(name, "total", 0) for name in names] == list(range(1, 61))


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_goes_with_its_owner_and_is_nobody_elses_to_read(board, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == [board.path.name]
    assert board.path.stat().st_mode & 0o777 == 0o600
    board.close()
    assert not list(tmp_path.iterdir())
    board.close()


def test_a_closed_board_can_still_be_used_by_its_process(board):
    row = board.row("gpt")
    board.close()
    row.own[0] += 1
    assert row.total(0) == 1
    assert row.try_lock()
    assert not row.try_lock()
    row.unlock()
    assert board.row("house").total(0) == 0


def _owner(path):
    program = (
        "import sys; from pathlib import Path; from holdfast.state.board import Board;"
        "board = Board.create(Path(sys.argv[1]), 2); print(board.path, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def test_what_a_killed_gateway_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(tmp_path):
    dead, left = _owner(tmp_path / "workers")
    living, kept = _owner(tmp_path / "workers")
    dead.kill()
    dead.communicate()
    other = tmp_path / "workers.txt"
    other.write_text("mine")
    assert os.path.exists(left)
    with_file = Board.create(tmp_path / "workers", 1)
    assert {str(path) for path in tmp_path.iterdir()} == {kept, str(with_file.path), str(other)}
    with_file.close()
    living.kill()
    living.communicate()


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 8192])
def test_what_is_no_board_is_not_joined(tmp_path, content):
    path = tmp_path / "workers.1.board"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not the board of a gateway of this version"):
        Board.join(path, 0)


@pytest.mark.parametrize("number", [-1, 3, 64])
def test_a_worker_without_a_slot_is_told(board, number):
    with pytest.raises(ValueError, match=f"has no place for worker {number}, but for 3 workers"):
        _join_elsewhere(board.path, number)


def _join_elsewhere(path, number):
    """In another process, because to close a file drops the locks on it of the process that does."""
    program = "import sys; from pathlib import Path; from holdfast.state.board import Board\n"
    program += "try: Board.join(Path(sys.argv[1]), int(sys.argv[2]))\nexcept ValueError as error: print(error)"
    command = [sys.executable, "-c", program, str(path), str(number)]
    raise ValueError(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_missing_file_or_directory_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        Board.join(tmp_path / "workers.1.board", 0)
    with pytest.raises(FileNotFoundError):
        Board.create(tmp_path / "none" / "workers", 2)


def test_no_file_stays_open_or_behind_when_a_board_can_not_be_made(tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            Board.create(tmp_path / "workers", 2)
    assert not list(tmp_path.iterdir())
    assert before is None or len(os.listdir("/proc/self/fd")) == before


# --- in one process ---------------------------------------------------------------------------------------------------


def test_the_board_of_one_process_needs_no_file_and_its_lock_is_taken_once(alone):
    row = alone.row("gpt")
    assert alone.path is None
    assert row is alone.row("gpt")
    assert row.try_lock()
    assert not row.try_lock()
    assert not alone.row("gpt").try_lock()
    row.unlock()
    row.unlock()
    assert row.try_lock()


def test_rows_start_at_nothing_and_do_not_touch(alone):
    rows = [alone.row(f"model {n}") for n in range(50)]
    for n, row in enumerate(rows):
        assert list(row.own) == [0] * CELLS
        row.own[:] = memoryview(bytearray(CELLS * 8)).cast("q")
        row.own[0], row.own[CELLS - 1], row.shared[0] = n, -n, n / 2
    assert [(row.total(0), row.total(CELLS - 1), row.shared[0]) for row in rows] == [(n, -n, n / 2) for n in range(50)]


def test_names_beyond_the_last_row_work_unshared_with_a_warning(alone, caplog):
    rows = [alone.row(f"model {n}") for n in range(ROWS)]
    assert not caplog.records
    rows.append(alone.row("one too many"))
    assert "no row left for one too many" in caplog.text
    for row in rows:
        row.own[0] += 1
    assert [row.total(0) for row in rows] == [1] * (ROWS + 1)
    assert rows[-1].try_lock()
    assert alone.row("one too many") is rows[-1]
    assert alone.row("model 0") is rows[0]
