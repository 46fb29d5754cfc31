"""A feature keeps its promise: fallback, last resort, deadline, rollout, prompt; asked through the `openai` package."""

import asyncio
import contextlib
import json
import time
import uuid

import openai
import pytest

from acceptance.gateways import CALLER_KEY, LAST_RESORT, configuration
from acceptance.sdks import QUESTION, USER, each, listed, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])

LATE_SECONDS = 0.05
"""How late a call may end after its deadline..."""
SLACK_SECONDS = 0.5
"""...and what the machine, the SDK and the connection may take beyond that, seen from the caller."""


class Told:
    """An answer and what was told beside it, however it came."""

    def __init__(self, text, summary, finish=None):
        self.text, self.summary, self.finish = text, summary, finish
        self.call, self.outcome, self.model = summary["call"], summary["outcome"], summary.get("model")
        self.attempts, self.cost = int(summary["attempts"]), summary.get("cost")


async def _ask(gpt, model, streamed=False, **parameters):
    if streamed:
        chunks = await listed(gpt.chat.completions.create(model=model, messages=USER, stream=True, **parameters))
        text = "".join([choice.delta.content or "" for chunk in chunks for choice in chunk.choices])
        ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
        return Told(text, chunks[-1].model_extra["holdfast"], *ends)
    raw = await settled(gpt.chat.completions.with_raw_response.create(model=model, messages=USER, **parameters))
    choice = raw.parse().choices[0]
    said = {name.removeprefix("x-holdfast-"): value for name, value in raw.headers.items() if "holdfast" in name}
    return Told(choice.message.content, said, choice.finish_reason)


def _failed_cost(how):
    """Return what a failed attempt costs: nothing, or nobody knows once the provider had begun to answer."""
    return None if how.startswith(("cut", "malformed")) else "0.000000000"


# --- fallback ---------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("status=503", "overloaded"),
        ("status=500", "provider_failed"),
        ("status=429,retry_after=60", "rate_limited"),
        ("status=401", "provider_authentication"),
        ("status=404", "model_unavailable"),
        ("status=400", "bad_request"),
        ("context=2", "context_too_long"),
        ("reset=start", "connection_failed"),
        ("cut=0", "connection_failed"),
        ("cut=0e", None),
        ("malformed=html", "malformed_response"),
        ("malformed=empty", None),
    ],
)
async def test_when_a_model_fails_the_next_one_answers(gpt, gateway, providers, how, error, streamed):
    providers.follow({"models": {"gpt": how}})
    told = await _ask(gpt, "answer", streamed)
    assert (told.text, told.finish, told.outcome, told.model) == (QUESTION, "stop", "answered", "claude")
    call = gateway.call(told.call)
    stale = [attempt for attempt in call["attempts"] if attempt["reason"] == "retry"]
    assert len(stale) <= (how == "reset=start"), "only a connection that was kept alive is replaced"
    assert told.attempts == len(call["attempts"]) == 2 + len(stale)
    assert len(providers.received("gpt")) == 1 + len(stale)
    first, second = call["attempts"][0], call["attempts"][-1]
    assert (first["model"], first["reason"], second["model"], second["reason"]) == (
        "gpt",
        "first",
        "claude",
        "fallback",
    )
    assert first["error"] == (error or first["error"])
    assert first["error"]
    assert second["error"] is None
    failed = _failed_cost(how)
    assert (first["cost_usd"], second["cost_usd"]) == (failed, "0.000060000")
    assert (call["outcome"], call["model"], call["feature"], call["error"]) == ("answered", "claude", "answer", None)
    assert told.cost == call["cost_usd"] == ("0.000060000" if failed else None)


async def test_a_stream_that_reports_an_error_before_its_first_word_is_answered_by_the_next_model(gpt, providers):
    providers.follow({"models": {"gpt": "error_event=0"}})
    told = await _ask(gpt, "answer", streamed=True)
    assert (told.text, told.model, told.attempts) == (QUESTION, "claude", 2)


async def test_a_model_that_is_silent_is_left_for_the_next_one_in_time(gpt, providers):
    providers.follow({"models": {"gpt": "stall=start"}})
    for streamed in (False, True):
        begin = time.monotonic()
        told = await _ask(gpt, "impatient", streamed)
        assert (told.text, told.model) == (QUESTION, "claude")
        assert time.monotonic() - begin < 0.15 + SLACK_SECONDS
    assert all(record.hung_up_at for record in providers.received("gpt"))


