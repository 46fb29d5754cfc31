"""What a feature answers when no model can."""

import asyncio
import contextvars
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from holdfast.chat import Message, Request, Text
from holdfast.errors import InternalError, ProviderFailed
from holdfast.gateway.last_resort import THREADS, Computed, Fixed, ready
from holdfast.gateway.settings import LastResort

REQUEST = Request(model="answer", messages=(Message(role="user", parts=(Text(text="Where is it?"),)),))


async def answer(resort: Any) -> str:
    return await resort.answer(REQUEST, ProviderFailed())


def now(resort: Any) -> str:
    """What is answered without waiting for anything."""
    coroutine = answer(resort)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


# --- what is known beforehand


def test_a_message_is_answered_as_it_is():
    assert now(ready(LastResort(message=" {{ name }}\n"), str, Path())) == " {{ name }}\n"
    assert now(ready(LastResort(message=""), str, Path())) == ""


def test_a_file_is_answered_as_it_is():
    texts = {"sorry.md": "Sorry, {{ name }}.\n"}
    assert now(ready(LastResort(file="sorry.md"), texts.__getitem__, Path())) == "Sorry, {{ name }}.\n"


def test_an_object_is_answered_as_json_in_its_own_order():
    said = now(ready(LastResort(object={"reply": "später", "at": [1, 2.5, None, True], "a": {}}), str, Path()))
    assert said == '{"reply":"später","at":[1,2.5,null,true],"a":{}}'


def test_what_is_known_beforehand_is_made_once():
    assert ready(LastResort(message="Sorry."), str, Path()) == Fixed("Sorry.")


# --- functions


def test_a_function_that_can_not_be_found_is_told(tmp_path):
    with pytest.raises(ValueError, match='there is no module "kelp_nowhere"'):
        ready(LastResort(function="kelp_nowhere:answer"), str, tmp_path)


async def test_a_function_gets_the_request_and_the_code_of_what_went_wrong():
    assert await answer(Computed("m:f", lambda request, code: f"{request.messages[-1].text} {code}")) == (
        "Where is it? provider_failed"
    )


async def test_a_coroutine_function_is_awaited_where_the_gateway_runs():
    async def function(request, code):
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert await answer(Computed("m:f", function)) == threading.current_thread().name


async def test_another_function_has_a_thread_of_its_own_with_the_context_of_the_call():
    whose = contextvars.ContextVar("whose", default="nobody's")
    whose.set("mine")

    def function(request, code):
        return {"thread": threading.current_thread().name, "whose": whose.get()}

    assert json.loads(await answer(Computed("m:f", function))) == {"thread": "last-resort", "whose": "mine"}


async def test_a_function_may_return_what_is_awaited():
    async def later(code):
        return f"{code}!"

    class Desk:
        async def __call__(self, request, code):
            return code

    assert await answer(Computed("m:f", lambda request, code: later(code))) == "provider_failed!"
    assert await answer(Computed("m:f", Desk())) == "provider_failed"


@pytest.mark.parametrize("said", [{"a": "ä"}, [1, "b"], {}, []])
async def test_a_dict_or_a_list_is_answered_as_json(said):
    assert json.loads(await answer(Computed("m:f", lambda request, code: said))) == said


def fails(error: BaseException):
    def function(request, code):
        raise error

    return function


async def cancels_itself(request, code):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda request, code: None, "expected a text, or a dict or list for JSON, got NoneType"),
        (lambda request, code: b"Sorry.", "got bytes"),
        (lambda request, code: 3, "got int"),
        (lambda request, code: "\ud800", "surrogates not allowed"),
        (lambda request, code: {"a": object()}, "object"),
        (lambda request, code: {"a": "\ud800"}, "surrogates not allowed"),
        (fails(ZeroDivisionError("by zero")), "by zero"),
        (fails(StopIteration()), "StopIteration"),
        (fails(SystemExit(3)), "SystemExit: 3"),
        (fails(KeyboardInterrupt()), "KeyboardInterrupt"),
        (fails(TimeoutError("too late")), "too late"),
        (cancels_itself, "it was cancelled"),
    ],
)
async def test_a_function_that_has_no_answer_fails_in_a_typed_way_and_the_log_says_why(function, reason, caplog):
    with pytest.raises(InternalError) as failed:
        await answer(Computed("kelp:answer", function))
    assert failed.value.message == "The last resort kelp:answer failed."
    assert "the last resort kelp:answer failed" in caplog.text
    assert reason in caplog.text


async def test_a_call_that_is_given_up_waits_for_no_function():
    began, end = threading.Event(), threading.Event()

    def function(request, code):
        began.set()
        return end.wait(10)

    call = asyncio.create_task(answer(Computed("m:f", function)))
    await asyncio.to_thread(began.wait)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    end.set()


async def test_functions_that_never_end_keep_none_waiting_beyond_their_number():
    end, running = threading.Event(), threading.Semaphore(0)

    def function(request, code):
        running.release()
        end.wait(10)
        return "late"

    resort = Computed("m:f", function)
    calls = [asyncio.create_task(answer(resort)) for _ in range(THREADS + 1)]
    for _ in range(THREADS):
        await asyncio.to_thread(running.acquire)
    calls[0].cancel()  # its function still runs, and no other takes its place
    await asyncio.wait([calls[0]])
    assert not running.acquire(blocking=False)
    end.set()
    assert await asyncio.gather(*calls[1:]) == ["late"] * THREADS


def test_a_function_that_ends_after_the_gateway_did_disturbs_nobody():
    end, ended = threading.Event(), threading.Event()

    def function(request, code):
        end.wait(10)
        ended.set()

    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer(Computed("m:f", function)), 0.01)

    asyncio.run(given_up())
    end.set()
    assert ended.wait(10)


async def test_no_thread_to_be_had_is_a_failure_that_leaves_the_next_call_its_place(monkeypatch):
    resort = Computed("m:f", lambda request, code: "Sorry.")

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(THREADS + 1):
            with pytest.raises(InternalError):
                await answer(resort)
    assert await answer(resort) == "Sorry."
