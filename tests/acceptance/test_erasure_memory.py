"""After an erasure nothing of a subject is left in the memory of a worker either."""

import asyncio
import contextlib
import gc
import random
import string

import msgspec
import pytest

import holdfast
from acceptance.gateways import PROVIDER_KEY
from acceptance.planting import ADA, FILES, command, everything
from holdfast.errors import HoldfastError

LENGTH = 14
WAYS = {
    "request": lambda text: {"messages": text},
    "replay": lambda text: {"model": "again", "messages": text},
    "example": lambda text: {"model": "shown", "messages": text},
    "schema": lambda text: {"response_format": schema({"type": "object", "properties": {"a": {"const": text}}})},
    "pattern": lambda text: {"response_format": schema({"type": "object", "properties": {"a": {"pattern": text}}})},
    "tool": lambda text: {"tools": [tool(text)], "tool_choice": "required"},
    "claude": lambda text: {"model": "claude", "response_format": schema({"type": "object", "title": text})},
    "contract": lambda text: {"model": "strict", "messages": text},
    "unknown": lambda text: {"model": text},
}


def schema(value):
    return {"type": "json_schema", "json_schema": {"name": "one", "schema": value, "strict": True}}


def tool(text):
    parameters = {"type": "object", "properties": {text: {"type": "string"}}, "required": [text]}
    return {"type": "function", "function": {"name": "look", "strict": True, "parameters": parameters}}


def turned(text):
    """A word backwards, so that whoever looks for it does not find what the test remembers of it."""
    return text[::-1]


@pytest.fixture
def file(providers, tmp_path, monkeypatch):
    monkeypatch.setenv("PROVIDER_KEY", PROVIDER_KEY)
    files = {"greeting.md": "Greet {{ name }} in {{ language }}.\n", **FILES, "holdfast.toml": everything(providers)}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path / "holdfast.toml"


async def test_nothing_of_a_subject_is_left_in_the_memory_of_a_worker(file, providers, tmp_path):
    chance = random.Random("memory")
    planted = {name: "".join(chance.choices(string.ascii_lowercase, k=LENGTH)) for name in WAYS}
    async with holdfast.open(file) as gateway:
        for name, backwards in planted.items():
            await say(gateway, WAYS[name](turned(backwards)))
        providers.forget()
        while len(gateway._pipeline.log):  # what waits for the log is on its way to a store
            await asyncio.sleep(0.01)
        before = remembered(planted)
        assert before.keys() >= {"replay", "schema", "pattern", "tool", "claude"}
        await asyncio.to_thread(command, tmp_path, "erase", "--subject", ADA)
        assert remembered(planted) == {}


async def say(gateway, asked):
    more = {"model": "gpt", "messages": "Hello.", **asked}
    with contextlib.suppress(HoldfastError):
        await gateway.chat(more.pop("model"), more.pop("messages"), hints={"subject": ADA}, **more)


def remembered(planted):
    """Return which of the words are anywhere in the memory of this process that somebody can still get at."""
    gc.collect()
    found = {}
    for text, owner in texts():
        for name, backwards in planted.items() if len(text) >= LENGTH else ():
            if turned(backwards) in text:
                found.setdefault(name, set()).add(owner)
    return found


def texts():
    """Iterate over all texts that anything refers to, each with what does, and what refers to that."""
    waiting = [(one, "") for one in gc.get_objects()]
    seen = {id(one) for one, _ in waiting} | {id(waiting)}
    while waiting:
        one, owner = waiting.pop()
        inner = gc.get_referents(one)
        if isinstance(one, msgspec.Struct):
            inner += [getattr(one, name) for name in one.__struct_fields__ if hasattr(one, name)]
        path = f"{owner} > {type(one).__name__}"
        for value in inner:
            if isinstance(value, str):
                yield value, path
            elif isinstance(value, bytes | bytearray):
                yield bytes(value).decode("latin-1"), path
            elif id(value) not in seen:
                seen.add(id(value))
                waiting.append((value, path))
