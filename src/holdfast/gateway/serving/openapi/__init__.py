"""The published OpenAPI document."""

from holdfast.gateway.serving.openapi.document import document

__all__ = ["document"]
