"""Vectors of texts from a model that is configured."""

from collections.abc import Sequence
from typing import Final

from holdfast.chat import EmbeddingRequest
from holdfast.embed.near import Embed
from holdfast.gateway import fetch
from holdfast.gateway.catalog import Model
from holdfast.gateway.fetch import Limits
from holdfast.providers.vectors import floats

LONGEST_SECONDS: Final = 30.0
"""How long a batch may take where the model's timeouts say nothing of whole answers."""


def embedder(model: Model, max_answer: int) -> Embed:
    """Return what asks a model for vectors, in answers of up to `max_answer` bytes. It raises ProviderError."""
    timeouts = model.timeouts
    limits = Limits(
        connect=timeouts.connect,
        first_token=timeouts.first_token,
        idle=timeouts.idle,
        answer=timeouts.answer or LONGEST_SECONDS,
        max_answer=max_answer,
    )

    async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        request = EmbeddingRequest(model=model.name, input=tuple(texts))
        body = await fetch.unbudgeted(model, model.upstream.encode_embeddings(request), limits)
        return [floats(vector) for vector in model.upstream.decode_embeddings(body).vectors]

    return embed