@both_ways
async def test_when_every_model_fails_the_most_telling_error_is_told(gpt, gateway, providers, streamed):
    providers.follow({"models": {"gpt": "status=503", "claude": "status=500", "gemini": "context=1"}})
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gpt, "answer", streamed)
    assert (caught.value.status_code, caught.value.code) == (502, "provider_failed")
    call = gateway.call(caught.value.body["call"])
    assert [attempt["error"] for attempt in call["attempts"]] == ["overloaded", "provider_failed", "context_too_long"]
    assert [attempt["provider_status"] for attempt in call["attempts"]] == [503, 500, 400]
    assert call["cost_usd"] == "0.000000000"


@both_ways
async def test_a_refusal_is_not_routed_around(gpt, providers, streamed):
    providers.follow({"models": {"gpt": "refuse=prompt"}})
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, "answer", streamed)
    assert caught.value.code == "content_filter"
    assert [record.model for record in providers.requests] == ["gpt"]


async def test_once_a_model_has_spoken_no_other_says_something_else(gpt, gateway, providers):
    providers.follow({"models": {"gpt": "words=9,cut=3"}})
    said = []

    async def read():
        async for chunk in each(gpt.chat.completions.create(model="careful", messages=USER, stream=True)):
            said.extend([choice.delta.content or "" for choice in chunk.choices])

    with pytest.raises(openai.APIError, match="gave another answer") as caught:
        await read()
    assert caught.value.code == "broken_stream"
    assert [record.model for record in providers.requests] == ["gpt", "claude"]
    call = gateway.call(caught.value.body["call"])
    assert [attempt["reason"] for attempt in call["attempts"]] == ["first", "restart"]
    assert call["reply"]["choices"][0]["parts"] == [{"type": "text", "text": "".join(said)}]


@both_ways
async def test_tools_formats_and_images_survive_a_fallback(gpt, providers, streamed):
    providers.follow({"models": {"gpt": "status=503", "claude": "status=529", "gemini": "tools=never"}})
    schema = {"name": "depth", "schema": {"type": "object", "properties": {"metres": {"type": "integer"}}}}
    told = await _ask(
        gpt, "answer", streamed, response_format={"type": "json_schema", "json_schema": schema}, max_tokens=50
    )
    assert (json.loads(told.text), told.model) == ({"metres": 1}, "gemini")


# --- last resort ------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("how", ["status=503", "reset=start", "malformed=html", "status=401"])
async def test_the_last_resort_answers_when_no_model_can_and_says_so(gpt, gateway, providers, how, streamed):
    providers.follow({"default": how})
    told = await _ask(gpt, "careful", streamed)
    assert (told.text, told.finish, told.outcome, told.model) == (LAST_RESORT, "stop", "last_resort", None)
    assert told.cost == _failed_cost(how)
    call = gateway.call(told.call)
    assert (call["outcome"], call["status"], call["model"]) == ("last_resort", 200, None)
    assert call["error"]
    assert {attempt["model"] for attempt in call["attempts"]} == {"gpt", "claude"}
    assert call["reply"]["choices"][0]["parts"] == [{"type": "text", "text": LAST_RESORT}]


@both_ways
async def test_a_last_resort_does_not_hide_what_the_caller_could_mend(gpt, providers, streamed):
    providers.follow({"default": "context=2"})
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, "careful", streamed)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(("name", "code"), [("careful", "overloaded"), ("off", "feature_disabled")])
async def test_a_last_resort_is_no_vector_so_the_failure_itself_is_told(gpt, providers, name, code):
    providers.follow({"models": {"gpt": "status=503"}})
    with pytest.raises(openai.InternalServerError) as caught:
        await settled(gpt.embeddings.create(model=name, input="kelp"))
    assert (caught.value.status_code, caught.value.code) == (503, code)


@both_ways
async def test_a_feature_that_is_off_answers_with_its_last_resort(gpt, gateway, providers, streamed):
    told = await _ask(gpt, "off", streamed)
    assert (told.text, told.outcome, told.attempts, told.cost) == (LAST_RESORT, "last_resort", 0, "0.000000000")
    assert gateway.call(told.call)["error"] == "feature_disabled"
    assert providers.requests == []


@both_ways
async def test_a_feature_that_is_off_and_has_no_last_resort_is_a_typed_error(gpt, providers, streamed):
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gpt, "dark", streamed)
    assert (caught.value.status_code, caught.value.code) == (503, "feature_disabled")
    assert providers.requests == []


