"""The contracts of features: the files that they consist of, and what is wrong with them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from holdfast.config.collect import Mistake, Place, did_you_mean
from holdfast.config.files import Sources
from holdfast.config.types import Configuration, relative
from holdfast.contracts.base import Contract
from holdfast.contracts.load import is_file, load_contract
from holdfast.errors import ConfigError, Problem
from holdfast.gateway.settings import FeatureSettings, LastResort
from holdfast.pointers import keys_of
from holdfast.references import misnamed

_TOLD: Final = 3
"""The most ways that are told in which a last resort fails its contract."""
_FIRST: Final = re.compile(r"[\w-]+")


def contract_of(source: str, configuration: Configuration) -> Contract:
    """Return the contract that a configuration names, of the texts that belong to it. Raises ConfigError."""
    return load_contract(source, configuration.base, configuration.text)


def compiled(
    settings: FeatureSettings, at: Place, sources: Sources, find: bool
) -> tuple[Contract | None, list[Mistake]]:
    """Return the contract of a feature, or all that is wrong with it.

    Without `find`, nothing is imported, and so nothing compiled.
    """
    source, place = settings.contract, (*at, "contract")
    if source is None:
        return None, []
    if is_file(source):
        if not _suffix(source) and (wrong := misnamed(source)):
            return None, [(place, f"{wrong}, or a file that ends in .json, .toml or .lark")]
        if failure := sources.failure(source, empty=False):
            return None, [(place, f"{source}: {failure}")]
    if not find:
        return None, []
    try:
        contract = load_contract(source, sources.base, lambda file: _text(file, sources))
    except ConfigError as error:
        return None, [(place, _told(problem, source, sources)) for problem in error.problems]
    return contract, list(_conflicts(settings, contract, at, sources))


def _suffix(source: str) -> bool:
    return Path(source).suffix.lower() in (".json", ".toml", ".lark")


def _text(file: str, sources: Sources) -> str:
    if failure := sources.failure(file, empty=False):
        raise OSError(0, failure)
    return sources.texts[relative(file, sources.base)]


def _told(problem: Problem, source: str, sources: Sources) -> str:
    """Say what is wrong, and where in the file."""
    if not is_file(source):
        return problem.message if problem.file == source else f"{problem.file}: {problem.message}"
    line, first = problem.line, _FIRST.match(problem.key)
    text = sources.texts[relative(source, sources.base)]
    if not line and first is not None and source.lower().endswith(".toml"):
        from holdfast.config.locate import Lines  # loaded only where something is wrong

        line = Lines(text).of((first[0],))
    place = f"{source}:{line}" if line else source
    return f"{place}: {problem.key}: {problem.message}" if problem.key else f"{place}: {problem.message}"


def _conflicts(settings: FeatureSettings, contract: Contract, at: Place, sources: Sources) -> Iterator[Mistake]:
    """Find what in a feature does not go with its contract."""
    if settings.stream == "object" and not contract.is_json:
        yield (*at, "stream"), f'"object" needs a contract whose answer is JSON, which {settings.contract} is not'
    if settings.vote is not None:
        yield from _not_in(contract, settings.vote.on, (*at, "vote", "on"))
    resort = settings.last_resort
    if resort is None or (fixed := _fixed(resort, sources)) is None:
        return
    form, text = fixed
    violations = contract.check(text).violations
    if violations:
        told = "; ".join(str(violation) for violation in violations[:_TOLD])
        more = f"; and {len(violations) - _TOLD} more" if len(violations) > _TOLD else ""
        yield (*at, "last_resort", form), f"does not meet the contract: {told}{more}"


def _not_in(contract: Contract, pointers: Sequence[str], at: Place) -> Iterator[Mistake]:
    """Find pointers to what an object under the contract never has, as far as the top of its schema tells."""
    schema = contract.schema
    if not isinstance(schema, dict) or schema.get("type") != "object" or "patternProperties" in schema:
        return
    if schema.get("additionalProperties") is not False:
        return
    for index, written in enumerate(pointers):
        if written and (key := keys_of(written)[0]) not in contract.keys:
            hint = did_you_mean(key, contract.keys)
            yield (*at, index), f'the contract has no "{key}"{hint}, and allows no other properties'


def _fixed(resort: LastResort, sources: Sources) -> tuple[str, str] | None:
    """Return the text that a last resort always is, None where it is found anew for each call, or not at all."""
    if resort.message is not None:
        return "message", resort.message
    if resort.object is not None:
        return "object", msgspec.json.encode(resort.object).decode()
    if resort.file is None or sources.failure(resort.file, empty=False):
        return None
    return "file", sources.texts[relative(resort.file, sources.base)]
