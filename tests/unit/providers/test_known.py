from pathlib import Path
from urllib.parse import urlsplit

import pytest
from genai_prices.data_snapshot import get_snapshot

from holdfast.providers.base import ModelSettings
from holdfast.providers.known import PROVIDERS, needs_key, price_provider, resolve
from holdfast.settings import Secret

HERE = Path("/nowhere")


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_default_address_is_a_plain_absolute_url(name):
    base_url = PROVIDERS[name].base_url
    if base_url is None:
        assert PROVIDERS[name].needs_base_url or name == "simulated"
        return
    url = urlsplit(base_url)
    assert url.scheme == ("https" if PROVIDERS[name].needs_key else "http")
    assert url.hostname
    assert not base_url.endswith("/")
    assert (url.query, url.fragment, url.username) == ("", "", None)


@pytest.mark.parametrize("name", [name for name, provider in PROVIDERS.items() if provider.prices])
def test_every_price_list_exists(name):
    assert PROVIDERS[name].prices in {provider.id for provider in get_snapshot().providers}


def test_a_model_without_more_than_a_provider_is_at_the_providers_address_under_its_own_name():
    endpoint = resolve("gpt-5-mini", ModelSettings(provider="openai"), HERE)
    assert endpoint.model == "gpt-5-mini"
    assert endpoint.base_url == "https://api.openai.com/v1"
    assert endpoint.api_key is None


def test_everything_configured_reaches_the_endpoint(monkeypatch, tmp_path):
    monkeypatch.setenv("HOUSE_KEY", " key-1 \n")
    (tmp_path / "token").write_text("token-2\n")
    settings = ModelSettings(
        provider="vllm",
        name="house-8b",
        base_url="http://10.0.0.5:8000/v1/",
        api_key=Secret(env="HOUSE_KEY"),
        headers={"X-Team": "search", "X-Token": Secret(file="token")},
        query={"api-version": "1"},
        body={"top_k": 3},
    )
    endpoint = resolve("house", settings, tmp_path)
    assert endpoint.model == "house-8b"
    assert endpoint.base_url == "http://10.0.0.5:8000/v1"
    assert endpoint.api_key == "key-1"
    assert endpoint.headers == ((b"x-team", b"search"), (b"x-token", b"token-2"))
    assert (endpoint.query, endpoint.body) == ({"api-version": "1"}, {"top_k": 3})
    assert "max_tokens" in endpoint.quirks


def test_an_endpoint_shows_no_secret(monkeypatch):
    monkeypatch.setenv("KEY", "sk-very-secret")
    settings = ModelSettings(provider="openai", api_key=Secret(env="KEY"), headers={"x": Secret(env="KEY")})
    assert "very-secret" not in repr(resolve("gpt", settings, HERE))


@pytest.mark.parametrize(
    ("secret", "complaint"),
    [
        (Secret(env="HOLDFAST_TEST_UNSET"), "HOLDFAST_TEST_UNSET is not set"),
        (Secret(env="HOLDFAST_TEST_EMPTY"), "HOLDFAST_TEST_EMPTY is empty"),
        (Secret(env="HOLDFAST_TEST_LINES"), "HOLDFAST_TEST_LINES holds more than one line"),
        (Secret(env="HOLDFAST_TEST_EURO"), "HOLDFAST_TEST_EURO holds characters that no header can carry"),
        (Secret(file="missing"), "missing can't be read"),
    ],
)
def test_a_secret_that_no_header_can_carry_is_refused_without_being_shown(monkeypatch, secret, complaint):
    monkeypatch.delenv("HOLDFAST_TEST_UNSET", raising=False)
    monkeypatch.setenv("HOLDFAST_TEST_EMPTY", " ")
    monkeypatch.setenv("HOLDFAST_TEST_LINES", "hunter2\nhunter3")
    monkeypatch.setenv("HOLDFAST_TEST_EURO", "hunter€")
    with pytest.raises(ValueError, match=complaint) as caught:
        resolve("gpt", ModelSettings(provider="openai", api_key=secret), HERE)
    assert "hunter" not in str(caught.value)


def test_a_simulated_model_is_where_its_simulator_was_started():
    settings = ModelSettings(provider="simulated")
    assert resolve("demo", settings, HERE, "http://127.0.0.1:9/v1").base_url == "http://127.0.0.1:9/v1"
    with pytest.raises(ValueError, match="needs a base_url"):
        resolve("demo", settings, HERE)


@pytest.mark.parametrize(
    ("provider", "base_url", "prices"),
    [
        ("openai", None, "openai"),
        ("xai", None, "x-ai"),
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://api.groq.com/openai/v1", "groq"),
        ("azure", "https://house.openai.azure.com/openai/v1", "azure"),
        ("openai", "http://10.0.0.5:8000/v1", None),
        ("xai", "https://us.api.x.ai/v1", None),
        ("ollama", None, None),
        ("simulated", None, None),
    ],
)
def test_a_list_price_holds_at_the_providers_own_address_only(provider, base_url, prices):
    assert price_provider(ModelSettings(provider=provider, base_url=base_url)) == prices


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (ModelSettings(provider="openai"), True),
        (ModelSettings(provider="openai", api_key=Secret(env="KEY")), False),
        (ModelSettings(provider="openai", headers={"authorization": Secret(env="KEY")}), False),
        (ModelSettings(provider="openai", base_url="http://10.0.0.5:8000/v1"), False),
        (ModelSettings(provider="azure", base_url="https://house.openai.azure.com/openai/v1"), True),
        (ModelSettings(provider="ollama"), False),
        (ModelSettings(provider="simulated"), False),
    ],
)
def test_a_key_is_needed_at_the_providers_own_address(settings, needed):
    assert needs_key(settings) is needed
