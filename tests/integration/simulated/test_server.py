"""The simulator as its users meet it: Gemini, its own addresses, threads, corpora and the command."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.providers.simulated import Behaviour, Model, Script, Simulator, running_simulator
from integration.simulated.raw import chat, request, send

DATA = Path(os.environ.get("HOLDFAST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "outputs"


async def ask(sim, path, body=None, method="POST", content_type="application/json"):
    """Send a request and return its status and the decoded JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {content_type}\r\n"
    heard = await send(sim.port, f"{head}content-length: {len(content)}\r\n\r\n".encode() + content, 2.0)
    return int(heard.head.split()[1]), json.loads(heard.payload)


# --- gemini -----------------------------------------------------------------------------------------------------------

CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "How deep is it?"}]}]}


async def test_gemini_answers_whole_as_events_and_as_an_array(sim):
    path = "/v1beta/models/sim-echo:reasoning=2:"
    status, whole = await ask(sim, path + "generateContent", CONTENTS)
    parts = whole["candidates"][0]["content"]["parts"]
    assert (status, parts[1]["text"], parts[0]["thought"]) == (200, "How deep is it?", True)
    assert whole["usageMetadata"]["thoughtsTokenCount"] == 2
    _, array = await ask(sim, path + "streamGenerateContent", CONTENTS)
    events = (
        await send(sim.port, request(path + "streamGenerateContent?alt=sse", CONTENTS, "connection: close"))
    ).payload
    streamed = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b"data: ")]
    for chunks in (array, streamed):
        said = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join([part["text"] for part in said if not part.get("thought")]) == "How deep is it?"
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_gemini_embeds_one_and_many(sim):
    content = {"content": {"parts": [{"text": "kelp"}]}}
    _, one = await ask(sim, "/v1beta/models/e:embedContent", content)
    _, many = await ask(
        sim, "/v1beta/models/e:batchEmbedContents", {"requests": [{"model": "models/e", **content}] * 2}
    )
    assert [embedding["values"] for embedding in many["embeddings"]] == [one["embedding"]["values"]] * 2


async def test_gemini_counts_tokens_and_lists_models(sim):
    assert await ask(sim, "/v1beta/models/m:countTokens", CONTENTS) == (200, {"totalTokens": 4})
    inner = {"generateContentRequest": {"model": "models/m", **CONTENTS}}
    assert await ask(sim, "/v1beta/models/m:countTokens", inner) == (200, {"totalTokens": 4})
    _, listed = await ask(sim, "/v1beta/models", method="GET")
    assert "models/sim-echo" in [model["name"] for model in listed["models"]]


async def test_gemini_refuses_a_prompt_without_a_candidate(sim):
    status, body = await ask(sim, "/v1beta/models/sim-refuses:generateContent", CONTENTS)
    assert (status, "candidates" in body) == (200, False)
    assert body["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
    _, body = await ask(sim, "/v1beta/models/any:refuse=answer:generateContent", CONTENTS)
    assert body["candidates"][0]["finishReason"] == "SAFETY"


async def test_gemini_tells_when_to_retry_in_its_details(sim):
    status, body = await ask(sim, "/v1beta/models/sim-limited:generateContent", CONTENTS)
    assert (status, body["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert body["error"]["details"][0]["retryDelay"] == "2s"


async def test_gemini_context_and_prefill_errors(sim):
    _, body = await ask(sim, "/v1beta/models/any:context=1:generateContent", CONTENTS)
    assert body["error"]["message"] == "The input token count (4) exceeds the maximum number of tokens allowed (1)."
    begun = {"contents": [*CONTENTS["contents"], {"role": "model", "parts": [{"text": "How"}]}]}
    status, body = await ask(sim, "/v1beta/models/any:prefill=refuse:generateContent", begun)
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    _, body = await ask(sim, "/v1beta/models/any:generateContent", begun)
    assert body["candidates"][0]["content"]["parts"][0]["text"] == " deep is it?"


# --- requests that make no sense --------------------------------------------------------------------------------------

DEEP = b'{"a":' + b"[" * 20_000
PLACES = [
    ("/v1/chat/completions", lambda body: body["error"]["type"]),
    ("/v1/messages", lambda body: body["error"]["type"]),
    ("/v1beta/models/m:generateContent", lambda body: body["error"]["status"].lower()),
    ("/v1/embeddings", lambda body: body["error"]["type"]),
    ("/v1beta/models/m:embedContent", lambda body: body["error"]["status"].lower()),
    ("/v1/messages/count_tokens", lambda body: body["error"]["type"]),
    ("/v1beta/models/m:countTokens", lambda body: body["error"]["status"].lower()),
    ("/openai/deployments/m/chat/completions?api-version=1", lambda body: body["error"]["type"]),
]


@pytest.mark.parametrize(("path", "kind"), PLACES, ids=[path for path, _ in PLACES])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"5", b"{}", b'{"model": 5, "messages": 7, "contents": 7}', b"\xff\xfe", DEEP],
    ids=["nothing", "cut", "list", "number", "empty", "types", "no text", "deep"],
)
async def test_a_bad_body_is_a_400_in_the_envelope_of_its_wire(sim, path, kind, body):
    status, answer = await ask(sim, path, body)
    assert (status, kind(answer).startswith("invalid_")) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "envelope"),
    [
        ("GET", "/nope", 404, {"error"}),
        ("GET", "/v1beta/nope", 404, {"error"}),
        ("GET", "/v1/chat/completions", 405, {"error"}),
        ("GET", "/v1/messages", 405, {"type", "error", "request_id"}),
        ("GET", "/v1/models/none", 404, {"error"}),
        ("POST", "/v1/models", 405, {"error"}),
    ],
)
async def test_an_unknown_place_or_method_is_told_in_an_envelope(sim, method, path, status, envelope):
    told, body = await ask(sim, path, method=method)
    assert (told, set(body)) == (status, envelope)


