"""Secrets that are planted, and looked for in whatever was written, also under the guises that programs give them."""

import base64
import contextlib
import json
import secrets
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from backports import zstd


def plant(prefix: str = "") -> str:
    """Return a secret that nobody has by chance."""
    return f"{prefix}{secrets.token_urlsafe(9)}/+{secrets.token_hex(8)}"


def guises(secret: str | bytes) -> set[bytes]:
    """Return what a secret looks like where it was written down: as it is, escaped, or in the codes of text."""
    raw = secret.encode() if isinstance(secret, str) else secret
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), *_base64(raw)}
    text = raw.decode("latin-1")
    found |= {urllib.parse.quote(text, safe="").encode(), urllib.parse.quote_plus(text).encode()}
    found |= {json.dumps(text)[1:-1].encode(), text.replace("/", "\\/").encode(), repr(text)[1:-1].encode()}
    return found | {text.encode("utf-16-le"), raw[::-1]}


def _base64(raw: bytes) -> Iterator[bytes]:
    """Yield what stays the same of base64 wherever in other text the secret stands."""
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + raw)
            whole = (before + len(raw)) // 3 * 4
            yield text[-(-before * 8 // 6) : whole]


class Search:
    """Looks for planted secrets by their names."""

    def __init__(self, planted: Mapping[str, str | bytes]) -> None:
        self._guises = {name: guises(secret) for name, secret in planted.items()}

    def names(self, data: str | bytes) -> set[str]:
        """Return the names of the secrets that stand in some data."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return {name for name, looks in self._guises.items() if any(look in raw for look in looks)}

    def files(self, directory: Path, but: Iterable[Path] = ()) -> dict[str, set[str]]:
        """Return the files that hold secrets, and which, in a folder and all below it."""
        spared = {path.resolve() for path in but}
        paths = [path for path in directory.rglob("*") if path.is_file() and path.resolve() not in spared]
        found = {str(path.relative_to(directory)): self.names(unpacked(path.read_bytes())) for path in paths}
        return {path: names for path, names in found.items() if names}


def unpacked(data: bytes) -> bytes:
    """Return data followed by all of it that is compressed with Zstandard, wherever it begins."""
    parts, start = [data], 0
    while (start := data.find(b"\x28\xb5\x2f\xfd", start)) >= 0:
        with contextlib.suppress(zstd.ZstdError):
            parts.append(zstd.ZstdDecompressor().decompress(data[start : start + 2**22]))
        start += 4
    return b"\n".join(parts)
