"""A last resort of each form, as the whole gateway gives it."""

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

import holdfast
from holdfast.app import App
from holdfast.client import Holdfast
from holdfast.config import load, parse
from holdfast.errors import CallError, ConfigError

Open = Callable[[str], AbstractAsyncContextManager[Holdfast]]

RESORTS = """\
import asyncio

def words(request, code):
    return f"{request.messages[-1].text} {code}"

async def form(request, code):
    await asyncio.sleep(0)
    return {"model": request.model, "code": code}

def nothing(request, code):
    raise LookupError("nothing is known")
"""


def toml(resort: str) -> str:
    down = '[models.down]\nprovider = "simulated"\nname = "sim-down"\n'
    return down + f'[features.desk]\nmodels = ["down"]\nretries = 0\nlast_resort = {resort}\n'


@pytest.fixture
def gateway(tmp_path: Path) -> Open:
    """Open a gateway whose feature has this last resort, and one model that never answers."""
    (tmp_path / "integration_resorts.py").write_text(RESORTS)
    (tmp_path / "later.md").write_text("Later.\n")

    @asynccontextmanager
    async def open(resort: str) -> AsyncIterator[Holdfast]:
        (tmp_path / "holdfast.toml").write_text(toml(resort))
        async with holdfast.open(tmp_path / "holdfast.toml") as opened:
            yield opened

    return open


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each test import its own module."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("integration_resorts", None)


@pytest.mark.parametrize(
    ("resort", "text"),
    [
        ("{ message = 'Not now.' }", "Not now."),
        ("{ file = 'later.md' }", "Later.\n"),
        ("{ object = { reply = [1] } }", '{"reply":[1]}'),
        ("{ function = 'integration_resorts:words' }", "Hello! overloaded"),
        ("{ function = 'integration_resorts:form' }", '{"model":"desk","code":"overloaded"}'),
    ],
)
async def test_each_form_is_answered_whole_and_as_a_stream(gateway: Open, resort: str, text: str) -> None:
    async with gateway(resort) as h:
        answer = await h.chat("desk", "Hello!")
        assert (answer.text, answer.outcome, answer.model) == (text, "last_resort", None)
        assert "".join([chunk.text async for chunk in h.stream("desk", "Hello!")]) == text


async def test_a_function_without_an_answer_leaves_the_error_that_led_to_it(
    gateway: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway("{ function = 'integration_resorts:nothing' }") as h:
        with caplog.at_level(logging.ERROR), pytest.raises(CallError) as failed:
            await h.chat("desk", "Hello!")
    assert failed.value.code == "overloaded"
    assert "the last resort integration_resorts:nothing failed: nothing is known" in caplog.text


async def test_a_worker_that_can_not_import_the_function_says_so(tmp_path: Path) -> None:
    configuration = parse({"holdfast.toml": toml("{ function = 'integration_gone:words' }")}, base=tmp_path)
    with pytest.raises(ConfigError) as wrong:
        async with App(configuration):
            pass
    assert str(wrong.value).startswith(
        f"{tmp_path / 'holdfast.toml'}: features.desk.last_resort.function: there is no module"
    )


async def test_a_file_that_changes_is_answered_from_the_reload_on(tmp_path: Path) -> None:
    path = tmp_path / "holdfast.toml"
    path.write_text(toml("{ file = 'later.md' }"))
    (tmp_path / "later.md").write_text("Later.")
    async with App(load(path)) as app:
        h = Holdfast(app.pipeline, app.new_id)
        assert (await h.chat("desk", "Hello!")).text == "Later."
        (tmp_path / "later.md").write_text("Tomorrow.")
        await app.reload(load(path))
        assert (await h.chat("desk", "Hello!")).text == "Tomorrow."
