import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.privacy.signing import Signer, verify

SIGNER = Signer(b"s" * 32)


class Master:
    def __init__(self, byte: bytes) -> None:
        self._byte = byte

    def derive(self, purpose: str) -> bytes:
        return (purpose.encode() + self._byte * 32)[:32]


@given(st.binary())
def test_what_was_signed_is_recognised(data):
    assert verify(SIGNER.public, SIGNER.sign(data), data)


def test_a_master_key_always_gives_the_same_signer_and_another_gives_another():
    assert Signer.of(Master(b"a")).public == Signer.of(Master(b"a")).public
    assert Signer.of(Master(b"a")).public != Signer.of(Master(b"b")).public


def test_every_changed_bit_of_data_and_signature_is_found():
    data = b"holdfast"
    signature = SIGNER.sign(data)
    for bit in range(8 * len(signature)):
        assert not verify(SIGNER.public, flipped(signature, bit), data)
    for bit in range(8 * len(data)):
        assert not verify(SIGNER.public, signature, flipped(data, bit))


@pytest.mark.parametrize("public", ["", "ab", "zz" * 32, "00" * 31, "00" * 33, Signer(b"o" * 32).public])
@pytest.mark.parametrize("signature", [b"", b"\x00" * 64, SIGNER.sign(b"data")])
def test_a_key_or_a_signature_that_is_none_is_no_error_but_wrong(public, signature):
    assert not verify(public, signature, b"data")


def test_a_signer_shows_only_its_public_key():
    assert repr(SIGNER) == f"Signer('{SIGNER.public}')"
    assert (b"s" * 32).hex() not in repr(vars(SIGNER))


def test_without_the_extra_it_says_what_to_install():
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from holdfast.errors import PrivacyError\n"
        "from holdfast.privacy.signing import Signer, verify\n"
        "for use in (lambda: Signer(bytes(32)), lambda: verify('', b'', b'')):\n"
        "    try: use()\n"
        "    except PrivacyError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.count('pip install "holdfast[custody]"') == 2


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
