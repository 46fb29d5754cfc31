"""The files of workers that hold leases: who lives, and what the dead used. Real processes where one has to die."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from holdfast.clock import SystemClock, UlidFactory
from holdfast.state import holders as module
from holdfast.state.holders import Dead, Holder, Holders

new_id = UlidFactory(SystemClock())

WORKER = """
import sys
from pathlib import Path
from holdfast.clock import SystemClock, UlidFactory
from holdfast.state.holders import Holder

holder = Holder.create(Path(sys.argv[1]), UlidFactory(SystemClock()))
place = holder.place(7)
place.cells[place.at + 1] = 42
print(holder.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "leases"


def use(holder, number, used):
    place = holder.place(number)
    place.cells[place.at + 1] = used
    return place


def dead(directory):
    return list(Holders(directory).dead())


def test_a_live_holder_is_counted_and_not_taken_for_dead(directory):
    first, second = Holder.create(directory, new_id), Holder.create(directory, new_id)
    holders = Holders(directory)
    assert list(holders.dead()) == []
    assert holders.live == 2
    assert holders.exists(first.id)
    for holder in (first, second):
        holder.close(remove=True)
    assert list(holders.dead()) == []
    assert holders.live == 1
    assert not holders.exists(first.id)


def test_a_folder_that_is_not_there_has_no_holders(directory):
    assert dead(directory) == []


def test_what_a_dead_holder_used_is_told_once(directory):
    holder = Holder.create(directory, new_id)
    use(holder, 1, 10)
    use(holder, 2, 0)
    holder.close(remove=False)
    assert dead(directory) == [Dead(holder.id, {1: 10, 2: 0})]
    assert dead(directory) == []


def test_what_a_killed_process_used_is_told(directory):
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    id = process.stdout.readline().strip()
    assert dead(directory) == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert dead(directory) == [Dead(id, {7: 42})]


def test_a_place_given_back_is_clean_for_the_next_lease(directory):
    holder = Holder.create(directory, new_id)
    for number in range(1, 10):
        holder.release(use(holder, number, 5))
    holder.place(100)
    holder.close(remove=False)
    assert dead(directory) == [Dead(holder.id, {100: 0})]


def test_there_is_a_place_for_any_number_of_leases(directory):
    holder = Holder.create(directory, new_id)
    for number in range(1, 10_001):
        use(holder, number, number)
    holder.close(remove=False)
    assert dead(directory) == [Dead(holder.id, {number: number for number in range(1, 10_001)})]


def test_nobody_else_recovers_a_holder_meanwhile(directory):
    Holder.create(directory, new_id).close(remove=False)
    recovering = Holders(directory).dead()
    assert next(recovering)
    assert dead(directory) == []
    assert list(recovering) == []
    assert os.listdir(directory) == []


def test_a_recovery_that_fails_leaves_the_holder_for_the_next(directory):
    holder = Holder.create(directory, new_id)
    use(holder, 1, 3)
    holder.close(remove=False)
    recovering = Holders(directory).dead()
    next(recovering)
    recovering.close()
    assert dead(directory) == [Dead(holder.id, {1: 3})]


def test_many_recover_each_holder_once(directory):
    ids = []
    for _ in range(50):
        holder = Holder.create(directory, new_id)
        ids.append(holder.id)
        holder.close(remove=False)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(dead(directory))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.id for each in found} == set(ids)
    assert os.listdir(directory) == []


def test_holders_that_are_made_while_others_look_for_the_dead_stay(directory):
    stop = threading.Event()

    def look():
        while not stop.is_set():
            dead(directory)

    looking = threading.Thread(target=look)
    looking.start()
    made = [Holder.create(directory, new_id) for _ in range(50)]
    stop.set()
    looking.join()
    assert all(Holders(directory).exists(holder.id) for holder in made)
    for holder in made:
        holder.close(remove=True)


def test_after_another_start_of_the_machine_nothing_is_known_of_the_dead(directory, monkeypatch):
    holder = Holder.create(directory, new_id)
    use(holder, 1, 3)
    holder.close(remove=False)
    monkeypatch.setattr(module, "_boot_id", lambda: b"another start...")
    assert dead(directory) == [Dead(holder.id, None)]


def test_on_a_machine_that_does_not_tell_its_starts_nothing_is_known_of_the_dead(directory, monkeypatch):
    monkeypatch.setattr(module, "_boot_id", lambda: None)
    holder = Holder.create(directory, new_id)
    use(holder, 1, 3)
    holder.close(remove=False)
    assert dead(directory) == [Dead(holder.id, None)]


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 2**16, b"rubbish" * 2**14])
def test_of_a_damaged_file_nothing_is_known(directory, content):
    directory.mkdir()
    (directory / "01J").write_bytes(content)
    assert dead(directory) == [Dead("01J", None)]


def test_a_file_that_died_while_it_grew_tells_of_all_that_was_in_use(directory):
    holder = Holder.create(directory, new_id)
    use(holder, 1, 3)
    holder.close(remove=False)
    with (directory / holder.id).open("ab") as file:
        file.write(b"\0" * 1000)
    assert dead(directory) == [Dead(holder.id, {1: 3})]


def test_only_the_owner_reads_the_files(directory):
    holder = Holder.create(directory, new_id)
    assert oct(directory.stat().st_mode)[-3:] == "700"
    assert oct((directory / holder.id).stat().st_mode)[-3:] == "600"
    holder.close(remove=True)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(directory, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    holder = Holder.create(directory, new_id)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        Holder.create(directory, new_id)
    assert os.listdir(directory) == [holder.id]
    for number in range(1, 4095):
        use(holder, number, 1)
    with pytest.raises(OSError, match="No space"):
        holder.place(5000)
    holder.close(remove=True)


def test_a_holder_can_be_closed_twice(directory):
    holder = Holder.create(directory, new_id)
    holder.close(remove=False)
    holder.close(remove=True)
    assert len(dead(directory)) == 1


# --- what others wait for


def test_a_holder_is_told_once_which_lease_others_wait_for(directory):
    holder, holders = Holder.create(directory, new_id), Holders(directory)
    use(holder, 7, 42)
    assert holder.wanted() == 0
    holders.want(holder.id, 3)
    holders.want(holder.id, 7)
    assert [holder.wanted(), holder.wanted()] == [7, 0]
    holder.close(remove=False)
    assert dead(directory) == [Dead(holder.id, {7: 42})]


def test_a_holder_that_is_gone_is_told_nothing(directory):
    holder, holders = Holder.create(directory, new_id), Holders(directory)
    holder.close(remove=True)
    holders.want(holder.id, 7)
    assert not holders.exists(holder.id)
    assert holders.used(holder.id) == {}


def test_a_file_that_tells_nothing_is_not_taken_for_one_that_says_nothing_was_used(directory):
    holder, holders = Holder.create(directory, new_id), Holders(directory)
    assert holders.used(holder.id) == {}
    (directory / holder.id).write_bytes(b"damaged")
    assert holders.used(holder.id) is None
    os.truncate(directory / holder.id, 64 * 2**10)
    holder.close(remove=True)
