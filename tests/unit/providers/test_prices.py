import importlib.metadata
import json
import random
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal

import genai_prices
import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from holdfast.chat import Usage
from holdfast.providers import prices
from holdfast.providers.prices import Change, Price, PriceSettings, Rates, Tier, find, list_price

TODAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
MILLION = 1_000_000


def price(**kinds: str) -> Price:
    return Price(rates=Rates(**{kind: Decimal(rate) for kind, rate in kinds.items()}))


# --- the cost of one attempt


def test_a_million_tokens_cost_the_rate():
    assert price(input="2.5", output="10").cost_nanousd(Usage(input_tokens=MILLION)) == 2_500_000_000
    assert price(input="2.5", output="10").cost_nanousd(Usage(output_tokens=MILLION)) == 10_000_000_000


def test_cached_tokens_cost_their_own_rate_and_not_twice():
    usage = Usage(input_tokens=1000, cache_read_tokens=600, cache_write_tokens=300)
    cost = price(input="10", output="1", cache_read="1", cache_write="12.5").cost_nanousd(usage)
    assert cost == (100 * 10 + 600 * 1) * 1000 + 3_750_000


def test_cached_tokens_without_a_rate_cost_what_input_does():
    usage = Usage(input_tokens=1000, cache_read_tokens=600)
    assert price(input="10", output="1").cost_nanousd(usage) == 10_000_000


def test_reasoning_tokens_are_part_of_the_output_and_cost_once():
    usage = Usage(output_tokens=100, reasoning_tokens=80)
    assert price(input="1", output="2").cost_nanousd(usage) == 200_000
    assert price(input="1", output="2", reasoning="3").cost_nanousd(usage) == 280_000


def test_audio_tokens_cost_their_own_rate_where_there_is_one():
    usage = Usage(input_tokens=100, input_audio_tokens=90, output_tokens=50, output_audio_tokens=50)
    rates = price(input="1", output="2", input_audio="10", output_audio="20")
    assert rates.cost_nanousd(usage) == (10 * 1 + 90 * 10 + 50 * 20) * 1000
    assert price(input="1", output="2").cost_nanousd(usage) == 200_000


# --- the most that one attempt can cost


def test_the_worst_case_takes_the_highest_rate_of_every_kind_tier_and_change():
    low, high = Rates(input=Decimal(1), output=Decimal(2)), Rates(input=Decimal(3), output=Decimal(5))
    assert Price(rates=low).worst_nanousd(10, 100) == (10 * 1 + 100 * 2) * 1000
    assert Price(rates=low, tiers=(Tier(200_000, high),)).worst_nanousd(10, 100) == (10 * 3 + 100 * 5) * 1000
    changes = (Change(price=Price(rates=low, tiers=(Tier(0, high),)), since=9e9),)
    assert Price(rates=low, changes=changes).worst_nanousd(10, 100) == (10 * 3 + 100 * 5) * 1000
    assert price(input="1", output="1", cache_write="1.25", reasoning="7").worst_nanousd(4, 1) == 5000 + 7000


def test_the_worst_case_is_rounded_up():
    assert price(input="0.0001", output="0").worst_nanousd(1, 0) == 1
    assert price(input="0", output="0").worst_nanousd(10**9, 10**9) == 0


def test_without_a_price_for_output_only_input_has_a_worst_case():
    assert price(input="2").worst_nanousd(10, 0) == 20_000
    assert price(input="2").worst_nanousd(10, 1) is None
    assert (
        Price(
            rates=Rates(input=Decimal(1), output=Decimal(1)), tiers=(Tier(9, Rates(input=Decimal(1))),)
        ).worst_nanousd(1, 1)
        is None
    )


dollars = st.decimals(0, 200, places=4)
rates = st.builds(
    Rates,
    input=dollars,
    output=dollars,
    cache_read=st.none() | dollars,
    cache_write=st.none() | dollars,
    reasoning=st.none() | dollars,
    input_audio=st.none() | dollars,
    output_audio=st.none() | dollars,
)
plain = st.builds(
    Price, rates=rates, tiers=st.lists(st.builds(Tier, st.integers(0, 2000), rates), max_size=2).map(tuple)
)
changes = st.lists(st.builds(Change, price=plain, since=st.floats(0, 100)), max_size=2).map(tuple)
prices_of_all_kinds = st.builds(Price, rates=rates, changes=changes) | plain
tokens = st.integers(0, 1000)
usages = st.builds(
    Usage,
    input_tokens=tokens,
    output_tokens=tokens,
    cache_read_tokens=tokens,
    cache_write_tokens=tokens,
    reasoning_tokens=tokens,
    input_audio_tokens=tokens,
    output_audio_tokens=tokens,
)


@given(prices_of_all_kinds, usages, st.floats(0, 100), tokens, tokens)
def test_nothing_ever_costs_more_than_the_worst_case(price, usage, at, more_input, more_output):
    cost = price.cost_nanousd(usage, at)
    worst = price.worst_nanousd(usage.input_tokens + more_input, usage.output_tokens + more_output)
    assert cost is None or cost <= worst


# --- rounding


