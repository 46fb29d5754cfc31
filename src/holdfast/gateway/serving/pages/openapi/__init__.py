"""The published OpenAPI document."""

from holdfast.gateway.serving.pages.openapi.document import document

__all__ = ["document"]
