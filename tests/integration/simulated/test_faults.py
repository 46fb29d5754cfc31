"""Each fault as it is on the wire, to the byte, on both event loops."""

import asyncio
import re
import socket

import pytest

from holdfast.providers.simulated import Simulator, running_simulator
from integration.simulated.raw import chat, request, send

WIRES = ("openai", "anthropic", "google")
TEXT = "eins zwei drei vier fünf"


@pytest.fixture(params=["asyncio", "uvloop"])
async def sim(request):
    if request.param == "asyncio":
        async with Simulator() as simulator:
            yield simulator
    else:
        with running_simulator() as simulator:
            yield InThread(simulator)


class InThread:
    """A simulator in a thread, where it runs on uvloop, with the methods of one in this loop."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.port = simulator.port

    @property
    def requests(self):
        return self.simulator.requests

    async def wait_for(self, predicate):
        return await asyncio.to_thread(self.simulator.wait_for, predicate)


async def clean(sim, wire="openai", stream=True):
    """What a sound model answers, but for its name."""
    return (await send(sim.port, chat("sim-echo", TEXT, wire=wire, stream=stream, close=True))).payload


def alike(name, payload):
    """Give an answer another model's name, and hide its number and time."""
    payload = re.sub(rb'"model(Version)?":"[^"]*"', rb'"model\1":"%b"' % name.encode(), payload)
    return re.sub(rb'(\d{12}|"created":\d+)', b"#", payload)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_is_cut_with_a_fin_after_so_many_tokens(sim, wire):
    heard = await send(sim.port, chat("sim-echo:cut=3", TEXT, wire=wire))
    whole = alike("x", await clean(sim, wire))
    assert heard.ending == "fin"
    assert not heard.terminated
    assert whole.startswith(alike("x", heard.payload))
    assert b" drei" in heard.payload
    assert b" vier" not in heard.payload
    assert (sim.requests[0].tokens, sim.requests[0].fate) == (3, "cut")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("size", [0, 1, 40])
async def test_a_stream_is_cut_after_exactly_so_many_bytes(sim, wire, size):
    heard = await send(sim.port, chat(f"sim-echo:cut={size}b", TEXT, wire=wire))
    assert (len(heard.payload), heard.ending, heard.terminated) == (size, "fin", False)
    assert sim.requests[0].bytes == size


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_is_cut_inside_a_character(sim, wire):
    heard = await send(sim.port, chat("sim-echo:cut=4u", TEXT, wire=wire))
    assert heard.payload.endswith(b" f\xc3")
    assert heard.ending == "fin"


async def test_a_stream_is_cut_inside_an_event(sim):
    heard = await send(sim.port, chat("sim-echo:cut=2e", TEXT))
    assert heard.payload.count(b"\n\n") == 1
    assert not heard.payload.endswith(b"\n\n")


async def test_a_stream_is_cut_before_its_finish(sim):
    heard = await send(sim.port, chat("sim-echo:cut=end", TEXT))
    assert " fünf".encode() in heard.payload
    assert b'finish_reason":"stop"' not in heard.payload
    assert b"[DONE]" not in heard.payload


@pytest.mark.parametrize("stream", [True, False])
async def test_the_connection_is_closed_before_the_headers(sim, stream):
    assert await send(sim.port, chat("sim-echo:cut=start", TEXT, stream=stream)) == (b"", "fin")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_connection_is_reset_before_the_headers(sim, stream):
    assert await send(sim.port, chat("sim-reset", TEXT, stream=stream)) == (b"", "reset")


@pytest.mark.parametrize("wire", WIRES)
async def test_a_reset_comes_after_everything_before_it_has_arrived(sim, wire):
    heard = await send(sim.port, chat("sim-echo:reset=3", TEXT, wire=wire))
    assert heard.ending == "reset"
    assert b" drei" in heard.payload
    assert b" vier" not in heard.payload
    await sim.wait_for(lambda record: record.fate == "reset")


async def test_a_reset_does_not_lose_a_long_answer(sim):
    heard = await send(sim.port, chat("sim-echo:words=20000,reset=19999"), 2.0)
    assert heard.ending == "reset"
    assert heard.payload.count(b'"content":"') == 19999