def test_a_fraction_of_a_nanodollar_is_rounded_half_to_even():
    rates = price(input="0.0005", output="1")
    assert [rates.cost_nanousd(Usage(input_tokens=n)) for n in (1, 2, 3, 4, 5)] == [0, 1, 2, 2, 2]


def test_a_tier_applies_to_the_whole_request_above_its_start():
    tiered = Price(
        rates=Rates(input=Decimal(1), output=Decimal(10)),
        tiers=(
            Tier(1000, Rates(input=Decimal(2), output=Decimal(20))),
            Tier(5000, Rates(input=Decimal(3), output=Decimal(30))),
        ),
    )
    assert tiered.cost_nanousd(Usage(input_tokens=1000, output_tokens=1)) == 1_010_000
    assert tiered.cost_nanousd(Usage(input_tokens=1001, output_tokens=1)) == 2_022_000
    assert tiered.cost_nanousd(Usage(input_tokens=9000, output_tokens=1)) == 27_030_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, cache_read_tokens=11),
        Usage(output_tokens=10, reasoning_tokens=11),
        Usage(input_tokens=-1),
        Usage(input_tokens=10, cache_read_tokens=5, input_audio_tokens=5),
    ],
    ids=["more cached than input", "more reasoning than output", "negative", "cached together with audio"],
)
def test_usage_that_leaves_the_cost_open_has_an_unknown_cost(usage):
    rates = price(input="1", output="2", cache_read=".1", reasoning="3", input_audio="10")
    assert rates.cost_nanousd(usage) is None


def test_output_of_a_model_that_has_no_price_for_it_has_an_unknown_cost():
    assert price(input="1").cost_nanousd(Usage(input_tokens=1)) == 1000
    assert price(input="1").cost_nanousd(Usage(input_tokens=1, output_tokens=1)) is None


def test_a_price_changes_on_its_date():
    later = Change(price=price(input="9", output="9"), since=TODAY.timestamp())
    changing = Price(rates=Rates(input=Decimal(1), output=Decimal(1)), changes=(later,))
    usage = Usage(input_tokens=1)
    assert changing.cost_nanousd(usage, TODAY.timestamp() - 1) == 1000
    assert changing.cost_nanousd(usage, TODAY.timestamp()) == 9000


def test_a_price_changes_with_the_time_of_day_also_over_midnight():
    night = Change(price=price(input="9", output="9"), daily=(22 * 3600, 2 * 3600))
    changing = Price(rates=Rates(input=Decimal(1), output=Decimal(1)), changes=(night,))
    expensive = [
        hour for hour in range(24) if changing.cost_nanousd(Usage(input_tokens=1), 86_400 * 7 + hour * 3600) == 9000
    ]
    assert expensive == [0, 1, 22, 23]


def test_a_price_without_a_time_is_the_one_of_now():
    over = Change(price=price(input="9", output="9"), since=1.0)
    assert Price(rates=Rates(input=Decimal(1)), changes=(over,)).cost_nanousd(Usage(input_tokens=1)) == 9000


def test_a_configured_price_is_taken_to_the_last_digit():
    settings = PriceSettings(input=0.1, output=0.2, cache_read=0.003625)
    assert Price.of(settings) == price(input="0.1", output="0.2", cache_read="0.003625")


@given(
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.decimals("0", "1000", places=6),
    st.decimals("0", "1000", places=6),
)
def test_a_cost_is_the_exact_product_to_half_a_nanodollar(input, output, input_rate, output_rate):
    cost = Price(rates=Rates(input=input_rate, output=output_rate)).cost_nanousd(
        Usage(input_tokens=input, output_tokens=output)
    )
    assert abs(cost - 1000 * (input * input_rate + output * output_rate)) <= Decimal("0.5")


# --- against genai-prices itself


def usages(generator: random.Random):
    for size in (100, 50_000, 130_000, 250_000, 1_000_000):
        input, output = generator.randrange(size), generator.randrange(size)
        read = generator.randrange(input + 1)
        yield Usage(input_tokens=input, output_tokens=output)
        yield Usage(input_tokens=input, output_tokens=output, cache_read_tokens=read)
        yield Usage(
            input_tokens=input,
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=input - read,
            reasoning_tokens=output // 2,
        )


def theirs(usage: Usage, provider: str, model: str, at: datetime) -> int:
    reported = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=0,
        cache_audio_read_tokens=0,
        output_reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
    )
    cost = genai_prices.calc_price(reported, model, provider_id=provider, genai_request_timestamp=at).total_price
    return int((cost * 10**9).to_integral_value())


def every_model():
    return [(provider.id, model.id) for provider in get_snapshot().providers for model in provider.models]


def test_every_price_that_we_give_agrees_with_genai_prices():
    generator = random.Random(7)
    compared = 0
    for provider, model in generator.sample(every_model(), 400):
        ours = list_price(provider, model, TODAY.date())
        if ours is None or ours.rates.output is None:
            continue
        for usage in usages(generator):
            assert ours.cost_nanousd(usage, TODAY.timestamp()) == theirs(usage, provider, model, TODAY), (model, usage)
            compared += 1
    assert compared > 3000


