"""Database files that several processes make at once."""

import threading
from pathlib import Path

import pytest

from holdfast.database import open_reader, open_writer
from holdfast.errors import StateError
from holdfast.state.files import STATE


@pytest.mark.parametrize("round", range(5))
def test_any_number_of_connections_may_make_a_file_at_once(tmp_path: Path, round: int) -> None:
    path, begin, errors = tmp_path / "state.db", threading.Barrier(8), []

    def make() -> None:
        begin.wait()
        try:
            open_writer(path, STATE, "async").close()
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    open_reader(path, STATE).close()
