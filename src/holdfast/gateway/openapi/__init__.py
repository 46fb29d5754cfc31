"""The published OpenAPI document."""

from holdfast.gateway.openapi.document import document

__all__ = ["document"]
