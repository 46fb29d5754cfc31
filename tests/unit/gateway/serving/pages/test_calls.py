"""The pages about calls where several ask at once."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import TooManyTries
from holdfast.gateway.access import LOCAL
from holdfast.gateway.serving.pages.calls import Calls
from holdfast.gateway.serving.routes import Query
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.subjects import SubjectHasher
from log_samples import make_call


async def test_one_search_runs_at_a_time_and_the_gateway_says_that_it_is_busy(tmp_path: Path) -> None:
    with closing(SqliteLog(tmp_path / "log.db")) as log:
        log.append([make_call(1)])
        calls = Calls(log, SubjectHasher.load(tmp_path), SystemClock(), None)
        query = Query("", "text=hello", caller=LOCAL)
        page, refused = await asyncio.gather(calls.search(query), calls.search(query), return_exceptions=True)
        assert not isinstance(page, BaseException)
        assert json.loads(page.body)["looked"] == 1
        with pytest.raises(TooManyTries, match="Another search is under way") as raised:
            raise refused if isinstance(refused, BaseException) else AssertionError
        assert (raised.value.status, raised.value.retry_after) == (429, 3.0)
        assert json.loads((await calls.search(query)).body)["looked"] == 1
