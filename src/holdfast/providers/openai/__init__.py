"""The OpenAI wire format: chat completions and embeddings, as api.openai.com and everything that speaks like it."""

from holdfast.providers.openai.surface import OpenAISurface
from holdfast.providers.openai.upstream import OpenAIUpstream

__all__ = ["OpenAISurface", "OpenAIUpstream"]