@pytest.mark.parametrize("stream", [True, False])
async def test_silence_before_the_headers(sim, stream):
    assert await send(sim.port, chat("sim-silent", TEXT, stream=stream)) == (b"", "open")


@pytest.mark.parametrize("stream", [True, False])
async def test_headers_and_then_silence(sim, stream):
    heard = await send(sim.port, chat("sim-echo:stall=0", TEXT, stream=stream))
    assert heard.head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (heard.payload, heard.ending) == (b"", "open")


async def test_a_stall_after_so_many_tokens(sim):
    heard = await send(sim.port, chat("sim-echo:stall=2", TEXT))
    assert b" zwei" in heard.payload
    assert b" drei" not in heard.payload
    assert heard.ending == "open"


async def test_a_stall_for_a_while_goes_on(sim):
    heard = await send(sim.port, chat("sim-echo:stall=2,for=100ms,close=true", TEXT), 1.0)
    assert heard.terminated
    record = sim.requests[0]
    assert record.ended_at - record.first_byte_at >= 0.099


async def test_a_trickle_arrives_byte_by_byte_and_whole(sim):
    heard = await send(sim.port, chat("sim-echo:trickle=1,every=1ms,close=true", "kelp"), 1.0)
    assert heard.data.partition(b"\r\n\r\n")[2].startswith(b"1\r\nd\r\n1\r\na\r\n")
    assert heard.payload.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("position", "share"), [("2", 0.4), ("10b", None), ("end", 1.0), ("1e", 0.5)])
async def test_a_whole_answer_is_cut_short_of_its_content_length(sim, position, share):
    model = f"sim-echo:cut={position}"
    heard = await send(sim.port, chat(model, TEXT, stream=False))
    length = int(heard.head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert heard.ending == "fin"
    expected = 10 if share is None else min(int(length * share), length - 1)
    assert len(heard.payload) == expected


async def test_a_length_that_is_too_long(sim):
    heard = await send(sim.port, chat("sim-echo:wrong_length=7", TEXT, stream=False))
    assert f"content-length: {len(heard.payload) + 7}".encode() in heard.head
    assert heard.ending == "fin"


@pytest.mark.parametrize(("announced", "said"), [("true", True), ("false", False)])
async def test_the_connection_closes_after_a_reply_on_keep_alive(sim, announced, said):
    heard = await send(sim.port, chat(f"sim-echo:close={announced}", TEXT, stream=False))
    assert heard.ending == "fin"
    assert (b"connection: close" in heard.head) == said
    assert sim.requests[0].fate == "complete"


async def test_without_a_fault_the_connection_stays_open(sim):
    heard = await send(sim.port, chat("sim-echo", TEXT) * 2)
    assert heard.ending == "open"
    assert heard.data.count(b"HTTP/1.1 200 OK") == 2
    assert [record.connection for record in sim.requests] == [1, 1]


async def test_a_connection_that_was_kept_alive_is_reset_when_it_is_used_again(sim):
    heard = await send(sim.port, chat("sim-echo:reset=start,on=kept", TEXT) * 2)
    assert (heard.data.count(b"HTTP/1.1 200 OK"), heard.ending) == (1, "reset")
    again = await send(sim.port, chat("sim-echo:reset=start,on=kept", TEXT))
    assert again.ending == "open"
    assert [record.connection for record in sim.requests] == [1, 1, 2]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_fault_strikes_so_many_requests_and_then_no_more(sim, wire, stream):
    one = chat("sim-echo:status=429,retry_after=0.25,times=2", TEXT, wire=wire, stream=stream)
    heard = await send(sim.port, one * 3)
    assert re.findall(rb"HTTP/1.1 (\d+)", heard.data) == [b"429", b"429", b"200"]
    assert heard.data.count(b"retry-after: 1\r\nretry-after-ms: 250\r\n") == 2


async def test_a_stream_may_end_with_the_connection_alone(sim):
    heard = await send(sim.port, chat("sim-echo:framing=close", TEXT))
    assert b"chunked" not in heard.head
    assert heard.ending == "fin"
    assert heard.payload.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(("accept", "ending"), [("close", "fin"), ("reset", "reset"), ("ignore", "open")])
async def test_a_connection_fails_right_after_it_was_accepted(accept, ending):
    async with Simulator({"accept": accept}) as sim:
        heard = await send(sim.port, b"")
        assert heard == (b"", ending)
        assert sim.requests == []


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 529])
async def test_any_status_comes_in_the_envelope_of_its_wire(sim, wire, status):
    heard = await send(sim.port, chat(f"sim-echo:status={status},retry_after=3", TEXT, wire=wire, close=True))
    assert heard.head.startswith(b"HTTP/1.1 %d " % status)
    assert b"retry-after: 3\r\n" in heard.head
    assert b'"error":{' in heard.payload