@pytest.mark.parametrize("at", [datetime(2026, 11, 30, 23, 59, tzinfo=UTC), datetime(2027, 2, 1, 2, tzinfo=UTC)])
def test_prices_that_depend_on_date_or_hour_agree_with_genai_prices(at):
    models = [(p, m) for p, m in every_model() if (found := list_price(p, m, TODAY.date())) and found.changes]
    usage = Usage(input_tokens=1234, output_tokens=567, cache_read_tokens=89)
    assert models
    for provider, model in models:
        ours = list_price(provider, model, TODAY.date())
        assert ours.cost_nanousd(usage, at.timestamp()) == theirs(usage, provider, model, at), model


def test_audio_agrees_with_genai_prices():
    usage = Usage(input_tokens=900, input_audio_tokens=400, output_tokens=300, output_audio_tokens=250)
    ours = list_price("openai", "gpt-audio", TODAY.date())
    assert ours.cost_nanousd(usage, TODAY.timestamp()) == theirs(usage, "openai", "gpt-audio", TODAY)


def test_a_model_that_is_charged_by_more_than_tokens_has_an_unknown_price():
    assert list_price("perplexity", "sonar", date(2026, 11, 21)) is None  # a fee for every request
    assert list_price("groq", "whisper-large-v3", date(2026, 11, 21)) is None  # by the hour
    assert list_price("openai", "gpt-image-1", date(2026, 11, 21)) is None  # images cost more than text


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("mistral", "mistral-large-latest")],
)
def test_the_context_window_is_the_one_of_genai_prices_where_it_tells_one(provider, model):
    _, theirs = get_snapshot().find_provider_model(model, None, provider, None)
    assert list_price(provider, model, TODAY.date()).context == theirs.context_window


# --- the look-up


def test_a_look_up_finds_prices_without_importing_genai_prices():
    program = (
        "import sys, json; from holdfast.providers.prices import find;"
        "found = find([('openai', 'gpt-4o-mini')]);"
        "print(json.dumps([str(found['openai', 'gpt-4o-mini'].rates.input), 'genai_prices' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(done.stdout) == ["0.15", False]


@pytest.fixture
def look_ups(monkeypatch):
    """The look-ups that a child process was started for, answered by this one."""
    seen = []

    def look_up(models):
        seen.append(list(models))
        return {model: list_price(*model, TODAY.date()) for model in models}

    monkeypatch.setattr(prices, "_look_up", look_up)
    return seen


def test_unknown_models_and_providers_outside_the_list_have_no_price(look_ups):
    models = [("openai", "no-such-model"), ("no-such-provider", "x"), (None, "gpt-4o-mini")]
    assert find(models) == dict.fromkeys(models)
    assert look_ups == [models[:2]]


def test_a_second_look_up_is_answered_by_the_cache(look_ups, tmp_path):
    cache = tmp_path / "state" / "prices.json"
    models = [("openai", "gpt-4o-mini"), ("google", "gemini-2.5-pro"), ("deepseek", "deepseek-v4-pro"), ("x", "y")]
    first = find(models, cache)
    assert find(models, cache) == first
    assert len(look_ups) == 1
    assert [file.name for file in cache.parent.iterdir()] == ["prices.json"]


def test_only_what_the_cache_lacks_is_looked_up(look_ups, tmp_path):
    cache = tmp_path / "prices.json"
    find([("openai", "gpt-4o-mini")], cache)
    find([("openai", "gpt-4o-mini"), ("openai", "gpt-4o")], cache)
    assert look_ups == [[("openai", "gpt-4o-mini")], [("openai", "gpt-4o")]]
    find([("openai", "gpt-4o-mini"), ("openai", "gpt-4o")], cache)
    assert len(look_ups) == 2


def test_a_cache_of_another_version_of_the_list_is_not_used(look_ups, tmp_path, monkeypatch):
    cache = tmp_path / "prices.json"
    find([("openai", "gpt-4o-mini")], cache)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99.0")
    find([("openai", "gpt-4o-mini")], cache)
    assert len(look_ups) == 2


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"version": 3}', b"\xff\xfe"])
def test_a_damaged_cache_is_looked_up_again_and_mended(look_ups, tmp_path, damaged):
    cache = tmp_path / "prices.json"
    cache.write_bytes(damaged)
    assert find([("openai", "gpt-4o-mini")], cache)["openai", "gpt-4o-mini"]
    assert msgspec.json.decode(cache.read_bytes())["prices"]


def test_a_cache_that_cannot_be_written_stops_nothing(look_ups, tmp_path):
    (tmp_path / "file").write_text("")
    assert find([("openai", "gpt-4o-mini")], tmp_path / "file" / "prices.json")["openai", "gpt-4o-mini"]


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/false"])
def test_a_look_up_that_fails_is_logged_makes_prices_unknown_and_is_not_remembered(
    monkeypatch, tmp_path, caplog, program
):
    monkeypatch.setattr(sys, "executable", program)
    cache = tmp_path / "prices.json"
    assert find([("openai", "gpt-4o-mini")], cache) == {("openai", "gpt-4o-mini"): None}
    assert "genai-prices failed" in caplog.text
    assert not cache.exists()
