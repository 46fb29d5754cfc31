"""Stand-ins: other values of the same form, drawn from ranges that belong to nobody where there are such ranges.

Nothing of the original is in them but its form: how long it is, its separators, the country of an account.
"""

import re
from collections.abc import Callable
from hashlib import shake_256

from holdfast.guards.pii import accounts, national, phones
from holdfast.guards.pii.checks import luhn
from holdfast.guards.pii.streets import NAMES, STREET_WORDS, endings

_DIGITS = re.compile(r"[0-9]+")
_NOT_DIGITS = re.compile(r"[^0-9]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_VOWELS, _CONSONANTS = "aeiou", "bdfgklmnprstvz"
_KEY_PREFIX = re.compile(r"(?:[A-Za-z]{2,8}[0-9]?[-_.]){1,3}|AKIA|ASIA|ABIA|ACCA|AIza|eyJ")
_TEST_CARDS = {
    "visa": "400000", "mastercard": "555555", "amex": "378282", "diners": "305693", "discover": "601111",
    "unionpay": "620000", "mir": "220000", "maestro": "675964",
}  # fmt: skip
_DOCUMENTATION = ("192.0.2.", "198.51.100.", "203.0.113.")
"""RFC 5737."""
_CJK_KEPT = frozenset("省市区區县縣路街道巷弄胡同大号號")
_CJK_NAMES = "安平和光明文华中东西南北春秋山河"


class Draws:
    """Numbers that follow from a seed."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._left = int.from_bytes(shake_256(seed).digest(192), "big")

    def below(self, limit: int) -> int:
        if self._left < 1 << 64:
            self._seed = shake_256(self._seed + b"+").digest(32)
            self._left = int.from_bytes(shake_256(self._seed).digest(192), "big")
        self._left, drawn = divmod(self._left, limit)
        return drawn

    def of(self, choices: str) -> str:
        return choices[self.below(len(choices))]

    def digits(self, count: int) -> str:
        return "".join([str(self.below(10)) for _ in range(count)])


def canonical(kind: str, text: str) -> str:
    """Return what is the same for all ways to write one value."""
    if kind in ("phone", "card"):
        return _NOT_DIGITS.sub("", text)
    if kind in ("iban", "national_number"):
        return national.compact(text)
    return text.lower() if kind in ("email", "ip") else text


def stand_in(kind: str, text: str, seed: bytes) -> str:
    """Return another value of the form of a text. The seed decides which."""
    return _FORMS[kind](text, Draws(seed))


def _fill(text: str, plain: str) -> str:
    """Put other letters and digits in the place of those of a text, one by one."""
    rest = iter(plain)
    return "".join([_as(char, next(rest)) if char.isascii() and char.isalnum() else char for char in text])


def _as(shown: str, char: str) -> str:
    return char.lower() if shown.islower() else char


def _like(text: str, draws: Draws) -> str:
    """Return other letters and digits, each of the class and case of the one in its place."""
    lower = "abcdefghijklmnopqrstuvwxyz"
    out = []
    for char in text:
        if "0" <= char <= "9":
            out.append(str(draws.below(10)))
        elif char.isascii() and char.isalpha():
            out.append(draws.of(lower) if char.islower() else draws.of(lower.upper()))
        else:
            out.append(char)
    return "".join(out)


# --- one form a kind ---


def _email(text: str, draws: Draws) -> str:
    local, _, domain = text.rpartition("@")
    shaped = re.sub(r"[^\W_]+", lambda match: _word(match[0], draws), local)
    while sum(map(str.isalnum, shaped)) < 6:
        shaped += draws.of(_CONSONANTS) + draws.of(_VOWELS)
    company = _syllables(max(min(len(domain.split(".")[0]), 10), 5), draws)
    return f"{shaped}@{company}.example.{('com', 'net', 'org')[draws.below(3)]}"


def _word(text: str, draws: Draws) -> str:
    word = draws.digits(len(text)) if text.isdigit() else _syllables(len(text), draws)
    return word.capitalize() if text[0].isupper() else word


def _syllables(count: int, draws: Draws) -> str:
    return "".join([draws.of(_VOWELS if at % 2 else _CONSONANTS) for at in range(count)])


def _phone(text: str, draws: Draws) -> str:
    digits = _NOT_DIGITS.sub("", text)
    prefix = ""
    if "+" in text[:2] or (digits.startswith("00") and phones.calling_code(digits[2:])):
        prefix = "" if "+" in text[:2] else "00"
        prefix += phones.calling_code(digits[len(prefix) :]) or ""
    rest = digits[len(prefix) :]
    north_american = prefix in ("1", "001") or (not prefix and phones.north_american(text))
    return _fill_digits(text, prefix + _subscriber(rest, prefix.lstrip("0"), north_american, draws))


def _subscriber(rest: str, calling: str, north_american: bool, draws: Draws) -> str:
    """Return other digits for those after the calling code: a number for fiction where the country keeps some."""
    if north_american and len(rest) >= 10:
        lead = "1" if rest[0] == "1" and len(rest) >= 11 else ""
        number = f"{lead}{2 + draws.below(8)}{draws.below(9)}{draws.below(10)}55501{draws.digits(2)}"
        return number + draws.digits(len(rest) - len(number))
    trunk = "0" if rest.startswith("0") else ""
    body = rest[len(trunk) :]
    fiction = {("44", "7"): "7700900", ("44", "2"): "2079460", ("33", "6"): "63998", ("33", "1"): "19900"}
    start = fiction.get((calling, body[:1])) if len(body) in (9, 10) else None
    start = start or str(1 + draws.below(9))
    return (trunk + start + draws.digits(len(body) - len(start)))[: len(rest)]


def _fill_digits(text: str, digits: str) -> str:
    rest = iter(digits)
    return _DIGITS.sub(lambda match: "".join([next(rest) for _ in match[0]]), text)


def _card(text: str, draws: Draws) -> str:
    digits = _NOT_DIGITS.sub("", text)
    start = _TEST_CARDS.get(accounts.network(digits) or "", digits[:1])
    if accounts.network(digits) == "jcb":
        start = "353011" if digits.startswith("35") else digits[:4]
    body = start + draws.digits(len(digits) - len(start) - 1)
    return _fill_digits(text, next(body + check for check in "0123456789" if luhn(body + check)))


def _iban(text: str, draws: Draws) -> str:
    plain = national.compact(text)
    body = _like(plain[4:], draws)
    value = int("".join([str(int(char, 36)) for char in body + plain[:2]]) + "00")
    return _fill(text, f"{plain[:2]}{98 - value % 97:02}{body}")


def _national(text: str, draws: Draws) -> str:
    number = national.find(text, announced=True)
    plain = national.compact(text)
    if number is None:
        return _like(text, draws)
    if number.country == "us":  # 900 to 999 are nobody's
        return _fill(text, f"9{draws.digits(2)}{1 + draws.below(49):02}{draws.digits(4)}")
    return _fill(text, _valid(plain, number.valid, draws))


def _valid(plain: str, valid: Callable[[str], bool], draws: Draws) -> str:
    """Return another number that is valid: drawn at once, or digit by digit where days or regions are in it."""
    for _ in range(2):
        if drawn := _checked(_like(plain, draws), valid):
            return drawn
    current = plain
    for at in range(len(plain) - 1):
        for _ in range(4):
            changed = current[:at] + _like(current[at], draws) + current[at + 1 :]
            if changed != current and (drawn := _checked(changed, valid)):
                current = drawn
                break
    return current


def _checked(plain: str, valid: Callable[[str], bool]) -> str | None:
    """Return the number with the last characters that make it valid, None if none do."""
    digits, letters = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    last = digits if plain[-1].isdigit() else letters + digits  # an X may be a ten
    for char in last:
        if valid(plain[:-1] + char):
            return plain[:-1] + char
    if plain[-2:].isdigit():
        return next((plain[:-2] + f"{n:02}" for n in range(100) if valid(plain[:-2] + f"{n:02}")), None)
    return None


def _ip(text: str, draws: Draws) -> str:
    if ":" in text:
        return "2001:db8:" + ":".join([f"{1 + draws.below(0xFFFF):x}" for _ in range(6)])  # RFC 3849
    if draws.below(4):
        return _DOCUMENTATION[draws.below(3)] + str(1 + draws.below(254))
    return f"198.{18 + draws.below(2)}.{draws.below(256)}.{1 + draws.below(254)}"  # RFC 2544


def _date(text: str, draws: Draws) -> str:
    groups = _DIGITS.findall(text)
    days = 28 if _LETTERS.search(text) else 12  # in digits the day may be the month

    def other(at: int, group: str) -> str:
        if len(group) == 8:
            return other(0, group[:4]) + f"{1 + draws.below(12):02}{1 + draws.below(28):02}"
        if len(group) == 4:
            shifted = int(group) - 10 + draws.below(21)
            return str(min(max(shifted, 1900), 2049))
        if at == 2 and len(groups[0]) < 3:
            return f"{40 + draws.below(60)}"
        return str(1 + draws.below(9)) if len(group) == 1 else f"{1 + draws.below(days if at != 1 else 12):02}"

    replaced = iter([other(at, group) for at, group in enumerate(groups)])
    return _DIGITS.sub(lambda _: next(replaced), text)


def _key(text: str, draws: Draws) -> str:
    prefix = _KEY_PREFIX.match(text)
    kept = prefix.end() if prefix else 0
    return text[:kept] + _like(text[kept:], draws)


def _address(text: str, draws: Draws) -> str:
    def other(match: re.Match[str]) -> str:
        word = match[0]
        if word.isascii() and not word.isalpha() and not word.isdigit():
            return _like(word, draws)
        if word.isdigit():
            return str(1 + draws.below(9)) + draws.digits(len(word) - 1)
        if word.lower() in STREET_WORDS or len(word) == 1:
            return word
        if "\u4e00" <= word[0] <= "\u9fff":
            return "".join([char if char in _CJK_KEPT else draws.of(_CJK_NAMES) for char in word])
        name = NAMES[draws.below(len(NAMES))] + endings(word)
        return name.lower() if word.islower() else name.upper() if word.isupper() else name

    return re.sub(r"[A-Za-z0-9]*[0-9][A-Za-z0-9]*|[^\W\d_]+", other, text)


_FORMS: dict[str, Callable[[str, Draws], str]] = {
    "address": _address,
    "card": _card,
    "date_of_birth": _date,
    "email": _email,
    "iban": _iban,
    "ip": _ip,
    "key": _key,
    "national_number": _national,
    "phone": _phone,
}
