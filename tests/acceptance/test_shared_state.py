"""What the workers of a gateway know together, and what becomes of it when they die."""

import urllib.request

import pytest

from acceptance.gateways import configuration, running_gateway
from acceptance.load import QUESTION
from acceptance.processes import gone, kill, soon, workers_of
from holdfast.clock import SystemClock
from holdfast.gateway.traffic.breaker import Breaker
from holdfast.gateway.traffic.cells import OUTSTANDING
from holdfast.state.board import Board


@pytest.fixture
def gateway(serve, providers):
    return serve(configuration(providers), "--workers", "2")


def boards(gateway):
    return sorted((gateway.directory / ".holdfast").glob("workers.*.board"))


def workers(gateway, besides=()):
    return soon(lambda: len(found := set(workers_of(gateway)) - set(besides)) == 2 and found)


def told(gateway, line):
    """Whether each of many answers of /metrics, from whichever worker, has this line."""
    pages = []
    for _ in range(12):
        with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=5) as response:
            pages.append(response.read().decode().splitlines())
    return all(line in page for page in pages)


def test_the_state_of_a_breaker_is_the_same_in_all_workers_and_survives_all_of_them(gateway):
    first = workers(gateway)
    assert told(gateway, 'holdfast_model_down{model="gpt"} 0')
    (path,) = boards(gateway)
    breaker = Breaker(Board.join(path, 0).row("gpt"), SystemClock())
    for _ in range(5):
        breaker.failed(30.0)
    assert told(gateway, 'holdfast_model_down{model="gpt"} 1')
    assert told(gateway, 'holdfast_model_down{model="claude"} 0')
    kill(first)
    workers(gateway, besides=first)
    assert told(gateway, 'holdfast_model_down{model="gpt"} 1')
    assert breaker.open


def test_what_a_killed_worker_was_doing_is_forgotten(gateway):
    first = workers(gateway)
    (path,) = boards(gateway)
    row = Board.join(path, 0).row("gpt")
    row.own[OUTSTANDING] += 3
    assert told(gateway, 'holdfast_model_attempts{model="gpt"} 3')
    kill(first)
    workers(gateway, besides=first)
    assert told(gateway, 'holdfast_model_attempts{model="gpt"} 0')


def test_the_file_is_gone_when_the_gateway_has_stopped(gateway):
    assert len(boards(gateway)) == 1
    assert gateway.stop() == 0
    assert boards(gateway) == []


def test_what_a_killed_gateway_has_left_goes_when_the_next_one_starts(tmp_path, providers):
    with running_gateway(tmp_path, configuration(providers), "--workers", "2") as killed:
        processes = workers(killed)
        left = boards(killed)
        killed.process.kill()
        killed.process.wait()
        gone(processes)
        assert boards(killed) == left
    with running_gateway(tmp_path, configuration(providers), "--workers", "2") as living:
        assert len(boards(living)) == 1
        assert boards(living) != left


def test_a_worker_that_finds_nothing_to_share_says_so_and_serves(gateway):
    first = workers(gateway)
    boards(gateway)[0].unlink()
    kill(first)
    workers(gateway, besides=first)
    for _ in range(8):
        status, _ = gateway.post("/v1/chat/completions", {"model": "gpt", "messages": QUESTION})
        assert status == 200
    assert gateway.stderr.count("This worker shares nothing with the others") == 2
    assert "Traceback" not in gateway.stderr
