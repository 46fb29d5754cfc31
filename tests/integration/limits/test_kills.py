"""Real workers on one limit, killed at random: what they send is counted where they can't reach."""

import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.state.spending import Spending

WORKER = Path(__file__).with_name("spending_worker.py")
WORKERS, CLIENTS = 4, 50


class Herd:
    """Workers that spend until nothing is left."""

    def __init__(self, folder, unit, cap):
        self.state, self.sent = folder / "state.db", folder / "sent"
        self.sent.touch()
        Spending(self.state).close()
        self._command = [sys.executable, WORKER, self.state, self.sent, unit, str(cap), str(CLIENTS)]
        self._workers = [self._start() for _ in range(WORKERS)]

    def kill(self, which):
        self._workers[which].send_signal(signal.SIGKILL)
        self._workers[which].communicate()
        self._workers[which] = self._start()

    def wait(self):
        for worker in self._workers:
            _, error = worker.communicate(timeout=60)
            assert worker.returncode == 0, error

    def costs(self):
        return [cost for (cost,) in struct.iter_unpack("q", self.sent.read_bytes())]

    def drawn(self):
        spending = Spending(self.state)
        spent = spending.spent()
        spending.close()
        assert [each.leased for each in spent] == [0]
        return spent[0].drawn

    def _start(self):
        return subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)


def kill_at_random(herd, kills, amount, until):
    """Kill workers until so much was spent, in a rhythm that hits them wherever they are."""
    rng = random.Random(5)
    for _ in range(kills):
        seen = amount()
        while amount() < min(seen + 1, until):  # those that begin anew have to come to something
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        herd.kill(rng.randrange(WORKERS))


def test_killed_workers_never_send_more_calls_than_the_limit_and_use_it_up(tmp_path):
    cap = 1000
    herd = Herd(tmp_path, "requests", cap)
    kill_at_random(herd, 12, lambda: len(herd.costs()), cap)
    herd.wait()
    sent = len(herd.costs())
    assert 0.99 * cap <= sent <= herd.drawn() <= cap
    assert list((tmp_path / "leases").iterdir()) == []


def test_killed_workers_never_spend_a_cent_too_much(tmp_path):
    cap = 5_000_000_000
    herd = Herd(tmp_path, "nanousd", cap)
    kill_at_random(herd, 12, lambda: sum(herd.costs()), cap)
    herd.wait()
    assert sum(herd.costs()) <= herd.drawn() <= cap
    assert cap - herd.drawn() < cap / 1000, "what is left is less than any call may cost"


@pytest.mark.parametrize("unit", ["requests", "nanousd"])
def test_workers_that_live_use_a_limit_up(tmp_path, unit):
    cap = 1000 if unit == "requests" else 500_000_000
    herd = Herd(tmp_path, unit, cap)
    herd.wait()
    used = len(herd.costs()) if unit == "requests" else sum(herd.costs())
    assert used == herd.drawn()
    assert 0.99 * cap <= used <= cap
