"""What the simulated providers do, as the gateway's own side of each wire understands it. No sockets."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from holdfast.chat import Chunk, Message, Reply, Request, Text
from holdfast.clock import Clock
from holdfast.errors import BadRequest, ContentRefused, ContextTooLong, ProviderError
from holdfast.gateway.answers.seam import Seam
from holdfast.http.sse import SSEParser
from holdfast.providers.anthropic import AnthropicUpstream
from holdfast.providers.base import Endpoint, Upstream
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.prefill import refuses_prefill
from holdfast.providers.simulated.malformed import MALFORMATIONS
from holdfast.providers.simulated.providers import Incoming, Providers
from holdfast.providers.simulated.recorder import Record, Recorder
from holdfast.providers.simulated.script import from_table

UPSTREAMS: dict[str, type[Upstream]] = {
    "openai": OpenAIUpstream,
    "anthropic": AnthropicUpstream,
    "google": GoogleUpstream,
}
BASES = {"openai": "http://s/v1", "anthropic": "http://s", "google": "http://s/v1beta"}
WIRES = pytest.mark.parametrize("wire", UPSTREAMS)
STREAMS = pytest.mark.parametrize("stream", [True, False])


class Simulation:
    """Simulated providers, asked and understood over one wire."""

    def __init__(self, wire: str, name: str, script: Any = None, clock: Clock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.providers = Providers(from_table(script or {}), self.clock, Recorder(100))
        self.upstream = UPSTREAMS[wire](Endpoint(model=name, base_url=BASES[wire], prefill=True))
        self.record: Record | None = None
        self.chunks: list[Chunk] = []
        self.complete = False

    def ask(self, text: str = "one two three four five", said: str = "", *, stream: bool = False) -> str:
        """Return the text of the answer. Raises ProviderError as the gateway would."""
        reply = self.reply(text, said, stream=stream)
        return reply if isinstance(reply, str) else reply.text

    def reply(self, text: str, said: str = "", *, stream: bool = False, kept: bool = False) -> Reply | str:
        question = Message(role="user", parts=(Text(text=text),))
        request = Request(model="m", messages=(question,), stream=stream, max_tokens=10_000)
        sent = self.upstream.encode_continued(request, said)
        url = urlsplit(sent.url)
        headers = {name.decode(): value.decode() for name, value in sent.headers}
        incoming = Incoming("POST", url.path + (f"?{url.query}" if url.query else ""), headers, sent.body, kept)
        self.record = Record(id=1, connection=1, at=0.0, time=0.0, method="POST", path=url.path, headers=[], raw=b"")
        plan = self.providers.respond(incoming, self.record)
        if plan.status >= 300:
            raise self.upstream.error(plan.status, (), plan.body)
        if not plan.stream:
            return self.upstream.decode(plan.body)
        decoder, parser = self.upstream.stream(), SSEParser()
        self.chunks = [chunk for event in parser.feed(plan.body) for chunk in decoder.feed(event)]
        self.complete = decoder.complete
        return "".join([chunk.text for chunk in self.chunks])

    @property
    def faults(self) -> list[str]:
        assert self.record is not None
        return self.record.faults


class ManualClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time


@WIRES
@STREAMS
def test_a_model_is_throttled_so_many_times_and_then_fine(wire, stream):
    simulation = Simulation(wire, "gpt:status=429,retry_after=0.25,times=2")
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            simulation.ask(stream=stream)
        assert caught.value.status == 429
    assert simulation.ask(stream=stream) == "one two three four five"


def test_requests_count_for_each_name_apart():
    simulation = Simulation("openai", "gpt:status=500,times=1")
    other = OpenAIUpstream(Endpoint(model="gpt:status=503,times=1", base_url=BASES["openai"]))
    with pytest.raises(ProviderError):
        simulation.ask()
    assert simulation.ask()
    simulation.upstream = other
    with pytest.raises(ProviderError):
        simulation.ask()
    assert simulation.ask()


def test_a_new_script_counts_anew():
    simulation = Simulation("openai", "gpt:status=500,times=1")
    for _ in range(2):
        simulation.providers.follow(from_table({}))
        with pytest.raises(ProviderError):
            simulation.ask()


@WIRES
def test_a_model_that_flaps_is_down_and_up_by_the_clock(wire):
    clock = ManualClock()
    simulation = Simulation(wire, "gpt:status=503,down=5s,up=10s", clock=clock)
    down = []
    for second in range(31):
        clock.time = 1000.0 + second
        try:
            simulation.ask()
        except ProviderError:
            down.append(second)
    assert down == [*range(5), *range(15, 20), 30]


def test_a_fault_on_kept_connections_spares_the_first_request_of_each():
    simulation = Simulation("openai", "gpt:status=500,on=kept")
    simulation.reply("up?")
    with pytest.raises(ProviderError):
        simulation.reply("up?", kept=True)
    simulation.reply("up?")
    assert simulation.faults == []


@WIRES
@STREAMS
@pytest.mark.parametrize("how", ["prompt", "error", "block", "answer"])
def test_refused_content_is_understood_however_it_is_refused(wire, stream, how):
    simulation = Simulation(wire, f"gpt:refuse={how}")
    try:
        reply = simulation.reply("one two three four", stream=stream)
    except ContentRefused:
        assert how != "answer"
        return
    assert how != "error"
    if isinstance(reply, Reply):
        assert reply.choices[0].finish == "refused"
    else:
        assert reply in ("", "one two")


@WIRES
def test_a_refusal_as_an_error_has_an_errors_status(wire):
    with pytest.raises(ContentRefused) as caught:
        Simulation(wire, "gpt:refuse=error").ask()
    assert caught.value.provider_status == 400


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@STREAMS
def test_a_refusal_as_a_block_is_an_answer_without_words(wire, stream):
    assert Simulation(wire, "gpt:refuse=block").ask(stream=stream) == ""


@STREAMS
def test_on_the_google_wire_a_block_says_why(stream):
    with pytest.raises(ContentRefused, match="PROHIBITED_CONTENT"):
        Simulation("google", "gpt:refuse=block").ask(stream=stream)


@WIRES
@STREAMS
def test_a_context_that_is_too_long_is_understood(wire, stream):
    with pytest.raises(ContextTooLong):
        Simulation(wire, "gpt:context=3").ask(stream=stream)


@WIRES
@STREAMS
def test_a_model_that_refuses_a_prefill_is_understood(wire, stream):
    with pytest.raises(BadRequest) as caught:
        Simulation(wire, "gpt:prefill=refuse").ask(said="one two", stream=stream)
    assert refuses_prefill(caught.value)


@WIRES
@STREAMS
@pytest.mark.parametrize(
    ("prefill", "answer"),
    [
        ("continue", " three four five"),
        ("repeat", "one two three four five"),
        ("ignore", "one two three four five"),
    ],
)
def test_a_prefill_is_continued_repeated_or_ignored(wire, stream, prefill, answer):
    assert Simulation(wire, f"gpt:prefill={prefill}").ask(said="one two", stream=stream) == answer


@pytest.mark.parametrize("quirk", ["prefix", "partial", "continue_final_message"])
def test_a_prefill_is_understood_in_the_words_of_every_server_of_the_openai_wire(quirk):
    simulation = Simulation("openai", "gpt")
    endpoint = Endpoint(model="gpt", base_url=BASES["openai"], prefill=True, quirks=frozenset({quirk}))
    simulation.upstream = OpenAIUpstream(endpoint)
    assert simulation.ask(said="one two") == " three four five"


@WIRES
@pytest.mark.parametrize("what", MALFORMATIONS[: MALFORMATIONS.index("bad_json")])
def test_what_loses_nothing_is_understood_with_its_end_and_its_usage(wire, what):
    simulation = Simulation(wire, f"gpt:malformed={what},at=2")
    assert simulation.ask(stream=True) == "one two three four five"
    ends = {chunk.finish for chunk in simulation.chunks if chunk.finish}
    told = [chunk.usage for chunk in simulation.chunks if chunk.usage]
    assert ends == {"stop"}
    assert (told[-1].input_tokens, told[-1].output_tokens) == (5, 5)
    assert simulation.complete


@WIRES
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40))
def test_two_models_give_the_same_answer_to_the_same_prompt(wire, text):
    first, second = Simulation(wire, "gpt"), Simulation(wire, "house")
    assert first.ask(text) == second.ask(text) == text


@WIRES
@given(
    text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.just(" "), min_size=1, max_size=60),
    cut=st.integers(0, 60),
    prefill=st.sampled_from(["continue", "repeat"]),
)
def test_a_seam_joins_a_cut_answer_to_the_model_that_goes_on_with_it(wire, text, cut, prefill):
    sent = text[:cut]
    seam = Seam(sent, continues=True, repeats=prefill == "repeat")
    answer = Simulation(wire, f"gpt:prefill={prefill}").ask(text, seam.prefill, stream=True)
    assume(prefill == "repeat" or not seam.prefill or not answer.startswith(seam.prefill))
    assert sent + seam.feed(answer) + seam.end() == text


@WIRES
def test_a_seam_notices_that_a_model_took_no_notice_of_a_prefill(wire):
    text = "Kelp anchors where water moves, and rock holds still."
    seam = Seam(text[:31], continues=True)
    answer = Simulation(wire, "gpt:prefill=ignore").ask(text, seam.prefill, stream=True)
    assert text[:31] + seam.feed(answer) + seam.end() == text
