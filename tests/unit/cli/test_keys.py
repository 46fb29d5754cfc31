import json
import re
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from rich.console import Console

from holdfast.cli import main
from holdfast.cli.key_table import Row, print_keys
from holdfast.clock import SystemClock
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.audit.trail import Trail
from holdfast.privacy.sealing.keyring import Keyring
from holdfast.privacy.sealing.master import MasterKey
from holdfast.state.keys import Key, Keys, digest
from holdfast.state.limits import Limit
from holdfast.state.spending import Order, Spending
from log_samples import ATTEMPT, make_call

TOKEN = re.compile(r"hf_[a-z2-9]{8}_[0-9A-Za-z]{40}")
STATE = Path(".holdfast/state.db")
NOW = SystemClock().now


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["keys", *arguments])
    assert result.exit_code == code, result.output
    return result


def create(*options: str, tenant: str = "acme") -> str:
    return run("create", "--tenant", tenant, *options).stdout.strip()


def listed(*options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json", *options).stdout.splitlines()]


def kept() -> list[Key]:
    keys = Keys(STATE, SystemClock(), read_only=True)
    try:
        return list(keys.all())
    finally:
        keys.close()


def audited(directory: str = ".holdfast") -> list[tuple[str, dict[str, Any]]]:
    """What commands did, oldest first. What the trail says of itself is left out."""
    entries = list(Trail(Path(directory), None, SystemClock()).entries())[::-1]
    assert all(entry.actor.startswith("os:") for entry in entries if not entry.action.startswith("audit."))
    return [(entry.action, entry.details) for entry in entries if not entry.action.startswith("audit.")]


# --- create -----------------------------------------------------------------------------------------------------------


def test_a_new_key_is_printed_once_alone_on_the_standard_output() -> None:
    result = run("create", "--tenant", "acme")
    token = result.stdout.removesuffix("\n")
    assert TOKEN.fullmatch(token)
    assert "api_key" in result.stderr
    assert "Bearer" in result.stderr
    assert token not in result.stderr
    [key] = kept()
    assert (key.digest, key.tenant, key.role, key.features, key.limits) == (digest(token), "acme", "app", (), ())
    everything = b"".join([path.read_bytes() for path in Path(".holdfast").iterdir()])
    assert token.encode() not in everything
    assert token not in run("list").output + run("list", "--json").output


def test_rights_limits_and_expiry_are_those_that_were_given() -> None:
    create(
        *("--role", "developer", "--features", "answer, gpt", "--features", "summary"),
        *("--budget", "50usd/day", "--budget", "0.5usd", "--requests", "600/min", "--tokens", "200k/min"),
        *("--expires", "2999-01-01"),
    )
    [key] = kept()
    assert (key.role, key.features) == ("developer", ("answer", "gpt", "summary"))
    assert [limit.name for limit in key.limits] == [
        f"key {key.id}: 50 usd/day",
        f"key {key.id}: 0.5 usd in total",
        f"key {key.id}: 600 requests/min",
        f"key {key.id}: 200000 tokens/min",
    ]
    assert key.expires_us == datetime(2999, 1, 1, tzinfo=UTC).timestamp() * 1e6


def test_an_expiry_may_be_a_time_from_now() -> None:
    create("--expires", "90d")
    [key] = kept()
    assert key.expires_us == pytest.approx((NOW() + 90 * 86_400) * 1e6, abs=60e6)


def test_a_feature_that_the_configuration_does_not_have_is_told_with_the_nearest(home: Path) -> None:
    (home / "holdfast.toml").write_text("[models.house]\n[features.answer]\n")
    result = run("create", "--tenant", "acme", "--features", "answre,house,later")
    assert TOKEN.fullmatch(result.stdout.strip())
    assert 'no feature and no model "answre" (did you mean "answer"?)' in result.stderr
    assert 'no feature and no model "later".' in result.stderr
    assert "house" not in result.stderr


def test_as_json_the_token_comes_with_the_key() -> None:
    made = json.loads(run("create", "--tenant", "acme", "--requests", "5/min", "--json").stdout)
    assert TOKEN.fullmatch(made["token"])
    assert made["token"].startswith(made["id"])
    assert (made["tenant"], made["state"], made["limits"][0]["cap"]) == ("acme", "active", 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "Missing option '--tenant'"),
        (("--tenant", "a b"), "tenant 'a b': expected up to 64 letters"),
        (("--tenant", "acme", "--role", "boss"), "'boss' is not one of"),
        (("--tenant", "acme", "--features", "a,,b"), "expected names with commas between them, got 'a,,b'"),
        (("--tenant", "acme", "--budget", "50"), "expected US dollars"),
        (("--tenant", "acme", "--budget", "50usd/week"), 'unknown window "week"'),
        (("--tenant", "acme", "--requests", "-1/min"), "Invalid value for '--requests'"),
        (("--tenant", "acme", "--tokens", "1.5/min"), "finer than whole tokens"),
        (("--tenant", "acme", "--expires", "soon"), "expected a duration such as 90d or a date such as 2027-01-01"),
        (("--tenant", "acme", "--expires", "2020-01-01"), "2020-01-01 is past"),
        (("--tenant", "acme", "--expires", "0s"), "a key expires later than now"),
        (("--tenant", "acme", "--expires", "9" * 400 + "d"), "later than any date"),
        (("--tenant", "acme", "--expires", "9999999d"), "before the year 10000"),
    ],
)
def test_what_makes_no_sense_is_refused_and_makes_no_key(options: tuple[str, ...], said: str) -> None:
    assert said in " ".join(run("create", *options, code=2).stderr.split())
    assert not STATE.exists() or kept() == []


