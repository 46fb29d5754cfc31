from pathlib import Path

import pytest

from holdfast.errors import StateError
from holdfast.state.spending import Spending
from holdfast.state.usage import used
from spenders import ManualClock, Worker, calls, requests

LIMIT = requests(1000)


@pytest.fixture
async def worker(tmp_path):
    worker = Worker(tmp_path / "state.db", ManualClock())
    yield worker
    await worker.close()


def seen(worker: Worker) -> int:
    """What another process sees of the limit."""
    reader = Spending(worker.spending.path, read_only=True)
    try:
        return used(reader).get((LIMIT.meter, LIMIT.window.start(worker.clock.now())), 0)
    finally:
        reader.close()


async def test_what_a_worker_holds_and_has_not_used_does_not_count(worker):
    assert seen(worker) == 0
    reservation = await worker.reserve(calls(3), LIMIT)
    [window] = worker.spending.spent()
    assert window.drawn > 3
    assert seen(worker) == 3
    reservation.settle(2, None, None)
    assert seen(worker) == 2


async def test_it_stays_when_the_worker_is_gone(worker):
    (await worker.reserve(calls(3), LIMIT)).settle(3, None, None)
    await worker.budgets.close()
    assert seen(worker) == 3


async def test_all_of_a_lease_counts_of_which_nobody_can_tell_what_was_used(worker):
    (await worker.reserve(calls(3), LIMIT)).settle(3, None, None)
    [file] = Path(worker.spending.directory).iterdir()
    content = file.read_bytes()
    file.unlink()
    [window] = worker.spending.spent()
    assert seen(worker) == window.drawn
    file.write_bytes(b"damaged")
    assert seen(worker) == window.drawn
    file.write_bytes(content)
    assert seen(worker) == 3


async def test_a_file_that_can_not_be_read_is_an_error(worker):
    (await worker.reserve(calls(3), LIMIT)).settle(3, None, None)
    [file] = Path(worker.spending.directory).iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(StateError):
        seen(worker)
    file.rmdir()
