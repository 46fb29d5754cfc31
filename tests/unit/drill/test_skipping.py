import asyncio
import time

from holdfast.drill.skipping import LoopClock, SkippingLoop


def played(scene):
    """Run a scene on a loop that leaps, and return what it returns with how long it really took."""
    began = time.monotonic()
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        return runner.run(scene()), time.monotonic() - began


def test_an_hour_is_over_in_an_instant_and_is_an_hour_to_all_who_waited():
    async def scene():
        clock = LoopClock(asyncio.get_running_loop())
        began, now = clock.monotonic(), clock.now()
        await asyncio.sleep(3600)
        return clock.monotonic() - began, clock.now() - now

    (waited, passed), took = played(scene)
    assert 3600 <= waited < 3600.5
    assert 3600 <= passed < 3600.5
    assert took < 2


def test_timers_end_in_their_order():
    async def scene():
        ended = []

        async def wait(seconds):
            await asyncio.sleep(seconds)
            ended.append(seconds)

        await asyncio.gather(*map(wait, [30, 0.001, 600, 5, 0.5]))
        return ended

    assert played(scene)[0] == [0.001, 0.5, 5, 30, 600]


def test_no_leap_overtakes_a_thread_at_work():
    async def scene():
        async with asyncio.timeout(10):
            await asyncio.to_thread(time.sleep, 0.1)
        return True

    finished, took = played(scene)
    assert finished
    assert took >= 0.1


def test_no_leap_overtakes_what_is_on_its_way_over_loopback():
    async def scene():
        over = asyncio.Event()

        async def echo(reader, writer):
            while data := await reader.read(100):
                await asyncio.sleep(1)
                writer.write(data)
            writer.close()
            await writer.wait_closed()
            over.set()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        heard = []
        for word in (b"one", b"two", b"three"):
            writer.write(word)
            async with asyncio.timeout(1.5):
                heard.append(await reader.read(100))
        writer.close()
        await writer.wait_closed()
        await over.wait()
        server.close()
        return heard

    assert played(scene)[0] == [b"one", b"two", b"three"]
