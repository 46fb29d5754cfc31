import asyncio
import json
from pathlib import Path

from holdfast.app import App
from holdfast.config import load
from holdfast.gateway.serving.asgi import Query
from log_samples import make_call

CONFIG = """
[models.answer]
provider = "simulated"
name     = "sim-echo"

[log]
flush_ms = 1
"""


async def test_events_that_the_log_could_not_take_are_counted_where_an_operator_looks(tmp_path: Path):
    (tmp_path / "holdfast.toml").write_text(CONFIG)
    async with App(load(tmp_path / "holdfast.toml")) as app:
        _, views = app.asgi()
        assert "events_lost" not in json.loads((await views.ready(Query("", ""))).body)
        app.writer.append(make_call(1, duration_us=None))
        app.writer.append(make_call(2))
        async with asyncio.timeout(5):
            while len(app.writer):
                await asyncio.sleep(0.002)
        ready = await views.ready(Query("", ""))
        assert (ready.status, json.loads(ready.body)["events_lost"]) == (200, 1)
        page = (await views.metrics(Query("", ""))).body.decode()
        assert "holdfast_log_events_lost_total 1" in page.splitlines()
        assert "holdfast_log_queue_calls 0" in page.splitlines()
