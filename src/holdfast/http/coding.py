"""Content codings (RFC 9110, section 8.4.1): gzip and deflate, decoded within bounds."""

import zlib
from collections.abc import Iterator

from holdfast.errors import MalformedResponse

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Decoder:
    """Decodes a body piece by piece, each time into at most as many bytes as asked for."""

    def __init__(self, coding: bytes) -> None:
        self._coding = coding.decode("latin-1").strip().lower()
        self._bits = _WINDOW_BITS.get(self._coding)
        self._inflate = zlib.decompressobj(self._bits or 0)
        self._began = False
        self.pending = b""
        """What has been fed and not been decoded yet."""
        self.more = False
        """Whether `decode` can go on without new data."""

    def decode(self, data: bytes, limit: int) -> bytes:
        """Return up to `limit` decoded bytes. Raises MalformedResponse."""
        if self._coding in ("identity", ""):
            return data
        if self._bits is None:
            raise MalformedResponse(f"The provider sent a body coded as {self._coding!r}, which was not asked for.")
        data = self.pending + data
        try:
            out = self._step(data, limit)
        except zlib.error as error:
            raise MalformedResponse(f"The provider's body is not valid {self._coding}: {error}.") from error
        self.more = len(out) >= limit or bool(self.pending)
        return out

    def finish(self) -> None:
        """Raise MalformedResponse if the coding was not at its end."""
        if self._began and not self._inflate.eof:
            raise MalformedResponse(f"The provider's {self._coding} body ends too early.")

    def _step(self, data: bytes, limit: int) -> bytes:
        if data and not self._began:
            self._began = True
            if self._coding == "deflate" and not _has_zlib_header(data):
                self._inflate = zlib.decompressobj(-15)
        if self._inflate.eof and data:
            if self._coding == "deflate":
                raise MalformedResponse("The provider's deflate body goes on after its end.")
            self._inflate = zlib.decompressobj(31)  # gzip members may follow each other
        out = self._inflate.decompress(data, limit)
        self.pending = self._inflate.unconsumed_tail or self._inflate.unused_data
        return out


def unfold(decoder: Decoder, data: bytes, size: int) -> Iterator[bytes]:
    """Decode what arrived, in pieces of up to `size` bytes; no data is the end. Raises MalformedResponse."""
    if not data:
        decoder.finish()
    while data or decoder.more:
        if piece := decoder.decode(data, size):
            yield piece
        data = b""


def decode_all(decoder: Decoder, data: bytes, limit: int) -> bytes:
    """Decode the whole rest of a body. Raises MalformedResponse, also when that is longer than `limit` bytes."""
    out, total = [], 0
    while data or decoder.more:
        out.append(decoder.decode(data, limit + 1 - total))
        data, total = b"", total + len(out[-1])
        if total > limit:
            raise MalformedResponse(f"The provider's body is longer than {limit} bytes.")
    decoder.finish()
    return b"".join(out)


def _has_zlib_header(data: bytes) -> bool:
    # Some servers send deflate without its zlib wrapper.
    return data[0] & 0x0F == 8 and data[0] >> 4 <= 7
