"""The providers that are known by name: where they are, which wire they speak and how they depart from it.

A `base_url` is what comes before the paths of its wire: `/chat/completions` and `/embeddings` (openai), `/v1/messages`
(anthropic), `/models/NAME:generateContent` (google).

What each quirk means stands in `providers/openai/upstream.py`, which models continue an answer in `Provider.prefill`.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from holdfast.providers.base import Endpoint, ModelSettings, Wire
from holdfast.providers.dialects import servers
from holdfast.providers.dialects.servers import UNKNOWN, Server
from holdfast.settings import Secret


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`prices` is its id in `genai-prices`; `env` the variable that its own documentation keeps the key in."""

    wire: Wire = "openai"
    base_url: str | None = None
    quirks: frozenset[str] = frozenset()
    prices: str | None = None
    env: str | None = None
    needs_key: bool = True
    needs_base_url: bool = False
    """Whether there is no default, because everybody has an address of their own."""
    prefill: str | None = None
    """The models, as a regular expression, that continue an answer which they are given the beginning of, by the
    provider's own documentation; those that think first, or may, are left out. None leaves it to the wire."""
    server: Server = UNKNOWN
    """What its server enforces of a constraint."""
    exceptions: tuple[tuple[str, Server], ...] = ()
    """Models, as regular expressions, of which more or less is enforced; the first that matches holds."""


def _quirks(*names: str) -> frozenset[str]:
    return frozenset(names)


def _own(
    *quirks: str,
    base_url: str | None = None,
    prefill: str | None = None,
    server: Server = UNKNOWN,
    exceptions: tuple[tuple[str, Server], ...] = (),
) -> Provider:
    """Return a server that people run themselves. All of them know `max_tokens`, some nothing else."""
    return Provider(
        base_url=base_url,
        quirks=_quirks("max_tokens", *quirks),
        needs_key=False,
        needs_base_url=base_url is None,
        prefill=prefill,
        server=server,
        exceptions=exceptions,
    )


_EVERY = ".*"
_THINKERS = "gpt-oss|deepseek-r1|qwen.?3|qwq|magistral|reason|think"
_NO_THINKER = rf"(?!.*(?:{_THINKERS})).*"
_WITHOUT_SCHEMAS = r"gpt-3\.5.*|gpt-4(?:-(?!\d\.).*)?|gpt-4o-2024-05-13|chatgpt-4o.*"
_HINTED = "openai/gpt-oss-.*|moonshotai/kimi-k2.*|meta-llama/llama-4-.*"


PROVIDERS: Final[dict[str, Provider]] = {
    "openai": Provider(
        base_url="https://api.openai.com/v1",
        prices="openai",
        env="OPENAI_API_KEY",
        server=servers.OPENAI,
        exceptions=(
            (_WITHOUT_SCHEMAS, servers.JSON_MODE),
            ("o1-(?:preview|mini).*", servers.NOTHING),
            ("ft:.*", servers.TUNED),
        ),
    ),
    "anthropic": Provider(
        wire="anthropic",
        base_url="https://api.anthropic.com",
        prices="anthropic",
        env="ANTHROPIC_API_KEY",
        server=servers.ANTHROPIC,
    ),
    "google": Provider(
        wire="google",
        base_url="https://generativelanguage.googleapis.com/v1beta",
        prices="google",
        env="GEMINI_API_KEY",
        server=servers.GOOGLE,
    ),
    "azure": Provider(
        quirks=_quirks("azure"),
        prices="azure",
        env="AZURE_OPENAI_API_KEY",
        needs_base_url=True,
        server=servers.AZURE,
    ),
    "mistral": Provider(
        base_url="https://api.mistral.ai/v1",
        quirks=_quirks("max_tokens", "no_stream_usage", "prefix", "repeats_prefill"),
        prices="mistral",
        env="MISTRAL_API_KEY",
        prefill=_NO_THINKER,
        server=servers.MISTRAL,
    ),
    "groq": Provider(
        base_url="https://api.groq.com/openai/v1",
        prices="groq",
        env="GROQ_API_KEY",
        prefill=_NO_THINKER,
        server=servers.JSON_MODE,
        exceptions=(("openai/gpt-oss-(?:20|120)b", servers.GROQ), (_HINTED, servers.BEST_EFFORT)),
    ),
    "deepseek": Provider(
        base_url="https://api.deepseek.com/v1",
        quirks=_quirks("max_tokens", "reasoning_content", "prefix", "beta"),
        prices="deepseek",
        env="DEEPSEEK_API_KEY",
        prefill="deepseek-(?:chat|coder)",
        server=servers.JSON_MODE,
    ),
    "xai": Provider(base_url="https://api.x.ai/v1", prices="x-ai", env="XAI_API_KEY", server=servers.XAI),
    "openrouter": Provider(
        base_url="https://openrouter.ai/api/v1",
        quirks=_quirks("max_tokens", "top_k", "reasoning_details"),
        prices="openrouter",
        env="OPENROUTER_API_KEY",
    ),
    "together": Provider(
        base_url="https://api.together.ai/v1",
        quirks=_quirks("max_tokens", "top_k"),
        prices="together",
        env="TOGETHER_API_KEY",
        server=servers.TOGETHER,
    ),
    "fireworks": Provider(
        base_url="https://api.fireworks.ai/inference/v1",
        quirks=_quirks("max_tokens", "top_k"),
        prices="fireworks",
        env="FIREWORKS_API_KEY",
        server=servers.FIREWORKS,
    ),
    "cerebras": Provider(
        base_url="https://api.cerebras.ai/v1",
        prices="cerebras",
        env="CEREBRAS_API_KEY",
        server=servers.CEREBRAS,
    ),
    "perplexity": Provider(
        base_url="https://api.perplexity.ai",
        quirks=_quirks("max_tokens"),
        prices="perplexity",
        env="PERPLEXITY_API_KEY",
    ),
    "moonshot": Provider(
        base_url="https://api.moonshot.ai/v1",
        quirks=_quirks("max_tokens", "reasoning_content", "partial"),
        prices="moonshotai",
        env="MOONSHOT_API_KEY",
        prefill="moonshot-v1-.*|kimi-k2-(?!thinking).*",
        server=servers.JSON_MODE,
    ),
    "ollama": _own(
        base_url="http://127.0.0.1:11434/v1",
        server=servers.OLLAMA,
        exceptions=((".*[-:]cloud", UNKNOWN),),  # which takes a schema and ignores it: ollama/ollama#12362
    ),
    "llamacpp": _own("top_k", base_url="http://127.0.0.1:8080/v1", prefill=_EVERY, server=servers.LLAMACPP),
    "vllm": _own("top_k", "reasoning_content", "continue_final_message", prefill=_EVERY, server=servers.VLLM),
    "sglang": _own("top_k", "reasoning_content", "continue_final_message", prefill=_EVERY, server=servers.SGLANG),
    "tgi": _own(server=servers.TGI),
    "simulated": Provider(
        needs_key=False,
        prefill=r"(?!.*\bprefill=ignore).*",
        server=msgspec.structs.replace(UNKNOWN, choice="structured_outputs"),
    ),
}


