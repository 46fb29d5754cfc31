"""The processes of a gateway: found, waited for, killed."""

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from acceptance.gateways import Gateway


def family(gateway: Gateway) -> list[psutil.Process]:
    """Return every process of a gateway, the one that was started first."""
    first = psutil.Process(gateway.process.pid)
    return [first, *first.children(recursive=True)]


def workers_of(gateway: Gateway) -> list[psutil.Process]:
    """Return the processes that serve, where there are several."""
    return [process for process in family(gateway)[1:] if "spawn_main" in " ".join(_command(process))]


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes as a lack of memory would, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    gone(processes)


def gone(processes: Sequence[psutil.Process], seconds: float = 10.0) -> None:
    """Wait until processes are gone. Raises AssertionError if they stay."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    alive = [process for process in alive if _status(process) != psutil.STATUS_ZOMBIE]
    assert not alive, f"these stay: {alive}"


def soon(look: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Return what `look` finds, as soon as it finds anything."""
    patience = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < patience, f"not within {seconds:g} s"
        time.sleep(0.01)
    return found


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def _status(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status()
    return psutil.STATUS_ZOMBIE
