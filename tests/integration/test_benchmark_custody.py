"""The measurement of what custody costs, run as people run it."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need Linux (/proc)")


@pytest.fixture
def custody(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return __import__("custody")


def measured(custody: ModuleType, *per_cpu: list[float]) -> list[object]:
    variants = (custody.OFF, custody.ALL)
    return [
        custody.Measured(
            variant, 1, 1, Path(), "none", {(n, 0): rate for n, rate in enumerate(rates)}, [100.0], [200.0]
        )
        for variant, rates in zip(variants, per_cpu, strict=True)
    ]


def test_what_is_lost_is_compared_round_by_round(custody: ModuleType) -> None:
    found = measured(custody, [1000.0, 2000.0, 1000.0], [900.0, 1800.0, 500.0])
    (table,), (lost, errors) = custody.tables(found)
    assert [row[2] for row in table.rows] == ["", "10.0 (10.0 to 50.0)"]
    assert (lost.measured, lost.met, errors.met) == ("10.0%", True, True)


@pytest.mark.parametrize("rate", [850.0, 849.0])
def test_a_seventh_lost_misses_the_bar(custody: ModuleType, rate: float) -> None:
    _, (lost, _) = custody.tables(measured(custody, [1000.0], [rate]))
    assert lost.met is False


def test_an_error_misses_its_bar_whatever_was_measured(custody: ModuleType) -> None:
    found = measured(custody, [1000.0], [1000.0])
    found[1].errors.append("3 status_errors")  # type: ignore[attr-defined]
    _, (_, errors) = custody.tables(found)
    assert errors.measured == "keys, limits and sealing: 3 status_errors"
    assert errors.met is False


@pytest.mark.skipif(shutil.which("wrk") is None or shutil.which("nginx") is None, reason="needs wrk and nginx")
def test_it_measures_a_gateway_with_and_without(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "custody.py", "--quick", "--programs", programs, "--runs", tmp_path / "runs"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode in (0, 1), done.stderr  # how fast it is here and now proves nothing
    assert "| errors, answers missing in the log | none | none | met |" in done.stdout
    assert "| keys, limits and sealing |" in done.stdout
