"""The optional transport, where its library is missing."""

import sys

import pytest

from holdfast.errors import HoldfastError
from holdfast.http.aiohttp import AiohttpTransport


def test_without_aiohttp_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(HoldfastError, match=r'pip install -e "\.\[aiohttp\]"'):
        AiohttpTransport(proxy="http://proxy.test:3128")
