"""Holdfast stands between an application and the models it calls.

    async with holdfast.open("holdfast.toml") as h:
        answer = await h.chat("answer", "How do I reset my password?")

Names load when they are first used, so that the gateway starts without what it doesn't need.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.client import Answer, Holdfast, open
    from holdfast.contracts.predicates import predicate
    from holdfast.errors import CallError, ConfigError, HoldfastError, LogError, StoreError

__all__ = [
    "Answer",
    "CallError",
    "ConfigError",
    "Holdfast",
    "HoldfastError",
    "LogError",
    "StoreError",
    "open",
    "predicate",
]

_HOMES = {
    "Answer": "holdfast.client",
    "Holdfast": "holdfast.client",
    "open": "holdfast.client",
    "CallError": "holdfast.errors",
    "ConfigError": "holdfast.errors",
    "HoldfastError": "holdfast.errors",
    "LogError": "holdfast.errors",
    "StoreError": "holdfast.errors",
    "predicate": "holdfast.contracts.predicates",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
