"""A changed configuration takes effect while calls run, in every worker; a wrong one changes nothing and is told."""

import asyncio
import json
import re
import signal
import time
import urllib.request

import aiohttp
import pytest

from acceptance.gateways import configuration
from acceptance.load import QUESTION, Load
from acceptance.processes import soon, workers_of
from holdfast.log.sqlite import SqliteLog

RELOAD_SECONDS = 2.5
"""How long a change may take to reach every worker..."""
SLACK_SECONDS = 1.5
"""...and what a busy machine may add."""
PROMPT = {"greeting.md": "Be brief.\n"}
either = pytest.mark.parametrize("workers", ["1", "2"])


def _write(path, text):
    """Replace a file as most editors do."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(path)


def _change(gateway, file, text):
    """Replace a file, and have it read at once."""
    _write(gateway.directory / file, text)
    gateway.process.send_signal(signal.SIGHUP)


def _ask(gateway, model="greeting"):
    status, reply = gateway.post("/v1/chat/completions", {"model": model, "messages": QUESTION})
    return reply["choices"][0]["message"]["content"] if status == 200 else status


def _configs(gateway, times=24):
    """The configurations that new connections meet: enough of them to meet every worker."""
    return {gateway.get("/readyz")["config"] for _ in range(times)}


def _reloaded(gateway, since, seconds=RELOAD_SECONDS + SLACK_SECONDS):
    """Wait until every worker has another configuration than `since`, and return it."""
    (new,) = soon(lambda: len(found := _configs(gateway)) == 1 and found != {since} and found, seconds)
    return new


def _calls(gateway, name, count):
    """The calls of this name, newest first, as soon as so many are in the log."""
    found = gateway.calls(name=name)
    return found if len(found) == count else None


def _snapshot(gateway, hash):
    log = SqliteLog.read(gateway.log_path)
    try:
        return log.snapshot(hash)
    finally:
        log.close()


@either
@pytest.mark.parametrize("file", ["greeting.md", "holdfast.toml"])
async def test_calls_follow_a_changed_file_and_those_under_way_stay_on_the_old_one(serve, providers, workers, file):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers, files=PROMPT)
    (old,) = _configs(gateway)
    providers.follow({"models": {"gpt": "words=30,tps=8", "claude": "text=From Claude"}})
    async with aiohttp.ClientSession() as session:
        body = {"model": "greeting", "messages": QUESTION, "stream": True}
        async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as stream:
            pieces = [await stream.content.readany()]
            begin = time.monotonic()
            if file == "greeting.md":
                _write(gateway.directory / file, "Be long.\n")
            else:
                _write(gateway.directory / file, config.replace('["gpt"]\nprompt', '["claude"]\nprompt'))
            new = await asyncio.to_thread(_reloaded, gateway, old)
            took = time.monotonic() - begin
            providers.forget()
            assert not stream.content.at_eof()
            if file == "greeting.md":
                providers.follow({})
            answer = await asyncio.to_thread(_ask, gateway)
            pieces.append(await stream.read())
    assert took < RELOAD_SECONDS + SLACK_SECONDS
    text = b"".join(pieces)
    assert text.endswith(b"data: [DONE]\n\n")
    whole, streamed = soon(lambda: _calls(gateway, "greeting", 2))
    assert (streamed["config"], whole["config"]) == (old, new)
    assert streamed["model"] == "gpt"
    before, after = _snapshot(gateway, old), _snapshot(gateway, new)
    assert before.files == {"holdfast.toml": config, "greeting.md": "Be brief.\n"}
    assert after.files[file] == (gateway.directory / file).read_text()
    assert before.at_us < after.at_us
    assert abs(after.at_us / 1e6 - time.time()) < 60
    if file == "greeting.md":
        assert json.loads(providers.received("gpt")[0].raw)["messages"][0]["content"].strip() == "Be long."
    else:
        assert (answer, whole["model"]) == ("From Claude", "claude")
    assert gateway.stderr.count(f"Reloaded the configuration: {new}") == 1


@either
async def test_a_reload_breaks_no_call(serve, providers, workers):
    gateway = serve(configuration(providers), "--workers", workers, files=PROMPT)
    load = Load(gateway.url, "greeting")
    async with load.running():
        (old,) = await asyncio.to_thread(_configs, gateway)
        for text in ("Be long.", "Be loud."):
            await load.answers(20)
            _change(gateway, "greeting.md", text)
            old = await asyncio.to_thread(_reloaded, gateway, old)
        await load.answers(20)
    assert load.broken == len(load.refused) == 0


@either
def test_sighup_reloads_at_once(serve, providers, workers):
    gateway = serve(configuration(providers), "--workers", workers, files=PROMPT)
    (old,) = _configs(gateway)
    for text in ("Be long.", "Be loud.", "Be kind."):
        _change(gateway, "greeting.md", text)
        old = _reloaded(gateway, old, seconds=1.0)


@either
def test_a_wrong_file_changes_nothing_is_told_once_and_takes_effect_when_repaired(serve, providers, workers):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers, files=PROMPT)
    (old,) = _configs(gateway)
    toml = gateway.directory / "holdfast.toml"
    _change(
        gateway,
        "holdfast.toml",
        config.replace('[features.answer]\nmodels = ["gpt"', '[features.answer]\nmodels = ["gtp"'),
    )
    line = config[: config.index("[features.answer]")].count("\n") + 2
    said = soon(lambda: "gtp" in gateway.stderr and gateway.stderr)
    assert "The configuration was not reloaded; the old one stays in force." in said
    assert re.search(rf"{re.escape(str(toml))}:{line}: features\.answer\.models\[0\]: .*gtp.*gpt", said)
    gateway.process.send_signal(signal.SIGHUP)  # asked again, it is told again
    soon(lambda: gateway.stderr.count("gtp") == 2)
    assert _configs(gateway) == {old}
    assert _ask(gateway, "answer") == QUESTION[0]["content"]
    _change(gateway, "holdfast.toml", config + "\n# repaired\n")
    new = _reloaded(gateway, old)
    assert _ask(gateway, "answer") == QUESTION[0]["content"]
    assert [call["config"] for call in soon(lambda: _calls(gateway, "answer", 2))] == [new, old]
    assert gateway.stderr.count("not reloaded") == 2


def _failed(gateway, times=24):
    """What new connections hear of a reload that failed: enough of them to meet every worker."""
    return {gateway.get("/readyz").get("reload") for _ in range(times)}


@either
def test_that_an_old_configuration_is_in_force_is_told_until_the_files_are_right_again(serve, providers, workers):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers, files=PROMPT)
    (old,) = _configs(gateway)
    assert _failed(gateway) == {None}
    _change(gateway, "holdfast.toml", config.replace("[features.answer]", "[features.answer]\nmdels = []"))
    soon(lambda: _failed(gateway) == {"failed"})
    told = gateway.get("/readyz")
    assert (told["status"], told["config"]) == ("ready", old)
    assert "mdels" in told["error"]
    assert _gauge(gateway) == "1"
    if workers != "1":  # one that comes later knows it too
        for worker in workers_of(gateway):
            worker.kill()
        soon(lambda: len(workers_of(gateway)) == int(workers) and _failed(gateway) == {"failed"})
    _change(gateway, "holdfast.toml", config)
    soon(lambda: _failed(gateway) == {None})
    assert _gauge(gateway) == "0"
    assert gateway.stderr.count("The configuration files are right again") == 1
    assert "INFO The configuration files" in gateway.stderr


def _gauge(gateway):
    with urllib.request.urlopen(f"{gateway.url}/metrics") as page:
        return re.search(r"^holdfast_config_reload_failed (\d)$", page.read().decode(), re.MULTILINE)[1]


@either
def test_files_that_are_gone_change_nothing_until_they_are_back(serve, providers, workers):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers, files=PROMPT)
    (old,) = _configs(gateway)
    prompt, toml = gateway.directory / "greeting.md", gateway.directory / "holdfast.toml"
    prompt.unlink()
    soon(lambda: "greeting.md" in gateway.stderr and "there is no such file" in gateway.stderr)
    toml.unlink()
    gateway.process.send_signal(signal.SIGHUP)
    soon(lambda: f"{toml}: there is no such file" in gateway.stderr)
    assert _configs(gateway) == {old}
    assert _ask(gateway) == QUESTION[0]["content"]
    toml.write_text(config)
    prompt.write_text("Be back.")
    gateway.process.send_signal(signal.SIGHUP)
    _reloaded(gateway, old)
    assert _ask(gateway) == QUESTION[0]["content"]
    assert json.loads(providers.received("gpt")[-1].raw)["messages"][0]["content"].strip() == "Be back."


@either
def test_what_needs_a_restart_is_told(serve, providers, workers):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers)
    (old,) = _configs(gateway)
    toml = gateway.directory / "holdfast.toml"
    _change(gateway, "holdfast.toml", configuration(providers, log='flush_ms = 10\npath = "elsewhere.db"'))
    old = _reloaded(gateway, old)
    told = f"{toml}: [log] has changed: restart the gateway for that to take effect."
    assert gateway.stderr.count(told) == 1
    assert "[gateway]" not in gateway.stderr
    assert not (gateway.directory / "elsewhere.db").exists()
    _ask(gateway, "gpt")
    assert gateway.calls(name="gpt")[0]["config"] == old
    _change(gateway, "holdfast.toml", config + "# as it was\n")
    _reloaded(gateway, old)
    assert gateway.stderr.count("restart the gateway") == 1


@either
async def test_all_of_the_gateway_table_takes_effect(serve, providers, workers):
    gateway = serve(configuration(providers), "--workers", workers)
    (old,) = _configs(gateway)
    rules = 'deadline = "200ms"\nmax_body = "2KB"\nmax_headers = "1KB"\ndrain = "100ms"'
    _change(gateway, "holdfast.toml", configuration(providers, gateway=rules))
    _reloaded(gateway, old)
    providers.follow({"models": {"gpt": "stall=start"}})
    assert _ask(gateway, "gpt") == 504
    assert gateway.post("/v1/chat/completions", b"x" * 3000)[0] == 413
    assert gateway.post("/v1/chat/completions", b"{}", {"x-long": "x" * 2000})[0] == 431
    providers.follow({"models": {"gpt": "words=3,stall=2"}})
    async with aiohttp.ClientSession() as session:
        body = {"model": "gpt", "messages": QUESTION, "stream": True, "holdfast": {"deadline_ms": 60_000}}
        async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as stream:
            await stream.content.readany()
            begin = time.monotonic()
            assert await asyncio.to_thread(gateway.stop) == 0
    assert time.monotonic() - begin < 5
    assert "did not end within 0.1 s" in gateway.stderr


@either
def test_a_changed_secret_takes_effect_and_a_missing_one_changes_nothing(serve, providers, workers):
    config = configuration(providers)
    gateway = serve(config, "--workers", workers, files={"key": "secret"})
    (old,) = _configs(gateway)
    model = (
        f'\n[models.late]\nprovider = "openai"\nbase_url = "{providers.url("openai")}"\napi_key = {{ file = "key" }}\n'
    )
    _change(gateway, "holdfast.toml", config + model)
    new = _reloaded(gateway, old)
    assert _ask(gateway, "late") == QUESTION[0]["content"]
    assert dict(providers.received("late")[-1].headers)["authorization"] == "Bearer secret"
    _change(gateway, "key", "changed")  # the same configuration with another secret
    patience = time.monotonic() + RELOAD_SECONDS + SLACK_SECONDS
    while dict(providers.received("late")[-1].headers)["authorization"] != "Bearer changed":
        assert time.monotonic() < patience
        for _ in range(6):
            _ask(gateway, "late")
    (gateway.directory / "key").unlink()
    gateway.process.send_signal(signal.SIGHUP)
    soon(lambda: "models.late.api_key" in gateway.stderr)
    assert _configs(gateway) == {new}
    assert _ask(gateway, "late") == QUESTION[0]["content"]


def test_a_replaced_worker_starts_with_the_configuration_in_force(serve, providers):
    gateway = serve(configuration(providers), "--workers", "2", files=PROMPT)
    (old,) = _configs(gateway)
    _change(gateway, "greeting.md", "Be new.")
    new = _reloaded(gateway, old)
    workers = workers_of(gateway)
    for worker in workers:
        worker.kill()
    soon(lambda: len(found := workers_of(gateway)) == 2 and not set(found) & set(workers))
    assert _configs(gateway) == {new}


@either
def test_the_audit_trail_tells_each_configuration_once_or_it_is_not_taken(serve, providers, workers):
    gateway = serve(configuration(providers), "--workers", workers, files=PROMPT)
    (first,) = _configs(gateway)
    _change(gateway, "greeting.md", "Be long.")
    second = _reloaded(gateway, first)
    trail = gateway.log_path.with_name("audit.jsonl")
    told = [json.loads(line) for line in trail.read_text().splitlines() if '"config.' in line]
    assert [(entry["action"], entry["details"]["config"]) for entry in told] == [
        ("config.start", first),
        ("config.reload", second),
    ]
    trail.rename(trail.with_name("away"))
    trail.mkdir()
    _change(gateway, "greeting.md", "Be loud.")
    soon(lambda: _failed(gateway) == {"failed"})
    assert _configs(gateway) == {second}
    assert "The new configuration was not taken" in gateway.stderr
