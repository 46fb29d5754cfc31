"""What the drill's caller sees of gateways that break their promise: read off real sockets, then judged."""

import asyncio
import contextlib
import json

import pytest

from holdfast.drill.observation import Observation, call
from holdfast.drill.skipping import SkippingLoop
from holdfast.drill.verdict import Expected, Verdict, judge
from holdfast.http.base import HttpRequest
from holdfast.http.pool import PooledTransport

REPLY = "The ferry leaves at six."
WORDS = ["The ", "ferry ", "leaves ", "at ", "six."]
EXPECTED = Expected(deadline=2.0, replies=(REPLY,))
PATIENCE = 7.0
STREAM = "content-type: text/event-stream\r\nconnection: close\r\n"
JSON = "content-type: application/json\r\nconnection: close\r\n"
ANSWERED = "x-holdfast-call: 01J\r\nx-holdfast-outcome: answered\r\nx-holdfast-model: gpt\r\n"


def head(fields: str, status: str = "200 OK") -> str:
    return f"HTTP/1.1 {status}\r\n{fields}\r\n"


def event(payload: object) -> str:
    return f"data: {json.dumps(payload)}\n\n"


def said(text: str) -> str:
    return event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def finish(reason: str = "stop", outcome: str = "answered") -> str:
    told = {"call": "01J", "outcome": outcome, "model": "gpt"}
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "holdfast": told})


def failure(code: str | None) -> dict[str, object]:
    return {"error": {"message": "It went wrong.", "type": "server_error", "code": code}}


DONE = "data: [DONE]\n\n"
ALL = [said(word) for word in WORDS]
WHOLE = json.dumps({"choices": [{"index": 0, "message": {"content": REPLY}, "finish_reason": "stop"}]})
CUT = json.dumps({"choices": [{"index": 0, "message": {"content": "The ferry"}, "finish_reason": "stop"}]})


def observe(*script: str | float, leaves: float | None = None, reset: bool = False) -> Observation:
    """Call a gateway that writes the texts of a script and sleeps for its numbers, then closes the connection."""

    async def scene() -> Observation:
        over = asyncio.Event()

        async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            with contextlib.suppress(ConnectionError):
                for step in script:
                    if isinstance(step, str):
                        writer.write(step.encode())
                        await writer.drain()
                    else:
                        await asyncio.sleep(step)
                if reset:
                    writer.transport.abort()
                writer.close()
                await writer.wait_closed()
            over.set()

        server = await asyncio.start_server(gateway, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = PooledTransport()
        request = HttpRequest("POST", f"http://127.0.0.1:{port}/v1/chat/completions", (), b"{}")
        try:
            return await call(transport, request, stream=True, patience=PATIENCE, leaves=leaves)
        finally:
            await transport.aclose()
            await over.wait()
            server.close()

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(scene())


def verdict(*script: str | float, **how: bool) -> Verdict:
    return judge(observe(*script, **how), EXPECTED)


def test_a_whole_stream_is_seen_with_its_times():
    seen = observe(head(STREAM), 0.5, ALL[0], 0.25, *ALL[1:], finish(), DONE)
    assert (seen.text, seen.finish, seen.done, seen.outcome, seen.model) == (REPLY, "stop", True, "answered", "gpt")
    assert seen.first_token == pytest.approx(0.5, abs=0.1)
    assert seen.longest_gap == pytest.approx(0.25, abs=0.1)
    assert seen.took == pytest.approx(0.75, abs=0.2)
    assert judge(seen, EXPECTED) == Verdict(end="answered", note="by gpt")


def test_a_whole_answer_is_seen_with_its_labels():
    assert verdict(head(JSON + ANSWERED), WHOLE) == Verdict(end="answered", note="by gpt")


def test_a_reset_begins_the_answer_anew():
    begun_anew = event({"choices": [], "holdfast": {"event": "reset"}})
    seen = observe(head(STREAM), said("Once upon"), begun_anew, *ALL, finish(), DONE)
    assert (seen.text, seen.resets) == (REPLY, 1)


def test_what_is_told_of_an_object_is_seen_when_it_comes_and_is_no_text():
    told = [event({"choices": [], "holdfast": {"event": "object", "object": {"at": at}}}) for at in (5, 6)]
    seen = observe(head(STREAM), 0.5, told[0], 0.25, told[1], said('{"at": 6}'), finish(), DONE)
    assert (seen.object, seen.text, len(seen.objects)) == ({"at": 6}, '{"at": 6}', 2)
    assert seen.first_token == pytest.approx(0.5, abs=0.1)
    assert seen.longest_gap == pytest.approx(0.25, abs=0.1)


def test_typed_errors_are_kept_promises():
    body = json.dumps(failure("timeout"))
    assert verdict(head(JSON, "504 Gateway Timeout"), body) == Verdict(end="error", note="timeout")
    assert verdict(head(STREAM), *ALL[:2], event(failure("broken_stream"))).note == "broken_stream"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ((head(STREAM), *ALL[:3], finish(), DONE), "a cut answer presented as success"),
        ((head(STREAM), *ALL[:3], DONE), "does not say why it ended"),
        ((head(STREAM), *ALL[:3]), "neither an end nor an error"),
        ((head(STREAM), *ALL[:3], event(failure("broken_stream")), DONE), "also says it is complete"),
        ((head(STREAM), *ALL[:3], event(failure(None))), "an untyped error"),
        ((head(STREAM), *ALL, 2.2, finish(), DONE), "late: 2"),
        ((head(STREAM), *ALL[:3], 100.0), "hung: no end"),
        ((100.0,), "hung: no end"),
        ((head(JSON + ANSWERED), CUT), "a cut answer presented as success"),
        ((head("connection: close\r\n", "502 Bad Gateway"), "<h1>Bad Gateway</h1>"), "an untyped error: <h1>Bad"),
        ((head(JSON, "500 Internal Server Error"), '{"error": "oops"}'), "an untyped error: oops"),
        ((head(JSON, "503 Service Unavailable"), json.dumps(failure("e17"))), "whose code nobody knows: e17"),
        (("HTTP/1.1 200",), "the connection failed without a word"),
        ((head(STREAM), *ALL, finish(outcome="cancelled"), DONE), "labelled cancelled"),
    ],
)
def test_a_gateway_that_breaks_the_promise_is_found_out(script, why):
    found = verdict(*script)
    assert found.end == "broken"
    assert why in found.note


def test_a_connection_that_is_reset_inside_a_stream_breaks_the_promise():
    found = verdict(head(STREAM + "transfer-encoding: chunked\r\n"), "5\r\ndata:\r\n", 0.1, reset=True)
    assert found.end == "broken"
    assert "the connection failed without a word" in found.note


def test_a_caller_who_hangs_up_is_told_apart_from_a_gateway_that_hangs():
    seen = observe(head(STREAM), *ALL[:2], 3.0, leaves=1.0)
    assert seen.left == pytest.approx(1.0, abs=0.1)
    assert not seen.hung
    assert seen.text == "The ferry "
