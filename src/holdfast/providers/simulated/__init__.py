"""Simulated providers: real wire formats over real sockets, with behaviour and faults on demand."""

from holdfast.providers.simulated.behaviour import PRESETS, Behaviour, Model, Step
from holdfast.providers.simulated.faults import (
    Close,
    Cut,
    ErrorEvent,
    Fault,
    Malformed,
    Reset,
    Split,
    Stall,
    Status,
    Trickle,
    WrongLength,
)
from holdfast.providers.simulated.plan import Position
from holdfast.providers.simulated.recorder import Record
from holdfast.providers.simulated.script import Script
from holdfast.providers.simulated.server import RunningSimulator, Simulator, running_simulator

__all__ = [
    "PRESETS",
    "Behaviour",
    "Close",
    "Cut",
    "ErrorEvent",
    "Fault",
    "Malformed",
    "Model",
    "Position",
    "Record",
    "Reset",
    "RunningSimulator",
    "Script",
    "Simulator",
    "Split",
    "Stall",
    "Status",
    "Step",
    "Trickle",
    "WrongLength",
    "running_simulator",
]
