"""Nothing is overspent, and nearly all can be used: by 200 callers of 4 workers that are killed all the time."""

import asyncio
import contextlib
from collections import Counter

from acceptance.crowd import Crowd, murder, texts
from acceptance.gateways import PRICES, configuration, running_gateway
from acceptance.processes import family, kill
from holdfast.clock import SystemClock
from holdfast.state.files import STATE_FILE
from holdfast.state.keys import Keys
from holdfast.state.limits import Limit
from holdfast.state.spending import Spending

CAP = 1000
WORKERS = "4"
EVERY = 0.6
"""Seconds between two kills."""
NANO = 10**9
FEATURES = """
[features.one]
models = ["gpt"]

[features.two]
models = ["claude"]
"""
SLOW = "ttft=800ms,jitter=0.7,tps=400"
FAST = "ttft=50ms,jitter=0.7"


def keys(directory, *limits):
    """Make a key of the tenant acme for each tuple of limits, before the gateway starts. Return their tokens."""
    (directory / ".holdfast").mkdir(mode=0o700, parents=True)
    with contextlib.closing(Keys(directory / ".holdfast" / STATE_FILE, SystemClock())) as made:
        return [made.create(tenant="acme", role="app", limits=of)[0] for of in limits]


def limit(unit, text):
    return Limit.parse("key", "", unit, text)


def limited(providers, tenant="", one="", two=""):
    """Return a configuration in which the tenant and the features may have limits."""
    features = FEATURES.replace('["gpt"]', f'["gpt"]\n{one}').replace('["claude"]', f'["claude"]\n{two}')
    return configuration(providers, more=f"{features}\n[tenants.acme]\n{tenant}\n")


def question(chance, model, words=5, **more):
    asked = [{"role": "user", "content": " ".join(texts(chance, 1, words))}]
    return {"model": model, "messages": asked, "max_tokens": 20, "stream": chance.random() < 0.5, **more}


def booked(directory):
    """What was spent of each limit, once the gateway has stopped: nobody holds any of it then."""
    with contextlib.closing(Spending(directory / ".holdfast" / STATE_FILE, read_only=True)) as spending:
        spent = spending.spent()
    assert all(window.leased == 0 for window in spent)
    return {(window.meter.scope, window.meter.unit): window.drawn for window in spent}


def told(name, **measured):
    """Show what a test has measured, for the page about it."""
    print(name, ", ".join(f"{key} {value}" for key, value in measured.items()))  # noqa: T201


async def used_up(crowd, gateway, seed):
    """Let callers go on until all is used, killing workers; then until nothing is left that the dead had."""
    async with murder(gateway, seed, EVERY) as dead:
        await crowd.until_refused(1.0)
    await crowd.until_refused()
    return len(dead)


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_never_more_requests_than_the_budget_reach_the_provider_and_nearly_all_of_them_do(tmp_path, providers):
    (token,) = keys(tmp_path, [limit("requests", str(CAP))])
    providers.follow({"models": {"gpt": SLOW}})
    with running_gateway(tmp_path, limited(providers), "--workers", WORKERS) as gateway:
        crowd = Crowd(gateway, providers, lambda chance: (token, question(chance, "one")))
        async with crowd.calling():
            killed = await used_up(crowd, gateway, "kelp")
    told("requests", arrived=crowd.arrived, killed=killed, broken=crowd.broken, streams=crowd.streams)
    assert killed >= 4
    assert 0.99 * CAP <= crowd.arrived <= CAP
    assert crowd.arrived <= booked(tmp_path)["key", "requests"] <= CAP
    assert crowd.streams > 0
    assert all("The limit is used up (key hf_" in said or "limits" in said for said in crowd.limits), crowd.limits