def test_the_state_is_that_of_the_configuration_or_the_option(home: Path) -> None:
    (home / "etc").mkdir()
    (home / "etc/holdfast.toml").write_text('[log]\npath = "var/log.db"\n')
    create("--config", "etc/holdfast.toml")
    create("--state", "other")
    assert (home / "etc/var/state.db").exists()
    assert (home / "other/state.db").exists()
    assert [row["tenant"] for row in listed("--state", "other")] == ["acme"]


# --- the trail --------------------------------------------------------------------------------------------------------


def test_what_is_done_to_a_key_stands_in_the_trail_without_its_token() -> None:
    token = create("--features", "answer", "--requests", "600/min", "--expires", "2999-01-01")
    facts = {
        "tenant": "acme",
        "role": "app",
        "features": ["answer"],
        "limits": ["600 requests/min"],
        "expires": "2999-01-01T00:00:00.000000Z",
    }
    successor = run("rotate", token, "--overlap", "1h").stdout.strip()
    run("revoke", successor[:11])
    rotated = {**audited()[1][1], "expires": facts["expires"]}
    assert [action for action, _ in audited()] == ["key.create", "key.rotate", "key.revoke"]
    assert audited()[0][1] == {"id": token[:11], **facts}
    assert rotated == {"id": successor[:11], **facts, "replaces": token[:11], "overlap_s": 3600.0}
    trail = Path(".holdfast/audit.jsonl").read_text()
    assert token not in trail
    assert successor not in trail


def test_what_can_not_be_recorded_is_not_done() -> None:
    token = create()
    before = kept()
    Path(".holdfast/audit.jsonl").unlink()
    Path(".holdfast/audit.jsonl").mkdir()
    for arguments in (("create", "--tenant", "acme"), ("rotate", token[:11]), ("revoke", token[:11])):
        result = run(*arguments, code=2)
        assert "Nothing was done, because it could not be written into the audit trail" in result.stderr
        assert not TOKEN.search(result.output)
    assert kept() == before


def test_a_master_key_that_is_not_that_of_the_keyring_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    create()
    master = MasterKey.load(None, Path(), Path(".holdfast"))
    Keyring(Path(".holdfast/keyring.db"), master, SystemClock()).close()
    Path("holdfast.toml").write_text('[privacy]\nmaster_key = { env = "MASTER" }\n')
    monkeypatch.setenv("MASTER", "5a" * 8 + bytes(range(24)).hex())
    before = Path(".holdfast/audit.jsonl").read_bytes()
    assert "wrapped by the master key with the fingerprint" in run("create", "--tenant", "acme", code=2).stderr
    assert Path(".holdfast/audit.jsonl").read_bytes() == before


