"""A distribution is a call like any other: over HTTP, in process, in the log."""

import asyncio
import json
from pathlib import Path

import pytest

import holdfast
from acceptance.gateways import Gateway, running_gateway
from holdfast.errors import FeatureDisabled, InvalidRequest
from integration.gateway.caller import Caller

PATH = "/v1/distribution"
CONFIG = """
[models.demo]
provider = "simulated"
name = "sim-echo"
price = { input = 1.0, output = 2.0 }

[models.silent]
provider = "simulated"
name = "sim-echo:logprobs=false"

[models.down]
provider = "simulated"
name = "sim-down"

[features.triage]
models = ["down", "demo"]
contract = "contract.json"
reproducible = true
last_resort = { object = { urgency = "low" } }

[features.off]
models = ["demo"]
enabled = false
last_resort = { message = "low" }
"""
CHOICES = ["low", "medium", "high"]


def ask(model: str, **more: object) -> bytes:
    said = [{"role": "user", "content": "How urgent is it?"}]
    return json.dumps({"model": model, "messages": said, "choices": CHOICES, **more}).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distribution")
    (folder / "contract.json").write_text('{"type": "object", "required": ["urgency"]}')
    return folder


@pytest.fixture(scope="module")
def gateway(folder):
    with running_gateway(folder, CONFIG) as running:
        yield running
        assert "Traceback" not in running.stderr


def test_it_is_answered_by_the_next_model_and_logged(gateway: Gateway):
    with Caller(gateway.url) as caller:
        response = caller.post(PATH, ask("triage", holdfast={"session": "s-1"}))
    answer = response.json
    assert (response.status, answer["object"], answer["method"]) == (200, "distribution", "logprobs")
    assert [share["choice"] for share in answer["choices"]] == CHOICES
    assert sum([share["probability"] for share in answer["choices"]]) == pytest.approx(1.0)
    assert answer["holdfast"]["model"] == response.headers["x-holdfast-model"] == "demo"
    call = gateway.call(response.headers["x-holdfast-call"])
    assert (call["kind"], call["outcome"], call["session"]) == ("distribution", "answered", "s-1")
    best = max(answer["choices"], key=lambda share: share["probability"])
    assert call["reply"]["choices"][0]["parts"][0]["text"] == best["choice"]
    assert call["reply"]["extra"]["distribution"]["method"] == "logprobs"
    assert call["request"]["extra"]["distribution"] == {"samples": 20, "method": None}


def test_samples_are_attempts_of_the_call_and_cost_what_they_cost(gateway: Gateway):
    with Caller(gateway.url) as caller:
        response = caller.post(PATH, ask("demo", method="samples", samples=20))
    assert (response.json["method"], response.json["samples"]) == ("samples", 20)
    call = gateway.call(response.headers["x-holdfast-call"])
    assert [attempt["reason"] for attempt in call["attempts"]] == ["first", "sample", "sample"]
    assert call["cost_usd"] == response.headers["x-holdfast-cost"] == response.json["holdfast"]["cost"]


def test_samples_and_log_probabilities_agree(gateway: Gateway):
    with Caller(gateway.url) as caller:
        told = caller.post(PATH, ask("demo")).json
        seen = caller.post(PATH, ask("silent", samples=8)).json
    assert (told["method"], seen["method"]) == ("logprobs", "samples")
    for one, other in zip(told["choices"], seen["choices"], strict=True):
        assert other["low"] <= one["probability"] <= other["high"]


def test_what_is_wrong_with_it_is_told_in_the_envelope_of_the_wire(gateway: Gateway):
    with Caller(gateway.url) as caller:
        wrong = caller.post(PATH, ask("demo", choices=["low"]))
        off = caller.post(PATH, ask("off"))
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "choices")
    assert (off.status, off.json["error"]["code"]) == (503, "feature_disabled")


def test_an_application_gets_it_in_process_too(folder, tmp_path):
    for name in ("contract.json",):
        (tmp_path / name).write_text((folder / name).read_text())
    (tmp_path / "holdfast.toml").write_text(CONFIG)

    async def main():
        async with holdfast.open(tmp_path / "holdfast.toml") as opened:
            found = await opened.distribution("triage", "How urgent is it?", CHOICES)
            with pytest.raises(InvalidRequest):
                await opened.distribution("triage", "How urgent is it?", ["low"])
            with pytest.raises(FeatureDisabled):
                await opened.distribution("off", "How urgent is it?", CHOICES)
            return found

    found = asyncio.run(main())
    assert found.best.choice in CHOICES
    assert found.method == "logprobs"