# --- rollout ----------------------------------------------------------------------------------------------------------


async def test_a_rollout_serves_its_share_of_sessions_and_each_always_alike(gateway, providers):
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:

        async def serves(session):
            headers = {"x-holdfast-session": session}
            return (await _ask(gpt, "half", extra_headers=headers)).outcome == "answered"

        sessions = [f"session-{number}" for number in range(200)]
        first = await asyncio.gather(*[serves(session) for session in sessions])
        again = await asyncio.gather(*[serves(session) for session in sessions[:50]])
    assert first[:50] == again
    assert 0.4 < sum(first) / len(first) < 0.6  # the hash is fixed, so this can't flicker
    assert len(providers.received("gpt")) == sum(first) + sum(again)


# --- deadlines --------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("how", "milliseconds"),
    [("stall=start", 200), ("stall=0", 200), ("words=9,trickle=1,every=100ms", 200), ("ttft=30s", 60)],
)
async def test_a_call_without_last_resort_ends_at_its_deadline_with_a_typed_error(
    gpt, gateway, providers, how, milliseconds, streamed
):
    providers.follow({"default": how})
    begin = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gpt, "answer", streamed, extra_headers={"x-holdfast-deadline-ms": str(milliseconds)})
    took = time.monotonic() - begin
    assert (caught.value.status_code, caught.value.code) in [(504, "deadline_exceeded"), (504, "timeout")]
    assert took < milliseconds / 1000 + LATE_SECONDS + SLACK_SECONDS
    call = gateway.call(caught.value.body["call"])
    assert call["duration_us"] < (milliseconds / 1000 + LATE_SECONDS) * 1e6 + 50_000
    assert providers.wait_for(lambda record: record.hung_up_at is not None)


@both_ways
@pytest.mark.parametrize("milliseconds", [40, 200])
async def test_a_last_resort_comes_before_the_deadline(gpt, gateway, providers, milliseconds, streamed):
    providers.follow({"default": "stall=start"})
    begin = time.monotonic()
    told = await _ask(gpt, "careful", streamed, extra_body={"holdfast": {"deadline_ms": milliseconds}})
    took = time.monotonic() - begin
    assert (told.text, told.outcome) == (LAST_RESORT, "last_resort")
    assert took < milliseconds / 1000 + SLACK_SECONDS
    assert gateway.call(told.call)["duration_us"] < milliseconds * 1000 + 20_000


async def test_a_deadline_in_the_middle_of_a_stream_is_an_error_and_no_end(gpt, gateway, providers):
    providers.follow({"default": "words=90,tps=50"})
    ends, begin = [], time.monotonic()

    async def read():
        hints = {"holdfast": {"deadline_ms": 200}}
        async for chunk in each(
            gpt.chat.completions.create(model="careful", messages=USER, stream=True, extra_body=hints)
        ):
            ends.extend([choice.finish_reason for choice in chunk.choices])

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert time.monotonic() - begin < 0.2 + LATE_SECONDS + SLACK_SECONDS
    assert len(ends) > 5
    assert set(ends) == {None}
    assert gateway.call(caught.value.body["call"])["error"] == "deadline_exceeded"


async def test_a_deadline_of_a_caller_who_reads_slowly_is_kept(gateway, providers):
    """The gateway must not wait for ever on a caller who takes nothing."""
    providers.follow({"default": {"text": ("kelp" * 500 + " ") * 10_000}})
    session = uuid.uuid4().hex
    body = {"model": "answer", "messages": USER, "stream": True, "holdfast": {"deadline_ms": 1500, "session": session}}
    reader, writer = await asyncio.open_connection(*gateway.url.removeprefix("http://").split(":"), limit=1024)
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    assert b" 200 " in await reader.readline()
    (call,) = await asyncio.to_thread(gateway.calls, session=session)
    assert (call["outcome"], call["error"]) == ("error", "deadline_exceeded")
    assert call["attempts"][0]["first_token_us"] > 0
    assert call["duration_us"] < (1.5 + LATE_SECONDS + SLACK_SECONDS) * 1e6
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_the_longest_deadline_is_the_gateways(gpt, serve, simulator, providers):
    gateway = serve(configuration(simulator, gateway='max_deadline = "100ms"\ndeadline = "100ms"'))
    providers.follow({"default": "stall=start"})
    for headers in ({}, {"x-holdfast-deadline-ms": "60000"}):
        status, answer = gateway.post("/v1/chat/completions", {"model": "gpt", "messages": USER}, headers)
        assert (status, answer["error"]["code"]) in [(504, "deadline_exceeded"), (504, "timeout")]


