"""Where `holdfast serve` and `holdfast up` may listen."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from holdfast.cli import main
from holdfast.cli.serve import listen
from holdfast.clock import SystemClock
from holdfast.config import Configuration, parse
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import Keys


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    return parse({"holdfast.toml": "[models.m]\nprovider = 'simulated'\n"}, base=tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    with contextlib.closing(Keys(tmp_path / ".holdfast" / STATE_FILE, SystemClock())) as keys:
        yield keys


def refused(configuration: Configuration, host: str, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    with pytest.raises(SystemExit) as ended:
        listen(configuration, host, 0)
    assert ended.value.code == code
    return capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.5"])
def test_this_machine_needs_no_keys(configuration, host, capsys):
    listen(configuration, host, 0)[0].close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "gateway.example", "127.0.0.1.example"])
def test_other_machines_need_keys(configuration, host, capsys):
    assert refused(configuration, host, capsys).startswith(f"--host {host}: without keys")


def test_the_command_that_the_refusal_names_makes_the_key_that_was_missing(configuration, capsys):
    said = refused(configuration, "0.0.0.0", capsys)
    command = shlex.split(said[said.index("holdfast keys create") :].replace("NAME", "acme"))
    made = CliRunner().invoke(main, command[1:])
    assert made.exit_code == 0, made.output
    listen(configuration, "0.0.0.0", 0)[0].close()


def test_keys_that_are_not_valid_do_not_count(configuration, keys, capsys):
    keys.revoke(keys.create(tenant="acme", role="app")[1].id)
    assert refused(configuration, "0.0.0.0", capsys).startswith("--host 0.0.0.0: without keys")


def test_keys_in_the_clear_are_warned_of(configuration, keys, capsys, tmp_path):
    keys.create(tenant="acme", role="app")
    listen(configuration, "0.0.0.0", 0)[0].close()
    assert "in the clear" in capsys.readouterr().err
    tls = "[gateway]\ntls = { certificate = 'c.pem', key = 'k.pem' }\n[models.m]\nprovider = 'simulated'\n"
    listen(parse({"holdfast.toml": tls}, base=tmp_path), "0.0.0.0", 0)[0].close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 300])
def test_an_address_that_is_not_there_is_told(configuration, keys, capsys, host):
    keys.create(tenant="acme", role="app")
    assert "is not to be had" in refused(configuration, host, capsys, code=1)


def test_state_that_can_not_be_read_is_told(configuration, tmp_path, capsys):
    (tmp_path / ".holdfast").mkdir()
    (tmp_path / ".holdfast" / STATE_FILE).write_bytes(b"no database" * 1000)
    assert STATE_FILE in refused(configuration, "0.0.0.0", capsys, code=1)
