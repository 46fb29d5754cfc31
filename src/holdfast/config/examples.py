"""What makes the examples of a feature wrong: their file, and the settings that say how they are chosen."""

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.config.collect import Mistake, Place, did_you_mean
from holdfast.config.files import Sources
from holdfast.config.types import relative
from holdfast.contracts.base import Contract
from holdfast.gateway.questions.answered import read_examples
from holdfast.gateway.settings import Examples
from holdfast.providers.known import PROVIDERS


def examples(
    settings: str | Examples, at: Place, sources: Sources, contract: Contract | None = None
) -> Iterator[Mistake]:
    """Find every mistake in the file of a feature's examples, with its line. `at` is where `examples` stands."""
    file, place = (settings, at) if isinstance(settings, str) else (settings.file, (*at, "file"))
    if failure := sources.failure(file, empty=False):
        yield place, f"{file}: {failure}"
        return
    found, faults = read_examples(sources.texts[relative(file, sources.base)], contract)
    for line, message in faults:
        yield place, f"{file}:{line}: {message}" if line else f"{file}: {message}"
    limit = None if isinstance(settings, str) else settings.tokens
    if limit is not None and found and (least := min(example.tokens for example in found)) > limit:
        yield (*at, "tokens"), f"no example fits: the shortest has {least}"


def choices(feature: object, models: Mapping[str, Any], at: Place) -> Iterator[Mistake]:
    """Find what is wrong with how examples are chosen, in a feature as it is written: what would have no effect."""
    table = feature.get("examples") if isinstance(feature, dict) else None
    if not isinstance(table, dict):
        return
    select, model = table.get("select", "all"), table.get("embeddings")
    if "k" in table and select == "all":
        yield (*at, "k"), 'has no effect where all examples are shown: write select = "first" or "nearest"'
    if model is not None and select != "nearest":
        yield (*at, "embeddings"), 'has no effect without select = "nearest"'
    elif isinstance(model, str) and model not in models:
        yield (*at, "embeddings"), f'there is no model "{model}"{did_you_mean(model, models)}'
    elif isinstance(model, str) and _wire(models[model]) == "anthropic":
        yield (*at, "embeddings"), f'"{model}" speaks the anthropic wire, which has no embeddings'


def _wire(model: object) -> str | None:
    provider = PROVIDERS.get(str(model.get("provider"))) if isinstance(model, dict) else None
    return None if provider is None else provider.wire
