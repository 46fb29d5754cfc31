"""What makes a configuration wrong beyond the types of its values."""

import datetime
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from holdfast.config.collect import INLINE, Check, Mistake, Place, did_you_mean
from holdfast.config.contracts import compiled
from holdfast.config.examples import choices, examples
from holdfast.config.files import Sources
from holdfast.config.types import relative
from holdfast.gateway.function import find_function, misnamed
from holdfast.gateway.questions.prompt import not_places
from holdfast.gateway.serving.tls import CertificateError, read
from holdfast.gateway.settings import FeatureSettings, GatewaySettings, LastResort, TlsSettings
from holdfast.log.telemetry import TelemetrySettings
from holdfast.privacy.sealing.master import MasterKeySettings
from holdfast.providers.base import ModelSettings
from holdfast.providers.known import PROVIDERS, needs_key, reveal
from holdfast.settings import Duration, Secret

NO_VARIABLE: Final = "is no variable: a name has letters, digits and _, as in {{ name }}"
NO_ADDRESS: Final = (
    'provider "simulated" runs inside the gateway and has no address; for "holdfast simulate" write provider = "openai"'
)
ITSELF: Final = "expected the name of an environment variable, not the secret itself"
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TRANSPORTS_OWN: Final = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "content-type",
    "accept-encoding",
}
_SECRET_NAME: Final = re.compile(r"auth|token|secret|(\b|_|api)key\b|cookie|passw|credential|signature", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"\b(?:"
    r"(?:sk|rk|csk|xai|pplx|glpat|nvapi|xox[abprs])-[\w-]{12,}"
    r"|(?:gsk|hf|fw|ghp|gho|ghs|github_pat|r8|tgp_v1)_\w{12,}"
    r"|AIza[\w-]{20,}|AKIA[A-Z0-9]{12,}|eyJ[\w-]{8,}\.[\w.-]{8,}"
    r"|(?:Bearer|Basic)\s+[\w.+/=~-]{8,}"
    r")",
)


def mask(text: str) -> str:
    """Blank out what looks like a secret."""
    return _SECRET.sub("***", text)


def checks(sources: Sources, *, resolve_secrets: bool, find_functions: bool) -> Mapping[type, Check]:
    """Return the check of each type of settings."""
    all = _Checks(sources, resolve_secrets, find_functions)
    return {
        ModelSettings: all.model,
        FeatureSettings: all.feature,
        LastResort: all.last_resort,
        TlsSettings: all.tls,
        TelemetrySettings: all.telemetry,
        Secret: all.secret,
        MasterKeySettings: all.master_key,
    }


@dataclass(frozen=True)
class _Checks:
    """The checks that look beyond the settings: at files, functions, secrets and what is installed."""

    sources: Sources
    resolve_secrets: bool
    find_functions: bool

    def feature(self, settings: FeatureSettings, at: Place, whole: bool) -> Iterator[Mistake]:
        if whole and settings.hedge and len(settings.names) == 1:
            yield (*at, "hedge"), "a hedge starts the next model, and there is only one"
        if whole:
            yield from _at_odds(settings, at)
        contract, mistakes = compiled(settings, at, self.sources, self.find_functions)
        yield from mistakes
        if settings.examples is not None:
            yield from examples(settings.examples, (*at, "examples"), self.sources, contract)
        if settings.prompt is not None:
            yield from _prompt(settings.prompt, (*at, "prompt"), self.sources)

    def last_resort(self, settings: LastResort, at: Place, _: bool) -> Iterator[Mistake]:
        if settings.file is not None and (failure := _unusable(settings.file, self.sources)):
            yield (*at, "file"), failure
        if settings.function is not None and (failure := self._uncallable(settings.function)):
            yield (*at, "function"), failure

    def _uncallable(self, reference: str) -> str | None:
        """Return what is wrong with the function of a last resort."""
        try:
            if self.find_functions:
                find_function(reference, self.sources.base)
        except ValueError as error:
            return str(error)
        return misnamed(reference)

    def tls(self, settings: TlsSettings, at: Place, _: bool) -> Iterator[Mistake]:
        if self.resolve_secrets:
            try:
                read(settings, self.sources.base)
            except CertificateError as error:
                yield (*at, error.field), str(error)

    def master_key(self, settings: MasterKeySettings, at: Place, _: bool) -> Iterator[Mistake]:
        if settings.env is not None and (not _VARIABLE.fullmatch(settings.env) or _HEXADECIMAL.fullmatch(settings.env)):
            yield (*at, "env"), ITSELF

    def secret(self, value: Secret, at: Place, _: bool) -> Iterator[Mistake]:
        if value.env is not None and not _VARIABLE.fullmatch(value.env):
            yield (*at, "env"), ITSELF
        elif self.resolve_secrets:
            try:
                reveal(value, self.sources.base)
            except ValueError as error:
                yield at, str(error)

    def model(self, settings: ModelSettings, at: Place, whole: bool) -> Iterator[Mistake]:
        yield from _model(settings, at, whole)
        if settings.proxy is not None and self.resolve_secrets and find_spec("aiohttp") is None:
            yield (*at, "proxy"), 'needs an extra: pip install -e ".[aiohttp]" in the checkout of Holdfast'

    def telemetry(self, settings: TelemetrySettings, at: Place, _: bool) -> Iterator[Mistake]:
        if mistake := _url(settings.endpoint):
            yield (*at, "endpoint"), mistake
        yield from _headers(settings.headers, at)
        if self.resolve_secrets and (find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None):
            yield at, 'needs an extra: pip install -e ".[otel]" in the checkout of Holdfast'