def test_nothing_stands_in_the_trail_of_what_was_refused() -> None:
    token = create()
    run("rotate", token[:11])
    run("rotate", token[:11], code=2)
    run("revoke", "hf_aaaaaaaa", code=2)
    assert [action for action, _ in audited()] == ["key.create", "key.rotate"]


# --- list -------------------------------------------------------------------------------------------------------------


def test_the_list_tells_all_but_the_secret() -> None:
    first, second = create("--features", "answer,gpt", "--requests", "600/min"), create(tenant="globex")
    run("revoke", second[:11])
    header, one, other = [line.split("\t") for line in run("list").stdout.splitlines()]
    assert header == ["key", "tenant", "role", "features", "limits", "spent", "created", "expires", "state"]
    assert one[:6] == [first[:11], "acme", "app", "answer, gpt", "600 requests/min", "0 requests"]
    assert one[7:] == ["-", "active"]
    assert [other[0], other[1], other[3], other[4], other[8]] == [second[:11], "globex", "all", "-", "revoked"]


def test_the_list_can_be_that_of_a_tenant() -> None:
    create()
    create(tenant="globex")
    assert [row["tenant"] for row in listed("--tenant", "globex")] == ["globex"]


def test_a_key_that_ends_says_when_and_one_that_was_rotated_by_which_it_is_replaced() -> None:
    token = create("--expires", "30d")
    expires = datetime.fromtimestamp(kept()[0].expires_us / 1e6, UTC)
    assert run("list").stdout.splitlines()[1].split("\t")[7:] == [f"{expires:%Y-%m-%d %H:%M}", "active"]
    successor = run("rotate", token[:11], "--overlap", "90s").stdout.strip()
    until = datetime.fromtimestamp(kept()[0].expires_us / 1e6, UTC)
    told = f"until {until:%Y-%m-%d %H:%M}, replaced by {successor[:11]}"
    assert run("list").stdout.splitlines()[1].split("\t")[8] == told
    old, new = listed()
    assert (old["successor"], old["state"], new["successor"], new["state"]) == (new["id"], "active", None, "active")


def test_a_key_is_expired_as_soon_as_an_overlap_of_nothing_is_over() -> None:
    token = create()
    run("rotate", token[:11], "--overlap", "0s")
    assert [row["state"] for row in listed()] == ["expired", "active"]


def test_the_list_tells_what_was_drawn_in_the_window_that_is_now() -> None:
    create("--budget", "50usd", "--requests", "600")
    [key] = kept()
    money, requests = key.limits
    spend(money, 1_250_000_000)
    spend(requests, 3)
    assert run("list").stdout.splitlines()[1].split("\t")[5] == "1.25 usd, 3 requests"
    [row] = listed()
    assert [(limit["cap"], limit["spent"], limit["resets"]) for limit in row["limits"]] == [
        ("50.000000000", "1.250000000", None),
        (600, 3, None),
    ]


@pytest.mark.parametrize(
    ("width", "told"),
    [(180, "1.25 usd, 0 requests"), (100, "1.25 of 50 usd in total, 0 of 600 requests/min")],
)
def test_a_narrow_terminal_has_limits_and_what_was_spent_of_them_in_one_column(width: int, told: str) -> None:
    create("--budget", "50usd", "--requests", "600/min", "--features", "answer,gpt")
    [key] = kept()
    row = Row(key, {key.limits[0]: 1_250_000_000}, key.created_us)
    terminal = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with terminal.capture() as captured:
        print_keys(terminal, [row])
    header, _, line = captured.get().splitlines()
    assert told in line
    assert max(len(header), len(line)) <= width
    assert line.endswith("active")


