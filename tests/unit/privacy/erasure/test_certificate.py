from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import PrivacyError
from holdfast.privacy.erasure.certificate import Certificate, issue, verify_certificate
from holdfast.privacy.sealing.erasures import Erasure
from holdfast.privacy.signing import Signer
from keyrings import ADA, BOB, MASTER, OTHER

SIGNER = Signer.of(MASTER)
AT = 1_800_000_000_000_001


def erasure(n: int, subject: str, found: Mapping[str, int], *, interrupted: tuple[str, ...] = ()) -> Erasure:
    return Erasure(
        n=n,
        subject=subject,
        at_us=AT,
        key=5,
        scrubbed_us=AT + 1,
        done_us=AT + 2,
        found=found,
        interrupted=interrupted,
        reached=frozenset(found),
    )


ERASURES = [erasure(3, ADA, {"log": 12, "replay": 1}, interrupted=("log",)), erasure(4, BOB, {"log": 0})]
SIGNED = issue(ERASURES, AT + 3, SIGNER)


def test_a_certificate_says_what_was_found_where_and_when() -> None:
    assert msgspec.json.decode(SIGNED.json()) == {
        "format": "holdfast.erasure/1",
        "issued": "2027-01-15T08:00:00.000004Z",
        "erasures": [
            {
                "erasure": 3,
                "subject": ADA,
                "began": "2027-01-15T08:00:00.000001Z",
                "ended": "2027-01-15T08:00:00.000003Z",
                "key": 5,
                "found": {"log": 12, "replay": 1},
                "interrupted": ["log"],
            },
            {
                "erasure": 4,
                "subject": BOB,
                "began": "2027-01-15T08:00:00.000001Z",
                "ended": "2027-01-15T08:00:00.000003Z",
                "key": 5,
                "found": {"log": 0},
                "interrupted": [],
            },
        ],
        "earlier": [],
        "public_key": SIGNER.public,
        "signature": SIGNED.signature,
    }


def test_erasures_of_the_same_subject_before_are_kept_apart() -> None:
    issued = issue([erasure(3, ADA, {"log": 12}), erasure(4, BOB, {}), erasure(5, ADA, {"log": 2})], AT, SIGNER)
    assert [erased.erasure for erased in issued.erasures] == [4, 5]
    assert [erased.erasure for erased in issued.earlier] == [3]


def test_a_certificate_is_verified_whatever_its_spaces_and_the_order_of_its_keys() -> None:
    assert verify_certificate(SIGNED.json(), SIGNER.public) == SIGNED
    assert verify_certificate(msgspec.json.encode(SIGNED), None) == SIGNED
    turned = dict(reversed(msgspec.to_builtins(SIGNED).items()))
    assert verify_certificate(msgspec.json.encode(turned), SIGNER.public) == SIGNED


@given(st.data())
def test_a_single_bit_that_changed_is_found(data: st.DataObject) -> None:
    content = bytearray(SIGNED.json())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    try:
        verified = verify_certificate(bytes(content), SIGNER.public)
    except PrivacyError:
        return
    assert verified.signed == SIGNED.signed  # a space, or the case of a digit of the signature


def test_a_certificate_that_was_changed_is_refused() -> None:
    table = msgspec.json.decode(SIGNED.json())
    table["erasures"][0]["found"]["log"] = 13
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        verify_certificate(msgspec.json.encode(table), SIGNER.public)
    del table["erasures"][0]
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        verify_certificate(msgspec.json.encode(table), None)


def test_a_certificate_of_another_signer_is_refused() -> None:
    other = Signer.of(OTHER)
    forged = issue(ERASURES, AT, other)
    with pytest.raises(PrivacyError, match=f"signed with the key {other.public}, not with {SIGNER.public}"):
        verify_certificate(forged.json(), SIGNER.public)
    renamed = msgspec.structs.replace(forged, public_key=SIGNER.public)
    with pytest.raises(PrivacyError, match="changed after it was signed"):
        verify_certificate(renamed.json(), SIGNER.public)


def test_a_certificate_without_a_signature_says_so() -> None:
    unsigned = issue(ERASURES, AT, None)
    assert (unsigned.public_key, unsigned.signature) == (None, None)
    for certificate in (unsigned, msgspec.structs.replace(SIGNED, signature="")):
        with pytest.raises(PrivacyError, match="not signed"):
            verify_certificate(certificate.json(), None)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b"null", SIGNED.json()[:-3], SIGNED.json() + b"{}"])
def test_what_is_no_certificate_is_refused(content: bytes) -> None:
    with pytest.raises(PrivacyError, match="not a certificate of an erasure"):
        verify_certificate(content, SIGNER.public)


def test_a_signature_that_is_no_signature_is_refused() -> None:
    for signature in ("zz", "ab", "ab" * 64):
        with pytest.raises(PrivacyError):
            verify_certificate(msgspec.structs.replace(SIGNED, signature=signature).json(), SIGNER.public)


@given(st.binary(max_size=200))
def test_anything_is_a_certificate_or_a_privacy_error(content: bytes) -> None:
    with pytest.raises(PrivacyError):
        verify_certificate(content, None)


def test_no_other_document_passes_for_a_certificate() -> None:
    certificate = issue(ERASURES, AT, None)
    named = msgspec.structs.replace(certificate, public_key=SIGNER.public)
    bare = SIGNER.sign(msgspec.json.encode(named))  # without saying what it is
    with pytest.raises(PrivacyError, match="changed"):
        verify_certificate(msgspec.structs.replace(named, signature=bare.hex()).json(), SIGNER.public)


def test_certificates_that_are_issued_again_differ_in_their_date_alone() -> None:
    again = issue(ERASURES, AT + 99, SIGNER)
    assert isinstance(again, Certificate)
    assert again.erasures == SIGNED.erasures
    assert again.issued != SIGNED.issued
