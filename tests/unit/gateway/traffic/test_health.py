"""What is known of a model while the gateway runs, and for how long it is kept."""

import asyncio

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import Saturated
from holdfast.gateway.catalog import Model
from holdfast.gateway.settings import GatewaySettings
from holdfast.gateway.traffic.health import Health, Register
from holdfast.http.base import Timeouts
from holdfast.providers.base import Endpoint, ModelSettings
from holdfast.providers.openai import OpenAIUpstream
from holdfast.settings import Duration
from holdfast.state.board import Board

GATEWAY = GatewaySettings()
GPT = ModelSettings(provider="openai", name="gpt-5-mini")
LIMITED = ModelSettings(provider="openai", name="gpt-5-mini", concurrency=2)


@pytest.fixture
def register():
    return Register(Board.create(None, 1), SystemClock())


def kept(register, name, settings, gateway=GATEWAY):
    health = register.health(name, settings, gateway)
    register.keep({name: health})
    return health


def test_the_health_of_a_model_survives_a_reload_that_does_not_change_it(register):
    before = kept(register, "gpt", GPT)
    again = ModelSettings(provider="openai", name="gpt-5-mini")
    assert kept(register, "gpt", again, GatewaySettings(deadline=Duration(5))) is before
    assert kept(register, "gpt", again) is before


@pytest.mark.parametrize(
    ("settings", "gateway"),
    [
        (ModelSettings(provider="openai", name="gpt-5"), GATEWAY),
        (LIMITED, GATEWAY),
        (GPT, GatewaySettings(retry_share=0.5)),
        (GPT, GatewaySettings(hedge_share=0.5)),
        (GPT, GatewaySettings(queue=7)),
    ],
)
def test_changed_settings_make_a_new_health_that_shares_the_state_of_the_old(register, settings, gateway):
    before = kept(register, "gpt", GPT)
    before.begin()
    for _ in range(5):
        before.breaker.failed()
    before.prefill = False
    after = kept(register, "gpt", settings, gateway)
    assert after is not before
    assert after.prefill is None
    assert after.outstanding() == 1
    assert after.breaker.ask() == "open"
    before.end()
    assert after.outstanding() == 0


def test_a_health_that_was_not_kept_because_the_reload_failed_changes_nothing(register):
    before = kept(register, "gpt", GPT)
    register.health("gpt", LIMITED, GATEWAY)
    assert register.health("gpt", GPT, GATEWAY) is before


def test_a_model_that_was_gone_for_a_while_comes_back_without_its_past(register):
    before = kept(register, "gpt", GPT)
    register.keep({})
    assert register.health("gpt", GPT, GATEWAY) is not before


def test_models_do_not_share_what_is_known_of_them(register):
    one, other = (register.health(name, GPT, GATEWAY) for name in ("one", "other"))
    for _ in range(5):
        one.breaker.failed()
    one.begin()
    assert one.retry()
    assert (other.breaker.ask(), other.outstanding(), other.retried) == ("closed", 0, 0)


def test_retries_and_hedges_are_allowed_within_their_budgets_and_counted(register):
    health = register.health("gpt", GPT, GatewaySettings(retry_share=0.5, hedge_share=0.0))
    allowed = 0
    while health.retry():
        allowed += 1
    assert health.retried == allowed == 10
    for _ in range(2):
        health.retries.count()
    assert [health.retry(), health.retry()] == [True, False]
    assert not health.hedge()
    assert (health.retried, health.hedged) == (11, 0)


async def test_a_limit_holds_for_what_is_inside_also_from_before_a_reload(register):
    assert register.health("gpt", GPT, GATEWAY).gate is None
    before = kept(register, "gpt", LIMITED).gate
    assert before.try_enter()
    assert before.try_enter()
    after = kept(register, "gpt", LIMITED, GatewaySettings(queue=1)).gate
    assert after is not before
    assert not after.try_enter()
    now = SystemClock().monotonic()
    async with asyncio.timeout(5):
        waiting = asyncio.create_task(after.enter("live", now + 5))
        await asyncio.sleep(0)
        with pytest.raises(Saturated, match="All 2 places of the model gpt are taken"):
            await after.enter("live", now + 5)
        before.leave()
        await waiting
    before.leave()
    after.leave()
    assert after.try_enter()


@pytest.mark.parametrize(
    ("known", "learnt", "continues"),
    [(True, None, True), (True, False, False), (False, None, False), (None, None, False), (True, True, True)],
)
def test_a_model_continues_answers_until_it_has_refused_to(known, learnt, continues):
    endpoint = Endpoint(model="gpt", base_url="http://127.0.0.1:1", prefill=known)
    model = Model(
        name="gpt",
        provider="openai",
        upstream=OpenAIUpstream(endpoint),
        transport=None,
        timeouts=Timeouts(),
        health=Health.private(),
    )
    model.health.prefill = learnt
    assert model.continues is continues
