"""Vectors of an embedding: floats, or base64 of little-endian float32."""

import struct
from base64 import b64decode, b64encode

Vector = tuple[float, ...] | str


def floats(vector: Vector) -> tuple[float, ...]:
    """Return a vector as floats."""
    if not isinstance(vector, str):
        return vector
    octets = b64decode(vector)
    return struct.unpack(f"<{len(octets) // 4}f", octets)


def base64(vector: Vector) -> str:
    """Return a vector as base64."""
    return vector if isinstance(vector, str) else b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