# --- the simulator's own addresses ------------------------------------------------------------------------------------


async def test_the_requests_are_shown_and_forgotten_over_http(sim):
    await send(sim.port, chat("sim-echo", "kelp", close=True))
    await send(sim.port, chat("other", "kelp", close=True))
    _, shown = await ask(sim, "/_simulator/requests?model=sim-echo", method="GET")
    (record,) = shown["requests"]
    assert (record["wire"], record["status"], record["tokens"], record["fate"]) == ("openai", 200, 1, "complete")
    assert record["body"]["messages"][0]["content"] == "kelp"
    assert ["content-type", "application/json"] in record["headers"]
    assert await ask(sim, "/_simulator/requests", method="DELETE") == (200, {"requests": []})
    assert sim.requests == []


@pytest.mark.parametrize(
    ("script", "content_type"),
    [
        (b'{"models": {"m": {"steps": ["status=503"]}}}', "application/json"),
        (b'[models.m]\nsteps = ["status=503"]', "application/toml"),
    ],
)
async def test_the_script_is_changed_over_http(sim, script, content_type):
    status, followed = await ask(sim, "/_simulator/script", script, "PUT", content_type)
    assert (status, followed["models"]["m"]["steps"][0]["faults"][0]["status"]) == (200, 503)
    assert await ask(sim, "/_simulator/script", method="GET") == (200, followed)
    assert [(await ask(sim, "/v1beta/models/m:generateContent", CONTENTS))[0] for _ in range(2)] == [503, 200]
    status, again = await ask(sim, "/_simulator/script", followed, "PUT")
    assert (status, again) == (200, followed)


async def test_a_body_that_is_nested_too_deeply_is_shown_as_text(sim):
    await ask(sim, "/v1/chat/completions", DEEP)
    _, shown = await ask(sim, "/_simulator/requests", method="GET")
    assert [record["body"] for record in shown["requests"]] == [DEEP.decode()]


@pytest.mark.parametrize(
    "script",
    [b"{", b"[]", b'{"sed": 1}', b'{"default": {"corpus": ["/nowhere"]}}', b"\xff", DEEP],
    ids=["cut", "list", "key", "corpus", "no text", "deep"],
)
async def test_a_bad_script_changes_nothing(sim, script):
    sim.follow({"models": {"m": "text=yes"}})
    status, body = await ask(sim, "/_simulator/script", script, "PUT")
    assert status == 400
    assert body["error"]
    assert sim.script.models["m"].text == "yes"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "nope", 404), ("POST", "requests", 405)])
async def test_the_simulators_addresses_are_few(sim, method, path, status):
    told, body = await ask(sim, f"/_simulator/{path}", method=method)
    assert told == status
    assert "/_simulator/" in body["error"]


# --- in process -------------------------------------------------------------------------------------------------------


async def test_only_the_last_requests_are_kept():
    async with Simulator(keep=2) as sim:
        for model in ("a", "b", "c"):
            await send(sim.port, chat(model, close=True))
        assert [record.model for record in sim.requests] == ["b", "c"]


async def test_closing_gives_responses_grace():
    sim = Simulator({"default": "words=20,tps=200"})
    await sim.start()
    sending = asyncio.create_task(send(sim.port, chat("m", close=True), 2.0))
    await sim.wait_for(lambda record: record.tokens > 0)
    await sim.aclose(grace=5)
    assert (await sending).payload.endswith(b"[DONE]\n\n")


async def test_closing_ends_even_a_response_that_never_would():
    sim = Simulator()
    await sim.start()
    sending = asyncio.create_task(send(sim.port, chat("sim-silent"), 5.0))
    await sim.wait_for(lambda record: record.fate == "held")
    await sim.aclose(grace=0.01)
    assert (await sending).data == b""


async def test_waiting_for_what_does_not_come_times_out(sim):
    with pytest.raises(TimeoutError):
        await sim.wait_for(lambda record: True, timeout=0.01)


async def test_chance_is_repeatable():
    async def statuses():
        async with Simulator(Script(seed=5, default=Behaviour())) as sim:
            for _ in range(12):
                await send(sim.port, chat("sim-flaky", stream=False, close=True))
            return [record.status for record in sim.requests]

    first = await statuses()
    assert set(first) == {200, 503}
    assert await statuses() == first