def narrow(row: Row, width: int) -> list[str]:
    """The lines of a key in a terminal, without the head."""
    terminal = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with terminal.capture() as captured:
        print_keys(terminal, [row])
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    return lines[2:]


def test_where_limits_do_not_fit_there_is_one_a_line() -> None:
    create("--budget", "50usd", "--requests", "600/min")
    [key] = kept()
    first, second = narrow(Row(key, {key.limits[0]: 1_250_000_000}, key.created_us), 70)
    assert first.startswith(key.id)
    assert "  1.25 of 50 usd in total,  " in first
    assert first.endswith("active")
    assert second.strip() == "0 of 600 requests/min"


def test_where_a_rotated_key_does_not_fit_it_still_says_until_when_it_is_valid() -> None:
    token = create("--budget", "50usd", "--requests", "600/min", "--tokens", "1M/day")
    run("rotate", token[:11], "--overlap", "90s")
    old = kept()[0]
    first, second, third = narrow(Row(old, {}, old.created_us), 80)
    assert re.search(r"0 of 50 usd in total,  +until 20..-..-.. ..:..,$", first)
    assert re.search(rf"0 of 600 requests/min,  +replaced by {old.successor}$", second)
    assert third.strip() == "0 of 1000000 tokens/day"


def test_a_key_that_was_rotated_shares_what_was_spent() -> None:
    token = create("--requests", "600")
    run("rotate", token[:11])
    spend(kept()[0].limits[0], 3)
    assert [row["limits"][0]["spent"] for row in listed()] == [3, 3]


def spend(limit: Limit, count: int) -> None:
    """Use up some of a limit, as a worker does."""
    spending = Spending(STATE)
    lease = Order(number=1, meter=limit.meter, start=0, cap=limit.cap, keep=count)
    spending.exchange("w", [lease, lease._replace(close=True)])
    spending.close()


def test_without_keys_the_list_is_empty_and_says_how_to_make_one(home: Path) -> None:
    for _ in range(2):
        assert (run("list").stdout, run("list", "--json").stdout) == ("", "")
        assert run("list").stderr == "No keys. Create one with: holdfast keys create --tenant NAME\n"
        (home / ".holdfast").mkdir(exist_ok=True)
    assert list((home / ".holdfast").iterdir()) == []


# --- rotate and revoke ------------------------------------------------------------------------------------------------


def test_a_rotation_prints_a_token_with_the_same_rights() -> None:
    token = create("--role", "reviewer", "--features", "answer")
    successor = run("rotate", token[:11]).stdout.strip()
    old, new = kept()
    assert TOKEN.fullmatch(successor)
    assert (new.digest, new.role, new.features) == (digest(successor), old.role, old.features)
    assert old.expires_us == pytest.approx((NOW() + 86_400) * 1e6, abs=60e6)


def test_a_revoked_key_stays_in_the_list() -> None:
    token = create()
    assert run("revoke", token[:11]).stdout == f"{token[:11]} of acme is revoked.\n"
    assert json.loads(run("revoke", token[:11], "--json").stdout)["state"] == "revoked"
    assert [row["state"] for row in listed()] == ["revoked"]
    assert [action for action, _ in audited()] == ["key.create", "key.revoke"]


def test_revoking_a_key_names_those_that_it_replaced_and_that_are_still_valid() -> None:
    tokens = [create()]
    for overlap in ("0s", "1h", "2h"):
        tokens.append(run("rotate", tokens[-1][:11], "--overlap", overlap).stdout.strip())
    expired, first, second, last = [token[:11] for token in tokens]
    told = run("revoke", last).stderr
    named = re.compile(r"^(\S+), which (\S+) replaces, is still valid until 20[-\d]+ \d\d:\d\d UTC", re.MULTILINE)
    assert named.findall(told) == [(second, last), (first, second)]
    assert f"holdfast keys revoke {second}\n" in told
    assert expired not in told
    run("revoke", second)
    assert named.findall(run("revoke", last).stderr) == [(first, second)]


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_token_can_go_into_a_new_file_for_its_owner_alone() -> None:
    made = run("create", "--tenant", "acme", "--output", "app.key")
    assert made.stdout == ""
    assert "in app.key, and nowhere else" in made.stderr
    token = Path("app.key").read_text()
    assert TOKEN.fullmatch(token.removesuffix("\n"))
    assert stat.S_IMODE(Path("app.key").stat().st_mode) == 0o600
    rotated = run("rotate", token[:11], "--output", "new.key", "--json")
    assert "token" not in json.loads(rotated.stdout)
    assert Path("new.key").read_text()[:11] == json.loads(rotated.stdout)["id"]


