"""A real gateway process between the real SDKs and simulated providers, over real sockets."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from acceptance.gateways import Gateway, configuration, running_gateway
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
    before = len(shared_gateway.stderr)
    yield shared_gateway
    said = shared_gateway.stderr[before:]
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