# --- prompts and hints ------------------------------------------------------------------------------------------------


async def test_a_prompt_is_filled_with_the_callers_variables_once(gpt, providers):
    variables = {"name": "{{ language }}", "language": "Ünïcödé\n{{ name }}"}
    await _ask(gpt, "greeting", extra_body={"holdfast": {"variables": variables}})
    first, second = providers.received("gpt")[0].body["messages"]
    assert first["role"] == "system"
    assert first["content"].strip() == "Greet {{ language }} in Ünïcödé\n{{ name }}."
    assert second == USER[0]


async def test_the_log_keeps_the_variables_of_a_prompt_and_no_other_hint(gateway, providers):
    hints = {"variables": {"name": "Ada", "language": "Latin"}, "subject": "ada@example.org", "session": "s"}
    body = {"model": "greeting", "messages": USER, "holdfast": hints}
    assert gateway.post("/v1/chat/completions", body)[0] == 200
    assert "holdfast" not in providers.received("gpt")[0].body
    call = gateway.calls(name="greeting", session="s")[0]
    request = gateway.call(call["id"])["request"]
    assert request["extra"] == {"holdfast": {"variables": hints["variables"]}}
    assert "ada@example.org" not in str(gateway.call(call["id"]))


async def test_a_variable_that_is_missing_is_named(gpt, providers):
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, "greeting", extra_body={"holdfast": {"variables": {"name": "Ada"}}})
    assert caught.value.param == "holdfast.variables.language"
    assert providers.requests == []


@pytest.mark.parametrize("model", ["gpt", "claude", "gemini"])
@pytest.mark.parametrize("by", ["headers", "body"])
async def test_hints_are_recorded_and_stay_here(gpt, gateway, providers, model, by):
    session, subject = uuid.uuid4().hex, uuid.uuid4().hex
    if by == "headers":
        said = {
            "extra_headers": {
                "x-holdfast-session": session,
                "x-holdfast-subject": subject,
                "x-holdfast-tags": "a=b, c=d e",
            }
        }
    else:
        said = {"extra_body": {"holdfast": {"session": session, "subject": subject, "tags": {"a": "b", "c": "d e"}}}}
    told = await _ask(gpt, model, **said)
    call = gateway.call(told.call)
    assert (call["session"], call["tags"]) == (session, {"a": "b", "c": "d e"})
    assert call["subject"]
    assert subject not in json.dumps(call)
    assert [found["id"] for found in gateway.calls(subject=subject)] == [told.call]
    assert [found["id"] for found in gateway.calls(session=session)] == [told.call]
    record = providers.received(model)[0]
    sent = f"{record.path} {record.headers} {record.raw!r}"
    assert "holdfast-" not in sent
    assert '"holdfast"' not in sent
    assert session not in sent
    assert CALLER_KEY not in json.dumps(call)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("deadline-ms", "soon"),
        ("deadline-ms", "0"),
        ("deadline-ms", "-5"),
        ("tags", "a"),
        ("session", ""),
        ("session", "s" * 300),
    ],
)
async def test_a_wrong_hint_is_named(gpt, header, value):
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gpt, "gpt", extra_headers={f"x-holdfast-{header}": value})
    assert header.replace("-", "_") in caught.value.param.replace("-", "_")


async def test_the_log_pages_through_its_calls(gpt, gateway):
    tag = uuid.uuid4().hex
    ids = [(await _ask(gpt, "gpt", extra_headers={"x-holdfast-tags": f"run={tag}"})).call for _ in range(5)]
    gateway.call(ids[-1])
    found, before = [], {}
    while True:
        page = gateway.get(f"/api/calls?tag=run%3D{tag}&limit=2" + "".join([f"&before={id}" for id in before]))
        found += [call["id"] for call in page["calls"]]
        if page["next"] is None:
            break
        before = [page["next"]]
    assert found == ids[::-1]


@both_ways
async def test_with_a_synchronous_log_a_call_is_in_it_when_its_answer_ends(serve, simulator, providers, streamed):
    gateway = serve(configuration(simulator, log='durability = "sync"'))
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as gpt:
        for _ in range(10):
            told = await _ask(gpt, "gpt", streamed)
            assert gateway.get(f"/api/calls/{told.call}")["outcome"] == "answered"
