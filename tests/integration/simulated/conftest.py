import pytest

from holdfast.providers.simulated import Simulator


@pytest.fixture
async def sim():
    async with Simulator() as simulator:
        yield simulator
