import os
import pwd
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from holdfast.cli.state_directory import Failure, StateDirectory, failures, find, json_option, operator, state_options
from holdfast.errors import PrivacyError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_without_a_configuration_it_is_the_default():
    assert find(None, None) == StateDirectory(path=Path(".holdfast"), log=Path(".holdfast/log.db"), base=Path())


def test_it_is_where_the_log_of_the_configuration_is(home: Path):
    configure(home / "holdfast.toml", '[log]\npath = "var/calls.db"\n')
    assert find(None, None).path == Path("var")
    assert find(None, None).log == Path("var/calls.db")


def test_paths_are_relative_to_the_folder_of_the_configuration(home: Path):
    file = configure(home / "etc/gateway.toml", '[log]\npath = "var/calls.db"\n')
    assert find(file, None).log == home / "etc/var/calls.db"
    assert find(file, None).base == home / "etc"


def test_a_log_may_lie_elsewhere(home: Path):
    file = configure(home / "etc/gateway.toml", '[log]\npath = "/srv/holdfast/log.db"\n')
    assert find(file, None).path == Path("/srv/holdfast")


def test_an_option_names_another_one_and_the_keys_stay_those_of_the_configuration(home: Path):
    configure(home / "holdfast.toml", '[log]\npath = "var/calls.db"\n[privacy]\nmaster_key = { env = "MASTER" }\n')
    found = find(None, Path("backup"))
    assert (found.path, found.log) == (Path("backup"), Path("backup/calls.db"))
    assert found.privacy == {"master_key": {"env": "MASTER"}}


def test_mistakes_elsewhere_in_the_configuration_stop_nothing(home: Path):
    configure(home / "holdfast.toml", 'privacy = 7\n[log]\npath = "var/calls.db"\nkep = "1d"\n[models.x]\n')
    found = find(None, None)
    assert (found.path, found.log, found.privacy) == (Path("var"), Path("var/calls.db"), {})


def test_it_tells_what_the_configuration_names(home: Path):
    configure(home / "holdfast.toml", "[models.house]\n[features.answer]\n")
    assert find(None, None).names == {"house", "answer"}


@pytest.mark.parametrize("content", [b"[log\n", b"\xff\xfe", b"x = " + b"[" * 100_000])
def test_a_configuration_that_can_not_be_read_is_an_error(home: Path, content: bytes):
    (home / "holdfast.toml").write_bytes(content)
    with pytest.raises(Failure, match=r"holdfast\.toml can't be read"):
        find(None, None)


def test_a_configuration_that_was_named_and_is_not_there_is_an_error():
    with pytest.raises(Failure, match=r"other\.toml can't be read"):
        find(Path("other.toml"), None)


def test_a_directory_that_is_not_there_is_said_to_be_missing(home: Path):
    with pytest.raises(Failure, match=f"no state directory at {home}/.holdfast"):
        find(None, None).existing()
    (home / ".holdfast").mkdir()
    assert find(None, None).existing() == find(None, None)


def test_a_command_takes_it_from_its_options(home: Path):
    @click.command()
    @click.argument("name")
    @json_option
    @state_options
    def command(name: str, as_json: bool, state: StateDirectory) -> None:
        click.echo(f"{name} {as_json} {state.path}")

    configure(home / "other.toml", '[log]\npath = "var/calls.db"\n')
    for options, shown in {
        ("a",): "a False .holdfast",
        ("a", "--state", "b", "--json"): "a True b",
        ("a", "--config", "other.toml"): "a False var",
    }.items():
        assert CliRunner().invoke(command, options).output == f"{shown}\n"


def test_an_error_of_a_store_ends_the_command_with_what_is_wrong():
    with pytest.raises(Failure, match=r"no key") as failure, failures():
        raise PrivacyError("There is no key.")
    assert failure.value.exit_code == 2


def test_who_runs_a_command_is_told_by_the_machines_account(monkeypatch: pytest.MonkeyPatch):
    own = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwuid", {os.getuid(): own}.__getitem__)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    assert operator() == f"os:{own.pw_name}"
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert operator() == f"os:{os.getuid()}"