def test_a_simulator_serves_from_a_thread():
    with running_simulator({"models": {"m": "text=yes"}}) as sim:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "?"}]}).encode()
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(sim.url("openai") + "/chat/completions", body, headers)
        with urllib.request.urlopen(asked) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"] == "yes"
        assert sim.wait_for(lambda record: record.fate == "complete").model == "m"
        assert len(sim.received("m")) == 1
        sim.follow({"strict": True})
        with pytest.raises(ConfigError, match='did you mean "strict"'):
            sim.follow({"strickt": True})
        sim.forget()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(asked)
        assert len(sim.requests) == 1


def test_a_simulator_in_a_thread_raises_what_is_wrong():
    with pytest.raises(ConfigError), running_simulator({"sed": 1}):
        pass


# --- corpora ----------------------------------------------------------------------------------------------------------


async def test_recorded_outputs_are_replayed(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "kelp?", "output": "Deep."}\n'))
    (tmp_path / "s.toml").write_text('[models.m]\ncorpus = ["a.jsonl.gz"]')
    async with Simulator(tmp_path / "s.toml") as sim:
        assert b'"content":"Deep."' in (await send(sim.port, chat("m", " kelp?\n", stream=False, close=True))).payload
        unknown = await send(sim.port, chat("m", "rock?", close=True))
        assert b"no output for this prompt, but for 1 others" in unknown.payload


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}: set HOLDFAST_DATA")
@pytest.mark.parametrize("wire", ["openai", "anthropic", "google"])
async def test_real_outputs_arrive_unchanged(wire):
    def rows(name):
        with gzip.open(DATA / f"gsm-{name}.jsonl.gz", "rt") as lines:
            return {row["id"]: row for row in map(json.loads, lines)}

    questions, outputs = rows("questions"), rows("Meta-Llama-3-8B-Instruct")
    files = (str(DATA / "gsm-questions.jsonl.gz"), str(DATA / "gsm-Meta-Llama-3-8B-Instruct.jsonl.gz"))
    async with Simulator(Script(models={"llama": Model(corpus=files)})) as sim:
        for id in list(questions)[:25]:
            heard = await send(sim.port, chat("llama", questions[id]["prompt"], wire=wire, close=True), 2.0)
            lines = [line[6:] for line in heard.payload.splitlines() if line.startswith(b"data: {")]
            assert "".join([text(json.loads(line)) for line in lines]) == outputs[id]["output"]


def text(event):
    if "choices" in event:
        return "".join([choice["delta"].get("content") or "" for choice in event["choices"]])
    if "candidates" in event:
        return "".join([part["text"] for candidate in event["candidates"] for part in candidate["content"]["parts"]])
    return event.get("delta", {}).get("text", "") if event["type"] == "content_block_delta" else ""


# --- the command ------------------------------------------------------------------------------------------------------


def simulate(*options, **kwargs):
    command = [sys.executable, "-m", "holdfast", "simulate", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_comes(tmp_path, number):
    (tmp_path / "prompts.jsonl").write_text('{"id": 1, "prompt": "kelp?"}\n')
    (tmp_path / "recorded.jsonl").write_text('{"id": 1, "output": "Deep."}\n')
    (tmp_path / "s.toml").write_text('[models.mine]\ntext = "Yes."')
    options = ["--port", "0", "--script", "s.toml", "--corpus", "prompts.jsonl", "--corpus", "recorded.jsonl"]
    with simulate(
        *options, "--tokens-per-second", "1000", "--first-token", "10ms", "--seed", "3", cwd=tmp_path
    ) as process:
        try:
            greeting = process.stdout.readline().split()
            assert greeting[:3] == ["Simulated", "providers", "at"]
            said = {}
            for model, prompt in (("mine", "?"), ("recorded", "kelp?"), ("any", "kelp?"), ("sim-echo", "?")):
                body = json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode()
                asked = urllib.request.Request(greeting[3] + "/v1/chat/completions", body)
                with urllib.request.urlopen(asked) as reply:
                    said[model] = json.load(reply)["choices"][0]["message"]["content"]
            with urllib.request.urlopen(greeting[3] + "/_simulator/script") as reply:
                script = json.load(reply)
        finally:
            process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert said == {"mine": "Yes.", "recorded": "Deep.", "any": "Deep.", "sim-echo": "?"}
    assert (script["seed"], script["default"]["tps"], script["default"]["ttft"]) == (3, 1000.0, "0.01s")
    assert "sim-cut" in out
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--script", "none.toml"], "none.toml: can't be read"),
        (["--corpus", "none.jsonl"], "can't be read"),
        (["--first-token", "soon"], "options: default.ttft: expected a duration"),
    ],
)
def test_the_command_refuses_what_is_wrong(tmp_path, options, message):
    with simulate("--port", "0", *options, cwd=tmp_path) as process:
        _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert message in err


async def test_the_command_says_that_its_address_is_taken(sim):
    with simulate("--port", str(sim.port)) as process:
        _, err = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert f"Can't listen on 127.0.0.1:{sim.port}" in err
