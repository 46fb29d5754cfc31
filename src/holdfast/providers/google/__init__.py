"""Google's Gemini wire (generativelanguage v1beta): generateContent, streamGenerateContent, (batch)embedContent(s)."""

from holdfast.providers.google.surface import GoogleSurface
from holdfast.providers.google.upstream import GoogleUpstream

__all__ = ["GoogleSurface", "GoogleUpstream"]
