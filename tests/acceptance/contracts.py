"""A gateway whose features have contracts, and answers that meet them or don't."""

import json
from collections.abc import Iterator
from typing import Any

from acceptance.gateways import MODELS, configuration
from holdfast.providers.simulated import RunningSimulator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "metres": {"type": "integer", "minimum": 1}},
    "required": ["place", "metres"],
    "additionalProperties": False,
}
RIGHT = '{"place": "the kelp forest", "metres": 30}'
VALUE = {"place": "the kelp forest", "metres": 30}
FENCED = "Sure, here it is:\n```json\n{'place': 'the kelp forest', 'metres': \"30\",}\n```\nAnything else?"
"""What takes a repair of every kind to be `VALUE`."""
WRONG = '{"place": "the kelp forest", "metres": "quite deep"}'
PART = '{"/metres": 30}'
"""What mends `WRONG`."""
RESORT = '{"place": "unknown", "metres": 1}'
FUNCTION = "def answer(request, code):\n    return {'place': code, 'metres': 1}\n"
PREDICATE = """
import holdfast

@holdfast.predicate("/metres")
def shallow(metres):
    return metres <= 100 or f"no kelp grows {metres} metres deep"
"""
FILES = {
    "depth.json": json.dumps(SCHEMA),
    "colour.toml": 'choice = ["brown", "green"]\n',
    "code.toml": 'pattern = "[A-Z]{2}-[0-9]{4}"\n',
    "shallow.toml": 'schema = "depth.json"\npredicates = "deep:shallow"\n',
    "deep.py": PREDICATE,
    "resorts.py": FUNCTION,
    "resort.json": RESORT,
}
RESORTS = {
    "object": 'object = { place = "unknown", metres = 1 }',
    "message": f"message = '{RESORT}'",
    "file": 'file = "resort.json"',
    "function": 'function = "resorts:answer"',
}


def says(providers: RunningSimulator, model: str, *answers: str) -> None:
    """Let a model give these answers, one after the other, and then the last of them again."""
    providers.follow({"models": {model: {"text": answers[-1], "steps": [{"text": text} for text in answers[:-1]]}}})


def contracts(simulator: RunningSimulator, more: str = "") -> str:
    """Return a configuration: features NAME-MODEL with a contract for each model, and some that are special."""
    return configuration(simulator, more="\n".join([*_features(), more]))


def _features() -> Iterator[str]:
    depth = 'contract = "depth.json"'
    for model in MODELS:
        yield _feature(f"plain-{model}", [model], "")
        for name in ("depth", "shallow"):
            yield _feature(f"{name}-{model}", [model], f'contract = "{name}.{"json" if name == "depth" else "toml"}"')
        for name in ("colour", "code"):
            yield _feature(f"{name}-{model}", [model], f'contract = "{name}.toml"')
        yield _feature(f"passed-{model}", [model], f'{depth}\nstream = "pass"')
        yield _feature(f"objects-{model}", [model], f'{depth}\nstream = "object"')
    yield _feature("ladder", MODELS, f"{depth}\nretries = 0")
    yield _feature("passing-ladder", MODELS, f'{depth}\nretries = 0\nstream = "pass"')
    for name, resort in RESORTS.items():
        for how in ("hold", "pass", "object"):
            more = f'{depth}\nretries = 0\nstream = "{how}"\nlast_resort = {{ {resort} }}'
            yield _feature(f"resort-{name}-{how}", ["gpt"], more)
    yield _feature("off-depth", ["gpt"], f"{depth}\nenabled = false\nlast_resort = {{ {RESORTS['object']} }}")
    yield _feature("dark-depth", ["gpt"], f"{depth}\nenabled = false")
    yield _feature("nobody-depth", ["gpt"], f"{depth}\nrollout = 0.0\nlast_resort = {{ {RESORTS['file']} }}")
    yield _feature("discreet", ["gpt"], f'{depth}\nstore = "metadata"')
    yield _feature("again", ["gpt"], f"{depth}\nreproducible = true")
    yield _feature("elected", ["gpt"], f"{depth}\nvote = {{ samples = 3, agree = 0.6 }}")


def _feature(name: str, models: Any, more: str) -> str:
    return f"[features.{name}]\nmodels = {json.dumps([*models])}\n{more}\n"
