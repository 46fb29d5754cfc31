"""Starting, pinning, watching and stopping the programs of a run."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

MB = 10**6


class Failed(Exception):
    """A program of the run did not do what it should."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants, none if it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process tree has used, all threads and all children that have ended included."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process tree."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MB


def pinned(argv: Sequence[str], core: int) -> list[str]:
    return ["taskset", "-c", str(core), *argv]


@contextlib.contextmanager
def running(
    argv: Sequence[str], *, core: int, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on one core in a session of its own; at the end, stop it with everything it started."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            pinned(argv, core),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 15) -> None:
    """Ask a program to stop; kill what is left of its session after `patience` seconds."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def await_answer(process: subprocess.Popen[bytes], port: int, message: bytes, *, seconds: float = 90) -> float:
    """Send `message` on a new connection every 5 ms until it is answered with 200; return the seconds that took.

    Raises:
        Failed: the program ended, or there was no such answer in time.
    """
    start = time.perf_counter()
    answer = b""
    while time.perf_counter() - start < seconds:
        if process.poll() is not None:
            raise Failed(f"it ended with status {process.returncode} before it answered")
        answer = _ask(port, message)
        if answer.startswith(b"HTTP/1.1 200 "):
            return time.perf_counter() - start
        time.sleep(0.005)
    raise Failed(f"no answer within {seconds:.0f} s; the last was {answer[:200]!r}")


def _ask(port: int, message: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(message)
            return connection.recv(65536)
    except OSError:
        return b""