@pytest.mark.parametrize(("file", "said"), [("app.key", "exists already"), ("no/such/app.key", "can't be written")])
def test_a_token_that_can_not_go_into_its_file_is_not_made(file: str, said: str) -> None:
    Path("app.key").write_text("another")
    assert said in run("create", "--tenant", "acme", "--output", file, code=2).stderr
    assert Path("app.key").read_text() == "another"
    assert not STATE.exists() or kept() == []


def test_no_file_is_left_of_a_key_that_was_refused() -> None:
    run("create", "--tenant", "a b", "--output", "app.key", code=2)
    assert not Path("app.key").exists()


# --- limits -----------------------------------------------------------------------------------------------------------


LIMITS = """
[tenants.acme]
budget = "500usd/month"

[tenants.globex]
tokens = "1M"

[features.answer]
models = ["house"]
requests = "1000/min"
"""


def uses(*options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("limits", "--json", *options).stdout.splitlines()]


def test_limits_are_those_of_tenants_features_and_valid_keys_with_what_is_used() -> None:
    Path("holdfast.toml").write_text(LIMITS)
    token = create("--requests", "600")
    revoked = create("--requests", "7")
    run("revoke", revoked[:11])
    run("rotate", token[:11])  # the new one draws on the same limit
    spend(kept()[0].limits[0], 3)
    spend(Limit.parse("tenant", "globex", "tokens", "1M"), 1500)
    header, *rows = [line.split("\t") for line in run("limits").stdout.splitlines()]
    assert header == ["scope", "of", "limit", "used", "resets"]
    assert [row[:4] for row in rows] == [
        ["tenant", "acme", "500 usd/month", "0 usd"],
        ["tenant", "globex", "1000000 tokens in total", "1500 tokens"],
        ["feature", "answer", "1000 requests/min", "0 requests"],
        ["key", token[:11], "600 requests in total", "3 requests"],
    ]
    assert re.fullmatch(r"20..-..-01 00:00", rows[0][4])
    assert rows[1][4] == "never"
    assert [(use["scope"], use["of"], use["unit"], use["spent"]) for use in uses()][1:2] == [
        ("tenant", "globex", "tokens", 1500)
    ]


def test_limits_can_be_those_of_a_tenant() -> None:
    Path("holdfast.toml").write_text(LIMITS)
    create("--requests", "600/min")
    create("--requests", "5/min", tenant="globex")
    assert [(use["scope"], use["cap"]) for use in uses("--tenant", "globex")] == [("tenant", 1_000_000), ("key", 5)]


def test_without_limits_it_says_where_they_are_set() -> None:
    told = run("limits")
    assert (told.stdout, "[tenants.NAME]" in told.stderr) == ("", True)
    Path("holdfast.toml").write_text(LIMITS)
    assert [use["scope"] for use in uses()] == ["tenant", "tenant", "feature"]
    assert not Path(".holdfast").exists()


@pytest.mark.parametrize("written", ['budget = "much"', "budget = 5"])
def test_a_limit_that_makes_no_sense_is_refused(written: str) -> None:
    Path("holdfast.toml").write_text(f"[tenants.acme]\n{written}\n")
    assert "[tenants.acme]" in run("limits", code=2).stderr


