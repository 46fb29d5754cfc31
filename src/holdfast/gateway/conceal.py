"""What no error may repeat."""

from typing import Final

from holdfast.gateway.catalog import Model

SHORTEST_SECRET: Final = 6
"""Bytes of a configured header from which on no error may repeat it."""


def concealed(message: str, model: Model) -> str:
    """Return a message without the values of the headers that we add, some of which are secret."""
    for _, value in model.upstream.endpoint.headers:
        if len(value) >= SHORTEST_SECRET:
            message = message.replace(value.decode("latin-1"), "***")
    return message
