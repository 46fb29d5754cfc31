"""A gateway for each module of the fault table, and what became of its cases."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio

from acceptance.gateways import Gateway, running_gateway
from acceptance.resilience.table import TEXT, Case, Stage, play
from holdfast.providers.simulated import RunningSimulator, running_simulator

GATEWAY = "[gateway]\nretry_share = 1.0\nhedge_share = 1.0\n\n[log]\nflush_ms = 10\n\n"
"""The budgets are tested by themselves; here no case shall spend what another needs."""
FILES = {
    "resort.md": "# Sorry\n\nNot *now*. 🌊\n",
    "resort.py": "def answer(request, code):\n    return code\n",
}
"""What last resorts are made of."""


@pytest.fixture(scope="module")
def cases(request: pytest.FixtureRequest) -> list[Case]:
    """The cases of this module that were selected."""
    items = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    found = [item.callspec.params["case"] for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def stage_providers(cases: list[Case]) -> Iterator[RunningSimulator]:
    """The providers of this module's cases."""
    models = {name: behaviour for case in cases for name, behaviour in case.behaviours().items()}
    with running_simulator({"default": {"text": TEXT}, "models": models}) as running:
        yield running


@pytest.fixture(scope="module")
def stage_gateway(
    cases: list[Case], stage_providers: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The gateway of this module's cases."""
    config = GATEWAY + "".join([case.tables(stage_providers) for case in cases])
    with running_gateway(tmp_path_factory.mktemp("gateway"), config, files=FILES) as running:
        yield running
        assert "Traceback" not in running.stderr, running.stderr


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stages(
    cases: list[Case], stage_providers: RunningSimulator, stage_gateway: Gateway
) -> AsyncIterator[dict[Case, Stage]]:
    """What was seen of every case."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
        stages = {case: Stage(case, stage_gateway, stage_providers, session) for case in cases}
        await play(stages.values())
        yield stages


@pytest.fixture
def seen(case: Case, stages: dict[Case, Stage]) -> Stage:
    """What was seen of this test's case."""
    stage = stages[case]
    if stage.error is not None:
        raise stage.error
    return stage