def _prompt(prompt: str, at: Place, sources: Sources) -> Iterator[Mistake]:
    if failure := sources.failure(prompt, empty=False):
        yield at, f"{prompt}: {failure}"
        return
    for line, written in not_places(sources.texts[relative(prompt, sources.base)]):
        yield at, f"{prompt}:{line}: {written} {NO_VARIABLE}"


def _at_odds(settings: FeatureSettings, at: Place) -> Iterator[Mistake]:
    """Find what in a feature makes something else in it pointless."""
    if settings.stream == "object" and settings.contract is None:
        yield (*at, "stream"), '"object" needs a contract; calls that bring a response_format may ask for it themselves'
    if settings.vote is not None and settings.reproducible and not settings.vote.temperature:
        yield (
            (*at, "vote"),
            "has no effect on a reproducible feature without a `temperature` above 0: all samples would be asked at 0",
        )


def _unusable(file: str, sources: Sources) -> str | None:
    """Return what is wrong with the file of a last resort."""
    if failure := sources.failure(file, empty=False):
        return f"{file}: {failure}"
    if not file.lower().endswith(".json"):
        return None
    try:
        json.loads(sources.texts[relative(file, sources.base)], parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        return f"{file}:{error.lineno}: not JSON: {error.msg}"
    except (ValueError, RecursionError) as error:
        return f"{file}: not JSON: {error}"
    return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it has no {name}")


def _model(settings: ModelSettings, at: Place, whole: bool) -> Iterator[Mistake]:
    if settings.provider not in PROVIDERS:
        hint = did_you_mean(settings.provider, PROVIDERS) or f", known are {', '.join(PROVIDERS)}"
        yield (*at, "provider"), f'unknown provider "{settings.provider}"{hint}'
    elif settings.provider == "simulated":
        yield from _simulated(settings, at)
    elif whole:
        yield from _missing(settings, at)
    for key, url in (("base_url", settings.base_url), ("proxy", settings.proxy)):
        if url is not None and (mistake := _url(url)):
            yield (*at, key), mistake
    yield from _headers(settings.headers, at)
    for name in settings.query:
        if _SECRET_NAME.search(name):
            yield (
                (*at, "query", name),
                "a secret does not belong in a URL, where it gets logged: use api_key or headers",
            )


def _simulated(settings: ModelSettings, at: Place) -> Iterator[Mistake]:
    from holdfast.providers.simulated.behaviour import wrong_name  # loaded only where a simulated model is configured

    if settings.base_url is not None:
        yield (*at, "base_url"), NO_ADDRESS
    if mistake := wrong_name(settings.name or str(at[-1])):
        yield at if settings.name is None else (*at, "name"), mistake


def _missing(settings: ModelSettings, at: Place) -> Iterator[Mistake]:
    provider = PROVIDERS[settings.provider]
    if provider.needs_base_url and settings.base_url is None:
        yield (*at, "base_url"), f"required, but missing: provider {settings.provider} has no address of its own"
    if needs_key(settings):
        yield (*at, "api_key"), f'required, but missing: write api_key = {{ env = "{provider.env}" }}'


def _url(url: str) -> str | None:
    """Return what is wrong with a URL, without quoting it: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return 'expected a URL such as "https://host/v1"'
    if not url.isascii() or not url.isprintable() or " " in url:
        return "a URL can't hold spaces or characters beyond ASCII"
    if parts.username is not None or parts.password is not None:
        return f"a URL must not hold a user or password: {INLINE}"
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        return "a URL without ? and # is expected here"
    return None


def _headers(headers: Mapping[str, str | Secret], at: Place) -> Iterator[Mistake]:
    for name, value in headers.items():
        yield from _header(name, value, (*at, "headers", name))


def _header(name: str, value: str | Secret, at: Place) -> Iterator[Mistake]:
    if not _HEADER.fullmatch(name):
        yield at, "not a name that a header can have"
    elif name.lower() in _TRANSPORTS_OWN:
        yield at, "this header is set by the gateway itself"
    if isinstance(value, str):
        if _SECRET_NAME.search(name):
            yield at, INLINE
        elif not value.isprintable() or not value.isascii():
            yield at, "holds characters that no header can carry"


def document(doc: Mapping[str, Any]) -> Iterator[Mistake]:
    """Check what holds anywhere in the document, and how its parts refer to each other."""
    yield from _values(doc, ())
    models, features = _tables(doc, "models"), _tables(doc, "features")
    if doc.get("models") == {}:
        yield ("models",), "at least one is needed: a table [models.NAME]"
    for table, names in (("models", models), ("features", features)):
        for name in names:
            if not _NAME.fullmatch(name):
                yield (
                    (table, name),
                    "a name starts with a letter or digit, goes on with letters, digits and . _ : - and has up to 64",
                )
    for name in features.keys() & models.keys():
        yield ("features", name), "there is a model of the same name, and callers could not tell them apart"
    for name, feature in features.items():
        yield from _references(feature, models, features, ("features", name, "models"))
        yield from choices(feature, models, ("features", name, "examples"))
        if isinstance(feature, dict) and "replay_ttl" in feature and not feature.get("reproducible"):
            yield ("features", name, "replay_ttl"), "has no effect without reproducible = true"
    yield from _deadlines(_tables(doc, "gateway"), features)


def _deadlines(gateway: Mapping[str, Any], features: Mapping[str, Any]) -> Iterator[Mistake]:
    """Check deadlines against the longest one. What is no duration at all is told elsewhere."""
    longest = _duration(gateway.get("max_deadline")) or GatewaySettings().max_deadline
    default = _duration(gateway.get("deadline")) or GatewaySettings().deadline
    tables = {("features", name): feature for name, feature in features.items() if isinstance(feature, dict)}
    for at, table in [(("gateway",), gateway), *tables.items()]:
        written = table.get("deadline")
        if (deadline := _duration(written)) and deadline > longest:
            limit = gateway.get("max_deadline", f"{longest:g}s unless you set it")
            yield (*at, "deadline"), f"{written} is above gateway.max_deadline ({limit})"
        hedge, whole = _duration(table.get("hedge")), deadline or default
        if hedge and hedge >= whole:
            yield (*at, "hedge"), f"{table['hedge']} is not below the deadline ({whole:g}s), so that it never happens"


def _duration(written: object) -> Duration | None:
    try:
        return Duration.parse(written)
    except ValueError:
        return None


def _references(feature: Any, models: Mapping[str, Any], features: Mapping[str, Any], at: Place) -> Iterator[Mistake]:
    seen: set[str] = set()
    for place, name in _named(feature.get("models") if isinstance(feature, dict) else None, at):
        if name not in models:
            other = f'"{name}" is a feature' if name in features else f'there is no model "{name}"'
            yield place, f"{other}{did_you_mean(name, models)}"
        elif name in seen:
            yield place, f'"{name}" stands twice: name each model once, and how often it is tried with `retries`'
        seen.add(name)


def _named(models: object, at: Place) -> Iterator[tuple[Place, str]]:
    """Find the names in the models of a feature, and in its groups."""
    for index, entry in enumerate(models if isinstance(models, list) else ()):
        if isinstance(entry, str):
            yield (*at, index), entry
        elif isinstance(entry, list):
            yield from (((*at, index, place), name) for place, name in enumerate(entry) if isinstance(name, str))


def _tables(doc: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = doc.get(key)
    return table if isinstance(table, dict) else {}


def _values(value: object, at: Place) -> Iterator[Mistake]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _values(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, (*at, index))
    elif isinstance(value, str) and _SECRET.search(value):
        yield at, f"looks like a secret: {INLINE}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield at, "expected a finite number"
    elif isinstance(value, datetime.date | datetime.time):
        yield at, "dates have no place here: write it as a string"