@pytest.mark.parametrize("command", ["rotate", "revoke"])
def test_an_unknown_key_is_refused_with_the_nearest(command: str) -> None:
    assert "no state directory" in run(command, "hf_aaaaaaaa", code=2).stderr
    token = create()
    near = token[:10] + ("a" if token[10] != "a" else "b")
    assert f"there is no key '{near}': did you mean {token[:11]}?" in run(command, near, code=2).stderr


def test_an_overlap_that_is_no_duration_is_refused() -> None:
    token = create()
    assert "expected a duration" in run("rotate", token[:11], "--overlap", "long", code=2).stderr


def test_a_damaged_state_is_an_error_and_no_traceback(home: Path) -> None:
    (home / ".holdfast").mkdir()
    STATE.write_bytes(b"no database" * 1000)
    for arguments in (("list",), ("create", "--tenant", "a"), ("revoke", "hf_aaaaaaaa")):
        assert "state.db" in run(*arguments, code=2).stderr


# --- spend ------------------------------------------------------------------------------------------------------------


def log_calls() -> None:
    calls = [
        make_call(1, tenant="acme", key="hf_aaaaaaaa"),
        make_call(2, tenant="acme", key="hf_bbbbbbbb", attempts=(ATTEMPT,), name="summary", feature="summary"),
        make_call(3, tenant="globex", key="hf_cccccccc", attempts=(replace(ATTEMPT, cost_nanousd=None),)),
        make_call(86_400, tenant="acme", key="hf_aaaaaaaa", attempts=(ATTEMPT,)),
    ]
    with closing(SqliteLog(".holdfast/log.db")) as log:
        log.append(calls)


def spent(*options: str) -> list[dict[str, Any]]:
    lines = run("spend", "--since", "2025-10-01", "--json", *options).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_spend_is_told_by_tenant_feature_model_and_day() -> None:
    log_calls()
    header, *rows = [line.split("\t") for line in run("spend", "--since", "2025-10-01").stdout.splitlines()]
    head = ["tenant", "feature", "model", "day"]
    assert header == [*head, "attempts", "tokens", "cost $", "of unknown cost"]
    assert [row[:5] for row in rows] == [
        ["acme", "answer", "gpt", "2025-10-09", "1"],
        ["acme", "answer", "gpt", "2025-10-10", "1"],
        ["acme", "answer", "house", "2025-10-09", "1"],
        ["acme", "summary", "gpt", "2025-10-09", "1"],
        ["globex", "answer", "gpt", "2025-10-09", "1"],
    ]
    assert rows[-1][6:] == ["?", "1"]


def test_spend_is_summed_over_what_is_not_asked_for() -> None:
    log_calls()
    assert [(row["tenant"], row["attempts"]) for row in spent("--by", "tenant")] == [("acme", 4), ("globex", 1)]
    assert [(row["day"], row["attempts"]) for row in spent("--by", "day")] == [("2025-10-09", 4), ("2025-10-10", 1)]
    assert list(spent("--by", "model,tenant")[0])[:2] == ["model", "tenant"]
    [key] = spent("--by", "key", "--key", "hf_bbbbbbbb")
    usage, nanousd = ATTEMPT.usage, ATTEMPT.cost_nanousd
    assert usage is not None
    assert nanousd is not None
    assert key == {
        "key": "hf_bbbbbbbb",
        "attempts": 1,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_nanousd": nanousd,
        "unpriced": 0,
        "cost_usd": f"{nanousd / 1e9:.9f}",
    }


def test_spend_may_be_that_of_a_tenant_and_since_a_day() -> None:
    log_calls()
    assert {row["tenant"] for row in spent("--tenant", "globex")} == {"globex"}
    assert [row["attempts"] for row in spent("--by", "day", "--since", "2025-10-10")] == [1]
    assert run("spend", "--since", "1d").stderr == "Nothing was spent.\n"


def test_what_spend_can_not_tell_is_refused() -> None:
    assert "There is no log" in run("spend", code=2).stderr
    log_calls()
    assert "--by 'colour': expected some of tenant, key, feature" in run("spend", "--by", "colour", code=2).stderr
    assert "expected a time" in run("spend", "--since", "soon", code=2).stderr
