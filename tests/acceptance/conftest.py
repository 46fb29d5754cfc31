"""A real gateway process between the real SDKs and simulated providers, over real sockets."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from acceptance.contracts import FILES, contracts
from acceptance.gateways import CALLER_KEY, Gateway, configuration, running_gateway
from acceptance.sdks import opened
from holdfast.providers.simulated import RunningSimulator, running_simulator

Serve = Callable[..., Gateway]


@pytest.fixture(scope="session")
def simulator() -> Iterator[RunningSimulator]:
    """The providers, in a thread of their own."""
    with running_simulator() as running:
        yield running


@pytest.fixture
def providers(simulator: RunningSimulator) -> RunningSimulator:
    """The providers as a test finds them: behaving well, with nothing recorded."""
    simulator.follow({})
    simulator.forget()
    return simulator


@pytest.fixture(scope="session")
def shared_gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests that don't do anything to it."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), configuration(simulator)) as running:
        yield running


@pytest.fixture
def gateway(shared_gateway: Gateway, providers: RunningSimulator) -> Iterator[Gateway]:
    """The shared gateway. What it complains of is shown with a test that fails; a traceback fails any test."""
    with _overheard(shared_gateway):
        yield shared_gateway


@pytest.fixture(scope="session")
def _keeping_gateway(simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("contracts"), contracts(simulator), files=FILES) as running:
        yield running


@pytest.fixture
def keeping(_keeping_gateway: Gateway, providers: RunningSimulator) -> Iterator[Gateway]:
    """The gateway whose features have contracts, as `gateway` otherwise."""
    with _overheard(_keeping_gateway):
        yield _keeping_gateway


@contextlib.contextmanager
def _overheard(gateway: Gateway) -> Iterator[None]:
    before = len(gateway.stderr)
    yield
    said = gateway.stderr[before:]
    print(said)  # noqa: T201 - pytest shows it
    assert "Traceback" not in said


@pytest.fixture
def serve(tmp_path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Start gateways of a test's own: `serve(config_text, *args, files={...})`, arguments as `running_gateway`'s."""
    with contextlib.ExitStack() as stack:
        started: list[Gateway] = []

        def start(config: str, *args: str, files=None) -> Gateway:
            directory = tmp_path / f"gateway{len(started)}"
            started.append(stack.enter_context(running_gateway(directory, config, *args, files=files)))
            return started[-1]

        yield start
        for one in started:
            print(one.stderr)  # noqa: T201 - pytest shows it


# --- SDKs -------------------------------------------------------------------------------------------------------------


def _both(synchronous: type, asynchronous: type) -> Any:
    """Make a fixture of a client for the session, of either kind."""
    kinds = [synchronous, asynchronous]
    return pytest_asyncio.fixture(scope="session", loop_scope="session", params=kinds, ids=["sync", "async"])


_both_openai = _both(openai.OpenAI, openai.AsyncOpenAI)
_both_anthropic = _both(anthropic.Anthropic, anthropic.AsyncAnthropic)


def _connected(kind: Any, url: str) -> contextlib.AbstractAsyncContextManager[Any]:
    return opened(kind(base_url=url, api_key=CALLER_KEY, max_retries=0))


@_both_openai
async def _openai_client(request, shared_gateway):
    async with _connected(request.param, f"{shared_gateway.url}/v1") as client:
        yield client


@_both_anthropic
async def _anthropic_client(request, shared_gateway):
    async with _connected(request.param, shared_gateway.url) as client:
        yield client


@_both_openai
async def _keeping_openai(request, _keeping_gateway):
    async with _connected(request.param, f"{_keeping_gateway.url}/v1") as client:
        yield client


@_both_anthropic
async def _keeping_anthropic(request, _keeping_gateway):
    async with _connected(request.param, _keeping_gateway.url) as client:
        yield client


@pytest.fixture
def gpt(_openai_client, gateway):
    """The client of the `openai` package, synchronous and not, that knows nothing but the gateway's address."""
    return _openai_client


@pytest.fixture
def claude(_anthropic_client, gateway):
    """The client of the `anthropic` package, synchronous and not."""
    return _anthropic_client


@pytest.fixture
def kept_gpt(_keeping_openai, keeping):
    """The client of the `openai` package at the gateway with contracts."""
    return _keeping_openai


@pytest.fixture
def kept_claude(_keeping_anthropic, keeping):
    """The client of the `anthropic` package at the gateway with contracts."""
    return _keeping_anthropic
