"""Examples that are near by the vectors of a model over HTTP."""

import pytest

from holdfast.chat import Message, Request, Text
from holdfast.embed.near import BATCH
from holdfast.errors import ProviderError
from holdfast.gateway.catalog import Model
from holdfast.gateway.embedding import embedder
from holdfast.gateway.questions.examples import ready
from holdfast.gateway.settings import Examples
from holdfast.http.base import Timeouts
from holdfast.http.pool import PooledTransport
from holdfast.providers.base import Endpoint
from holdfast.providers.google import GoogleUpstream
from holdfast.providers.openai import OpenAIUpstream
from holdfast.providers.simulated import Simulator

FILE = "\n".join(f'{{"input": "kelp number {at}", "output": "{at}"}}' for at in range(2 * BATCH + 1))
SETTINGS = Examples(file="examples.jsonl", select="nearest", k=1, embeddings="vectors")


@pytest.fixture
async def sim():
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def transport():
    pooled = PooledTransport()
    yield pooled
    await pooled.aclose()


def model(sim: Simulator, transport: PooledTransport, wire: str = "openai", name: str = "sim-echo") -> Model:
    upstream = {"openai": OpenAIUpstream, "google": GoogleUpstream}[wire]
    endpoint = Endpoint(model=name, base_url=sim.url(wire), api_key="key")
    return Model(name="vectors", provider=wire, upstream=upstream(endpoint), transport=transport, timeouts=Timeouts())


@pytest.mark.parametrize("wire", ["openai", "google"])
async def test_the_vectors_of_any_wire_tell_what_is_near(wire, sim, transport):
    found = ready(SETTINGS, lambda _: FILE, embed=embedder(model(sim, transport, wire), 2**20))
    request = Request(model="answer", messages=(Message(role="user", parts=(Text(text="number 40, please"),)),))
    shown = await found.messages(request)
    assert shown[-1].text == "40"
    assert len(sim.requests) == 4  # three batches, and the call itself


async def test_what_a_provider_does_wrong_leaves_the_choice_to_words(sim, transport, caplog):
    embed = embedder(model(sim, transport, name="sim-down"), 2**20)
    with pytest.raises(ProviderError):
        await embed(["kelp"])
    found = ready(SETTINGS, lambda _: FILE, embed=embed)
    request = Request(model="answer", messages=(Message(role="user", parts=(Text(text="number 40, please"),)),))
    assert (await found.messages(request))[-1].text == "40"
    assert "examples.jsonl: chosen by words" in caplog.text


async def test_an_answer_longer_than_allowed_is_a_failure(sim, transport):
    with pytest.raises(ProviderError):
        await embedder(model(sim, transport), 100)(["kelp"])
