"""The numbers that countries give to people, told by their form and their check digits.

A form is a number with each digit as 9 and each letter as A: `999-99-9999`. A number counts by itself where its form or
its check leaves little room for chance; any other counts only after words that announce it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from holdfast.guards.pii.checks import day, ddmmyy, luhn, mod11_10, verhoeff, weighted, yymmdd

Check = Callable[[str], bool]


class Number(NamedTuple):
    """What numbers of a country look like. `valid` is given letters and digits only, letters in upper case."""

    country: str
    valid: Check
    alone: bool
    """Whether the form and the check are enough, without a word that announces it."""


_FORM = str.maketrans(
    "012345678ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "9" * 9 + "A" * 52,
)
_PLAIN = re.compile(r"[^0-9A-Za-z]+")


def form(text: str) -> str:
    """Return the text with each digit as 9 and each letter as A."""
    return text.translate(_FORM)


def compact(text: str) -> str:
    """Return the letters and digits of the text, in upper case."""
    return _PLAIN.sub("", text).upper()


def find(text: str, announced: bool) -> Number | None:
    """Return whose number the text is, None if it is no country's."""
    numbers = FORMS.get(form(text))
    if numbers is None:
        return None
    plain = compact(text)
    for number in numbers:
        if (announced or number.alone) and number.valid(plain):
            return number
    return None


# --- checks of one country each, by its code ---


def _us(n: str) -> bool:
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000"


def _gb(n: str) -> bool:
    bad = n[0] in "DFIQUV" or n[1] in "DFIOQUV" or n[:2] in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
    return not bad and n[-1] in "ABCD"


def _gb_health(n: str) -> bool:
    return (11 - weighted(n, range(10, 1, -1)) % 11) % 11 == int(n[9])


def _fr(n: str) -> bool:
    month = int(n[3:5])
    return n[0] in "1278" and (1 <= month <= 12 or 20 <= month <= 42) and 97 - int(n[:13]) % 97 == int(n[13:])


def _de(n: str) -> bool:
    repeated = max(map(n[:10].count, "0123456789"))
    return n[0] != "0" and repeated in (2, 3) and mod11_10(n)


def _de_insurance(n: str) -> bool:
    digits = f"{n[:8]}{ord(n[8]) - 64:02}{n[9:]}"
    sums = [int(digit) * weight for digit, weight in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=False)]
    return ddmmyy(n[2:8]) and sum(map(int, "".join(map(str, sums)))) % 10 == int(n[11])


_IT_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _it(n: str) -> bool:
    values = [ord(char) - (48 if char.isdigit() else 65) for char in n[:15]]
    total = sum([_IT_ODD[value] for value in values[::2]]) + sum(values[1::2])
    return n[8] in "ABCDEHLMPRST" and chr(total % 26 + 65) == n[15]


def _es(n: str) -> bool:
    digits = n[:-1].translate(str.maketrans("XYZ", "012"))
    return digits.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == n[-1]


def _pt(n: str) -> bool:
    rest = weighted(n, range(9, 1, -1)) % 11
    return n[0] in "1235689" and (0 if rest < 2 else 11 - rest) == int(n[8])


def _nl(n: str) -> bool:
    return int(n) > 0 and (weighted(n, range(9, 1, -1)) - int(n[8])) % 11 == 0


def _be(n: str) -> bool:
    in_year = 0 <= int(n[2:4]) % 20 <= 12 and int(n[4:6]) <= 31
    return in_year and int(n[9:]) in (97 - int(n[:9]) % 97, 97 - int("2" + n[:9]) % 97)


def _pl(n: str) -> bool:
    month = int(n[2:4]) % 20
    return day(2000, month, int(n[4:6])) and (weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0)


def _se(n: str) -> bool:
    return yymmdd(n[-10:]) and luhn(n[-10:])


def _fi(n: str) -> bool:
    digits = n[:6] + n[-4:-1]
    return ddmmyy(n) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(digits) % 31] == n[-1]


