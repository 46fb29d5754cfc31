"""What no error may repeat."""

from typing import Final

from holdfast.errors import ProviderError
from holdfast.gateway.catalog import Model

SHORTEST_SECRET: Final = 6
"""Characters of a configured header from which on no error may repeat it."""


def conceal(error: ProviderError, model: Model) -> None:
    """Take the key that we send a model, and the values of the headers that we add, out of an error that it told."""
    endpoint = model.upstream.endpoint
    values = [value.decode("latin-1") for _, value in endpoint.headers] + [endpoint.api_key or ""]
    for secret in sorted(values, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            error.message = _without(error.message, secret)
            error.param = None if error.param is None else _without(error.param, secret)
    error.args = (error.message,)  # what tracebacks show


def _without(text: str, secret: str) -> str:
    """Return a text without a secret, nor the beginning of one that was cut off at its end."""
    text = text.replace(secret, "***")
    for size in range(min(len(secret) - 1, len(text)), SHORTEST_SECRET - 1, -1):
        if text.endswith(secret[:size]):
            return text[:-size] + "***"
    return text
