"""Which provider is meant: a request's address to its wire, what it wants, and the model that the address names."""

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import parse_qs, unquote

import msgspec

from holdfast.providers.base import Wire
from holdfast.providers.simulated.failures import Failure

Operation = Literal["chat", "embeddings", "models", "model", "count"]
_GOOGLE = re.compile(r".*/models/(.+):(\w+)")
_VERBS: dict[str, Operation] = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "countTokens": "count",
}
_DEPLOYMENT = re.compile(r".*?/deployments/(.+)/(?:chat/completions|embeddings)")
_POSTS: tuple[tuple[str, Wire, Operation], ...] = (
    ("/chat/completions", "openai", "chat"),
    ("/embeddings", "openai", "embeddings"),
    ("/messages", "anthropic", "chat"),
    ("/messages/count_tokens", "anthropic", "count"),
)


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A path split up. `path` is decoded and has no query; `query` holds each key's first value."""

    path: str
    query: Mapping[str, str]

    @classmethod
    def parse(cls, target: str) -> "Address":
        """Split the target of a request line, in whichever form it comes."""
        path, _, query = target.partition("?")
        path = re.sub(r"^https?://[^/]*", "", path)
        pairs = parse_qs(query, keep_blank_values=True)
        return cls(path=unquote(path), query={key: values[0] for key, values in pairs.items()})


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`model` is None where the body names it. `verb` is Google's word for the operation."""

    wire: Wire
    operation: Operation
    model: str | None = None
    verb: str = ""


def guess_wire(address: Address, headers: Mapping[str, str]) -> Wire:
    """Return the wire that a client seems to speak, so that even an error comes in its envelope."""
    if "anthropic-version" in headers or address.path.endswith(("/messages", "/messages/count_tokens")):
        return "anthropic"
    google = address.path.startswith(("/v1beta", "/v1alpha")) or "x-goog-api-key" in headers or "key" in address.query
    return "google" if google and not address.path.endswith("/chat/completions") else "openai"


def route(method: str, address: Address, headers: Mapping[str, str]) -> Route:
    """Find what a request wants. Any prefix will do: `/v1/`, `/openai/v1/`, `/openai/deployments/NAME/`, none.

    Raises:
        Failure: 404 for an address that no provider has, 405 for the wrong method.
    """
    path, wire = address.path, guess_wire(address, headers)
    google = _GOOGLE.fullmatch(path)
    if google and google[2] in _VERBS:
        found = Route(wire="google", operation=_VERBS[google[2]], model=google[1], verb=google[2])
        return _checked(found, method, "POST")
    for ending, spoken, operation in _POSTS:
        if path.endswith(ending):
            deployment = _DEPLOYMENT.match(path)
            found = Route(wire=spoken, operation=operation, model=deployment[1] if deployment else None)
            return _checked(found, method, "POST")
    if path.endswith("/models"):
        return _checked(Route(wire=wire, operation="models"), method, "GET")
    name = path.partition("/models/")[2]
    if name:
        return _checked(Route(wire=wire, operation="model", model=name), method, "GET")
    raise Failure(404, f"There is nothing at {method} {path}.")


def _checked(found: Route, method: str, wanted: str) -> Route:
    if method != wanted:
        raise Failure(405, f"This address takes {wanted}, not {method}.")
    return found
