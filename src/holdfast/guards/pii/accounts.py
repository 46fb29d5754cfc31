"""Payment cards and bank accounts."""

import re

from holdfast.guards.pii.checks import luhn, mod97

_IBANS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20
    EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30
    KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23
    PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26
    UA29 VA22 VG24 XK20 YE30
"""
IBAN_LENGTHS = {row[:2]: int(row[2:]) for row in _IBANS.split()}
"""Letters and digits of an IBAN, by its country (the registry of ISO 13616)."""

_IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ \-\u00a0]?[A-Za-z0-9]){11,30}")
_NETWORK = re.compile(
    r"(?P<visa>4(?:[0-9]{12}|[0-9]{15}|[0-9]{18}))"
    r"|(?P<mastercard>(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12})"
    r"|(?P<amex>3[47][0-9]{13})"
    r"|(?P<diners>3(?:0[0-5]|095|[689][0-9])[0-9]{11,16})"
    r"|(?P<jcb>35(?:2[89]|[3-8][0-9])[0-9]{12,15}|(?:2131|1800)[0-9]{11})"
    r"|(?P<discover>6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12,15})"
    r"|(?P<unionpay>62[0-9]{14,17}|81[0-9]{14,17})"
    r"|(?P<mir>220[0-4][0-9]{12,15})"
    r"|(?P<maestro>(?:50|5[6-9]|6[0-9])[0-9]{10,17})"
)
_CARD_GROUPS = frozenset(
    {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 5), (4, 4, 4), (4, 5, 6), (4, 4, 4, 1)}
)


def network(digits: str) -> str | None:
    """Return the network of a card with these digits, None if it is no card."""
    match = _NETWORK.fullmatch(digits)
    return match.lastgroup if match and luhn(digits) and len(set(digits)) > 1 else None


def card(digits: str, groups: tuple[int, ...], announced: bool) -> bool:
    """Whether these digits, in groups of these lengths, are a payment card.

    Networks that leave more room for chance (short numbers, Maestro) count only where words announce a card.
    """
    if len(groups) > 1 and groups not in _CARD_GROUPS:
        return False
    if announced:
        return 12 <= len(digits) <= 19 and luhn(digits) and len(set(digits)) > 1
    return len(digits) >= 14 and network(digits) not in (None, "maestro")


def iban(text: str, at: int) -> int | None:
    """Return where the IBAN ends that starts at a place, None if there is none."""
    match = _IBAN.match(text, at, at + 80)
    length = IBAN_LENGTHS.get(text[at : at + 2].upper()) if match else None
    if match is None or length is None:
        return None
    plain, end = [], at
    for char in match[0]:
        end += 1
        if char.isalnum():
            plain.append(char)
            if len(plain) == length:
                break
    bounded = end == len(text) or not (text[end].isascii() and text[end].isalnum())
    return end if len(plain) == length and bounded and mod97("".join(plain).upper()) else None