def _no(n: str) -> bool:
    first = weighted(n, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = weighted(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return first == second == 0 and day(2000, int(n[2:4]) % 40, int(n[:2]) % 40)


def _is(n: str) -> bool:
    return ddmmyy(n) and weighted(n, (3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0 and n[9] in "089"


def _ch(n: str) -> bool:
    return n.startswith("756") and weighted(n, (1, 3) * 6 + (1,)) % 10 == 0


def _at(n: str) -> bool:
    check = weighted(n[:3] + n[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return n[0] != "0" and check == int(n[3]) and ddmmyy(n[4:])


def _ie(n: str) -> bool:
    total = weighted(n, range(8, 1, -1)) + 9 * (ord(n[8]) - 64 if len(n) == 9 else 0)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == n[7]


def _br(n: str) -> bool:
    first = weighted(n, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(n, range(11, 1, -1)) * 10 % 11 % 10
    return len(set(n)) > 1 and (first, second) == (int(n[9]), int(n[10]))


def _ar(n: str) -> bool:
    check = 11 - weighted(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return n[:2] in ("20", "23", "24", "25", "26", "27") and {11: 0, 10: 9}.get(check, check) == int(n[10])


def _cl(n: str) -> bool:
    check = 11 - weighted(n[-2::-1], (2, 3, 4, 5, 6, 7, 2, 3)) % 11
    return {11: "0", 10: "K"}.get(check, str(check)) == n[-1]


_MX = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"


def _mx(n: str) -> bool:
    total = sum([_MX.index(char) * (18 - at) for at, char in enumerate(n[:17])])
    return yymmdd(n[4:10]) and n[10] in "HMX" and n[17].isdigit() and (10 - total % 10) % 10 == int(n[17])


def _in(n: str) -> bool:
    return n[0] in "23456789" and verhoeff(n)


def _in_tax(n: str) -> bool:
    return n[3] in "ABCFGHJLPT"


def _cn(n: str) -> bool:
    total = weighted(n[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    born = day(int(n[6:10]) or 1, int(n[10:12]), int(n[12:14])) and n[6:8] in ("18", "19", "20")
    return born and "10X98765432"[total % 11] == n[17]


def _jp(n: str) -> bool:
    rest = weighted(n, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest < 2 else 11 - rest) == int(n[11])


def _kr(n: str) -> bool:
    return yymmdd(n) and n[6] in "12345678"


def _tw(n: str) -> bool:
    code = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(n[0]) + 10
    total = code // 10 + code % 10 * 9 + weighted(n[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))
    return n[1] in "1289" and total % 10 == 0


def _sg(n: str) -> bool:
    if n[0] not in "STFGM":
        return False
    total = weighted(n[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(n[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "XWUTRQPNJLK"}.get(n[0], "XWUTRQPNMLK")
    return letters[total % 11] == n[8]


def _my(n: str) -> bool:
    return yymmdd(n) and n[6:8] not in ("00", "17", "18", "19", "20", "69", "70", "73", "80", "81", "94", "95", "96")


def _th(n: str) -> bool:
    return n[0] != "0" and (11 - weighted(n, range(13, 1, -1)) % 11) % 10 == int(n[12])


def _id(n: str) -> bool:
    return day(2000, int(n[8:10]), int(n[6:8]) % 40) and n[0] != "0"


def _au(n: str) -> bool:
    return weighted(n, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _au_health(n: str) -> bool:
    return n[0] in "23456" and weighted(n, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(n[8])


def _nz(n: str) -> bool:
    n = n.zfill(9)
    check = -weighted(n, (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    if check == 10:
        check = -weighted(n, (7, 4, 3, 2, 5, 2, 7, 6)) % 11
    return check == int(n[8])


def _za(n: str) -> bool:
    return yymmdd(n) and n[10] in "012" and luhn(n)


def _tr(n: str) -> bool:
    odd, even = sum(map(int, n[0:9:2])), sum(map(int, n[1:8:2]))
    return n[0] != "0" and (odd * 7 - even) % 10 == int(n[9]) and sum(map(int, n[:10])) % 10 == int(n[10])


def _ru(n: str) -> bool:
    return weighted(n, range(9, 0, -1)) % 101 % 100 == int(n[9:])


def _ru_tax(n: str) -> bool:
    first = weighted(n, (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    return first == int(n[10]) and weighted(n, (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10 == int(n[11])


def _ua(n: str) -> bool:
    return weighted(n, (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(n[9])


def _ro(n: str) -> bool:
    rest = weighted(n, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return n[0] in "12345678" and yymmdd(n[1:]) and (1 if rest == 10 else rest) == int(n[12])


def _bg(n: str) -> bool:
    born = day(2000, int(n[2:4]) % 20, int(n[4:6]))
    return born and weighted(n, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10 == int(n[9])


def _cz(n: str) -> bool:
    month = int(n[2:4]) % 50
    born = day(2000, month - 20 if month > 20 else month, int(n[4:6]))
    return born and (len(n) == 9 or int(n) % 11 == 0 or (int(n[:9]) % 11 == 10 and n[9] == "0"))


def _yu(n: str) -> bool:
    check = 11 - weighted(n, (7, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return day(2000, int(n[2:4]), int(n[:2])) and n[4] in "09" and (0 if check > 9 else check) == int(n[12])


def _hu(n: str) -> bool:
    return weighted(n, (3, 7) * 4) % 10 == int(n[8])


def _gr(n: str) -> bool:
    return ddmmyy(n) and luhn(n)


def _ee(n: str) -> bool:
    check = weighted(n, (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(n, (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return n[0] in "123456" and yymmdd(n[1:]) and check == int(n[10])


def _lv(n: str) -> bool:
    return n.startswith("32") or ddmmyy(n)


def _luhn9(n: str) -> bool:
    return int(n) > 0 and luhn(n)


_ALONE: tuple[tuple[str, Check, str], ...] = (
    ("us", _us, "999-99-9999"),
    ("gb", _gb, "AA999999A|AA 99 99 99 A"),
    ("fr", _fr, "9 99 99 99 999 999 99|999999999999999"),
    ("de", _de_insurance, "99999999A999|99 999999 A 999"),
    ("it", _it, "AAAAAA99A99A999A|AAA AAA 99A99 A999A"),
    ("es", _es, "99999999A|99999999-A|A9999999A|A-9999999-A|99.999.999-A"),
    ("be", _be, "99.99.99-999.99"),
    ("se", _se, "999999-9999|99999999-9999"),
    ("fi", _fi, "999999-999A|999999A999A|999999-9999"),
    ("dk", ddmmyy, "999999-9999"),
    ("is", _is, "999999-9999"),
    ("no", _no, "999999 99999"),
    ("ch", _ch, "999.9999.9999.99|9999999999999"),
    ("at", _at, "9999 999999"),
    ("br", _br, "999.999.999-99"),
    ("ar", _ar, "99-99999999-9"),
    ("cl", _cl, "99.999.999-9|9.999.999-9|99.999.999-A|9.999.999-A|99999999-A"),
    ("mx", _mx, "AAAA999999AAAAAA99"),
    ("in", _in, "9999 9999 9999|9999-9999-9999"),
    ("in", _in_tax, "AAAAA9999A"),
    ("cn", _cn, "999999999999999999|99999999999999999A"),
    ("kr", _kr, "999999-9999999"),
    ("tw", _tw, "A999999999"),
    ("sg", _sg, "A9999999A"),
    ("my", _my, "999999-99-9999"),
    ("th", _th, "9-9999-99999-99-9|9 9999 99999 99 9"),
    ("za", _za, "999999 9999 999"),
    ("ru", _ru, "999-999-999 99"),
    ("cz", _cz, "999999/9999"),
    ("lv", _lv, "999999-99999"),
)
"""Country, check, forms: these count by themselves."""

_ANNOUNCED: tuple[tuple[str, Check, str], ...] = (
    ("us", _us, "999999999|999 99 9999|999.99.9999"),
    ("gb", _gb_health, "9999999999|999 999 9999|999-999-9999"),
    ("ca", luhn, "999-999-999|999 999 999|999999999"),
    ("de", _de, "99999999999|99 999 999 999|99 999999999"),
    ("pt", _pt, "999999999|999 999 999"),
    ("no", _no, "99999999999"),
    ("za", _za, "9999999999999"),
    ("ro", _ro, "9999999999999"),
    ("rs", _yu, "9999999999999"),
    ("nl", _nl, "999999999|9999.99.999|9999 99 999"),
    ("be", _be, "99999999999"),
    ("pl", _pl, "99999999999"),
    ("se", _se, "9999999999|999999999999|999999+9999"),
    ("dk", ddmmyy, "9999999999|999999 9999"),
    ("is", _is, "9999999999"),
    ("at", _at, "9999999999"),
    ("ie", _ie, "9999999A|9999999AA"),
    ("br", _br, "99999999999"),
    ("ar", _ar, "99999999999"),
    ("cl", _cl, "99999999-9|9999999-9|999999999|9999999-A"),
    ("in", _in, "999999999999"),
    ("jp", _jp, "999999999999|9999 9999 9999|9999-9999-9999"),
    ("kr", _kr, "9999999999999"),
    ("my", _my, "999999999999"),
    ("th", _th, "9999999999999"),
    ("id", _id, "9999999999999999"),
    ("au", _au, "999 999 999|999999999|999-999-999"),
    ("au", _au_health, "9999 99999 9|9999999999"),
    ("nz", _nz, "99-999-999|999-999-999|99999999|999999999"),
    ("tr", _tr, "99999999999"),
    ("il", _luhn9, "999999999|99999999-9|9-9999999-9"),
    ("ru", _ru, "99999999999"),
    ("ru", _ru_tax, "999999999999"),
    ("ua", _ua, "9999999999"),
    ("bg", _bg, "9999999999"),
    ("cz", _cz, "9999999999|999999/999"),
    ("hr", mod11_10, "99999999999"),
    ("hu", _hu, "999 999 999|999999999|999-999-999"),
    ("gr", _gr, "99999999999"),
    ("ee", _ee, "99999999999"),
    ("lv", _lv, "99999999999"),
)
"""Country, check, forms: these count after words that announce them."""


def _forms() -> dict[str, tuple[Number, ...]]:
    forms: dict[str, tuple[Number, ...]] = {}
    for alone, rows in ((True, _ALONE), (False, _ANNOUNCED)):
        for country, valid, masks in rows:
            for mask in masks.split("|"):
                forms[mask] = (*forms.get(mask, ()), Number(country, valid, alone))
    return forms


FORMS = _forms()
COUNTRIES = frozenset(number.country for numbers in FORMS.values() for number in numbers)