@pytest.mark.parametrize("wire", WIRES)
async def test_an_error_event_in_the_middle_of_a_stream(sim, wire):
    heard = await send(sim.port, chat("sim-echo:error_event=2", TEXT, wire=wire, close=True))
    assert heard.payload.index(b" zwei") < heard.payload.index(b'"error":{')
    assert b" drei" not in heard.payload
    assert heard.terminated


async def test_a_malformed_event_stands_after_so_many_tokens(sim):
    heard = await send(sim.port, chat("sim-echo:malformed=bad_json,at=2", TEXT, close=True))
    assert heard.payload.index(b" zwei") < heard.payload.index(b'"choi\n\n') < heard.payload.index(b" drei")


async def test_a_byte_is_never_written_before_its_time():
    async with Simulator({"default": "ttft=60ms,tps=50"}) as sim:
        await send(sim.port, chat("x:close=true", TEXT), 1.0)
        record = sim.requests[0]
        assert record.headers_at - record.at < 0.05
        assert record.first_byte_at - record.at >= 0.058
        assert record.ended_at - record.at >= 0.138


async def test_late_headers_wait_for_the_first_token(sim):
    await send(sim.port, chat("sim-echo:ttft=60ms,late_headers=true,close=true", TEXT), 1.0)
    assert sim.requests[0].headers_at - sim.requests[0].at >= 0.058


# --- clients that misbehave -------------------------------------------------------------------------------------------


async def test_a_client_that_hangs_up_is_noticed_at_once(sim):
    _, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(chat("sim-echo:words=1000,tps=100"))
    await sim.wait_for(lambda record: record.tokens >= 3)
    left = asyncio.get_running_loop().time()
    writer.transport.abort()
    record = await sim.wait_for(lambda record: record.fate == "hung_up")
    assert record.hung_up_at - left < 0.1
    assert 3 <= record.tokens < 100


async def test_a_client_that_hangs_up_on_a_stall_is_noticed(sim):
    await send(sim.port, chat("sim-silent", TEXT), 0.05)
    record = await sim.wait_for(lambda record: record.hung_up_at is not None)
    assert (record.fate, record.tokens) == ("held", 0)


async def test_a_client_that_does_not_read_stops_the_stream(sim):
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", sim.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
    writer.write(chat("sim-echo:words=60000"))
    await sim.wait_for(lambda record: record.tokens > 1000)
    writer.transport.pause_reading()
    await asyncio.sleep(0.2)
    assert sim.requests[0].fate == "pending"
    writer.transport.resume_reading()
    while b"[DONE]" not in (await reader.read(2**20)):
        pass
    writer.transport.abort()
    assert sim.requests[0].tokens == 60_000


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"],
)
async def test_what_is_not_http_is_answered_with_400(sim, junk):
    heard = await send(sim.port, junk)
    assert heard.head.startswith(b"HTTP/1.1 400 ")
    assert heard.ending in ("fin", "reset")


async def test_headers_without_end_are_refused(sim):
    heard = await send(sim.port, b"GET / HTTP/1.1\r\n" + b"x-fill: %b\r\n" % (b"y" * 8000) * 20, 1.0)
    assert b"too long" in heard.data


async def test_a_client_may_ask_before_it_sends_its_body(sim):
    data = request("/v1/chat/completions", {"model": "m", "messages": []}, "expect: 100-continue")
    assert (await send(sim.port, data, 0.1)).data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")
