"""The Anthropic Messages wire format (POST /v1/messages, version 2023-06-01), to models and to callers."""

from holdfast.providers.anthropic.surface import AnthropicSurface
from holdfast.providers.anthropic.upstream import AnthropicUpstream

__all__ = ["AnthropicSurface", "AnthropicUpstream"]