def needs_key(settings: ModelSettings) -> bool:
    """Whether the provider is certain to refuse calls without a key: it is a known one at its own address."""
    provider = PROVIDERS[settings.provider]
    own_address = settings.base_url is None or provider.needs_base_url
    return provider.needs_key and own_address and settings.api_key is None and not settings.headers


def price_provider(settings: ModelSettings) -> str | None:
    """Return whose price list holds, None where no list does: at any other address a name says nothing of the price."""
    provider = PROVIDERS[settings.provider]
    if settings.base_url is None or provider.base_url is None:
        return provider.prices
    return _PRICES_BY_HOST.get(urlsplit(settings.base_url).hostname)


_PRICES_BY_HOST: Final = {
    urlsplit(provider.base_url).hostname: provider.prices for provider in PROVIDERS.values() if provider.base_url
}


def resolve(name: str, settings: ModelSettings, base: Path, base_url: str | None = None) -> Endpoint:
    """Return where and how the model `name` is reached. Secret files are relative to `base`.

    `base_url` overrides everything: it is where a simulated provider was started.

    Raises:
        ValueError: a secret can't be revealed, or there is no address.
    """
    provider = PROVIDERS[settings.provider]
    address = base_url or settings.base_url or provider.base_url
    if address is None:
        raise ValueError(f"provider {settings.provider} needs a base_url")
    return Endpoint(
        model=settings.name or name,
        base_url=address.rstrip("/"),
        api_key=None if settings.api_key is None else reveal(settings.api_key, base),
        headers=tuple((key.lower().encode(), _header(value, base)) for key, value in settings.headers.items()),
        query=settings.query,
        body=settings.body,
        quirks=provider.quirks,
        prefill=_prefill(provider, settings, settings.name or name),
        server=server_of(name, settings),
    )


def server_of(name: str, settings: ModelSettings) -> Server:
    """Return what the server of the model `name` enforces; nothing is known of one at another provider's address."""
    provider = PROVIDERS[settings.provider]
    if settings.base_url is not None and provider.needs_key and not provider.needs_base_url:
        host, home = (urlsplit(url or "").hostname or "" for url in (settings.base_url, provider.base_url))
        if not f".{host}".endswith("." + ".".join(home.split(".")[-2:])):
            return UNKNOWN
    model = settings.name or name
    matching = (server for pattern, server in provider.exceptions if re.fullmatch(pattern, model, re.IGNORECASE))
    return next(matching, provider.server)


def _prefill(provider: Provider, settings: ModelSettings, model: str) -> bool | None:
    if settings.prefill is not None or provider.prefill is None:
        return settings.prefill
    return re.fullmatch(provider.prefill, model, re.IGNORECASE) is not None


def reveal(secret: Secret, base: Path) -> str:
    """Return a secret that a header can carry. Raises ValueError."""
    value = secret.reveal(base)
    if not value.isascii():
        raise ValueError(f"{secret.env or secret.file} holds characters that no header can carry")
    return value


def _header(value: str | Secret, base: Path) -> bytes:
    return (value if isinstance(value, str) else reveal(value, base)).encode("latin-1")