async def test_a_gateway_that_is_killed_whole_in_the_middle_goes_on_with_what_is_left(tmp_path, providers):
    (token,) = keys(tmp_path, [limit("requests", str(CAP))])
    providers.follow({"models": {"gpt": SLOW}})
    async with contextlib.AsyncExitStack() as stack:
        gateway = await served(stack, tmp_path, limited(providers))
        crowd = Crowd(gateway, providers, lambda chance: (token, question(chance, "one")))
        await stack.enter_async_context(crowd.calling())
        for count in (CAP // 3, 2 * CAP // 3):
            async with murder(gateway, f"{count}", EVERY):
                await crowd.until_arrived(count)
            gateway = await restarted(stack, gateway, tmp_path, limited(providers))
            crowd.url = gateway.url
        killed = await used_up(crowd, gateway, "after")
    told("requests, restarted twice", arrived=crowd.arrived, killed=killed, broken=crowd.broken, streams=crowd.streams)
    assert 0.99 * CAP <= crowd.arrived <= CAP
    assert crowd.arrived <= booked(tmp_path)["key", "requests"] <= CAP


async def served(stack, directory, config):
    """Start a gateway without stopping the callers meanwhile."""
    starting = running_gateway(directory, config, "--workers", WORKERS)
    return await asyncio.to_thread(stack.enter_context, starting)


async def restarted(stack, gateway, directory, config):
    """Kill a gateway with all its processes, and start it again."""
    await asyncio.to_thread(kill, family(gateway))
    return await served(stack, directory, config)


async def test_limits_of_keys_tenant_and_features_hold_at_once(tmp_path, providers):
    caps = {"first": 500, "second": 700, "acme": CAP, "one": 600}
    tokens = keys(tmp_path, [limit("requests", "500")], [limit("requests", "700")])
    providers.follow({"models": {"gpt": SLOW, "claude": SLOW}})
    names = dict(zip(tokens, ("first", "second"), strict=True))

    def ask(chance):
        token, feature = chance.choice(tokens), chance.choice(["one", "two"])
        asked = question(chance, feature)
        asked["messages"][0]["content"] = f"{names[token]} {feature}"
        return token, asked

    config = limited(providers, tenant=f'requests = "{CAP}"', one='requests = "600"')
    with running_gateway(tmp_path, config, "--workers", WORKERS) as gateway:
        crowd = Crowd(gateway, providers, ask)
        async with crowd.calling():
            killed = await used_up(crowd, gateway, "several")
    arrived = Counter(name for record in providers.requests for name in said(record).split())
    told("requests, limits at once", killed=killed, arrived=arrived, broken=crowd.broken)
    assert arrived["first"] <= caps["first"]
    assert arrived["second"] <= caps["second"]
    assert arrived["one"] <= caps["one"]
    assert 0.99 * CAP <= crowd.arrived <= CAP


def said(record):
    """The text of a question that has reached a provider, on any wire."""
    content = record.body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[0]["text"]


# --- money ------------------------------------------------------------------------------------------------------------


def costly(chance):
    """A call of random length, whose answer is as long as it may be, or ends before that."""
    asked = question(chance, "one", words=400)
    return asked | {"max_tokens": chance.randint(1, 400)}


def charged(providers):
    """What the provider charges for all that has reached it, also where nobody waited for the answer: nano-dollars."""
    total = 0
    for record in providers.requests:
        assert record.status == 200
        words = len(said(record).split())
        rates = {
            "input": words,
            "output": min(words, record.body.get("max_tokens") or record.body["max_completion_tokens"]),
        }
        total += sum(round(PRICES[kind] * 1000) * count for kind, count in rates.items())
    return total


async def test_nearly_all_of_a_budget_in_money_is_used_and_no_cent_more(tmp_path, providers):
    cap = 2 * NANO
    (token,) = keys(tmp_path, [limit("nanousd", "2usd")])
    providers.follow({"models": {"gpt": FAST}})
    with running_gateway(tmp_path, limited(providers), "--workers", WORKERS) as gateway:
        crowd = Crowd(gateway, providers, lambda chance: (token, costly(chance)))
        async with crowd.calling():
            await crowd.until_refused()
    spent, drawn = charged(providers), booked(tmp_path)["key", "nanousd"]
    told("money", arrived=crowd.arrived, charged=spent / cap, booked=drawn / cap, streams=crowd.streams)
    assert crowd.broken == 0
    assert 0.97 * cap <= spent == drawn <= cap


async def test_no_cent_more_is_spent_by_workers_that_die_and_gateways_that_start_again(tmp_path, providers):
    cap = 2 * NANO
    (token,) = keys(tmp_path, [limit("nanousd", "2usd")])
    providers.follow({"models": {"gpt": SLOW}})
    async with contextlib.AsyncExitStack() as stack:
        gateway = await served(stack, tmp_path, limited(providers))
        crowd = Crowd(gateway, providers, lambda chance: (token, costly(chance)))
        await stack.enter_async_context(crowd.calling())
        async with murder(gateway, "money", EVERY) as dead:
            await crowd.until_arrived(300)
        gateway = await restarted(stack, gateway, tmp_path, limited(providers))
        crowd.url = gateway.url
        killed = len(dead) + await used_up(crowd, gateway, "more money")
    spent, drawn = charged(providers), booked(tmp_path)["key", "nanousd"]
    told("money", killed=killed, arrived=crowd.arrived, charged=spent / cap, booked=drawn / cap, broken=crowd.broken)
    assert spent <= drawn <= cap
    assert drawn >= 0.97 * cap  # what was cut off counts with its worst case, as nobody told what it used


def test_calls_one_after_the_other_pass_whichever_worker_they_come_to(tmp_path, providers):
    """What a call may use is most of the budget: while one worker holds that, though nothing is under way, the other
    has too little.
    """
    (token,) = keys(tmp_path, [limit("nanousd", "0.015usd")])
    body = {"model": "one", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1000}
    with running_gateway(tmp_path, limited(providers), "--workers", "2") as gateway:
        asked = {"authorization": f"Bearer {token}"}
        answers = [gateway.post("/v1/chat/completions", body, asked) for _ in range(40)]
    assert Counter(status for status, _ in answers) == {200: 40}, answers
    assert charged(providers) == booked(tmp_path)["key", "nanousd"]
