"""Check digits: the arithmetic by which numbers of persons, cards and accounts can be told from other numbers."""

from collections.abc import Sequence
from datetime import date

_VERHOEFF = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_PERMUTATIONS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 5, 7, 6, 2, 8, 3, 0, 9, 4),
    (5, 8, 0, 3, 7, 9, 6, 1, 4, 2),
    (8, 9, 1, 6, 0, 4, 3, 5, 2, 7),
    (9, 4, 5, 3, 1, 2, 6, 8, 7, 0),
    (4, 2, 8, 6, 5, 7, 3, 9, 0, 1),
    (2, 7, 9, 3, 8, 0, 6, 4, 1, 5),
    (7, 0, 4, 6, 9, 1, 3, 2, 5, 8),
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of Luhn (ISO/IEC 7812).

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    values = [ord(digit) - 48 for digit in digits]
    return (sum(values[-1::-2]) + sum([_DOUBLED[value] for value in values[-2::-2]])) % 10 == 0


def verhoeff(digits: str) -> bool:
    """Whether the last digit is the check digit of Verhoeff.

    >>> verhoeff("2363"), verhoeff("2364")
    (True, False)
    """
    check = 0
    for at, digit in enumerate(reversed(digits)):
        check = _VERHOEFF[check][_PERMUTATIONS[at % 8][ord(digit) - 48]]
    return check == 0


def mod97(code: str) -> bool:
    """Whether the letters and digits of an account, moved as ISO 13616 says, leave 1 when divided by 97.

    >>> mod97("GB82WEST12345698765432"), mod97("GB82WEST12345698765433")
    (True, False)
    """
    moved = code[4:] + code[:4]
    return int("".join([str(int(char, 36)) for char in moved])) % 97 == 1


def mod11_10(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7064, MOD 11,10.

    >>> mod11_10("69435151530"), mod11_10("69435151531")
    (True, False)
    """
    product = 10
    for digit in digits[:-1]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Return the sum of the digits, each times its weight. There may be more digits than weights."""
    return sum([(ord(digit) - 48) * weight for digit, weight in zip(digits, weights, strict=False)])


def day(year: int, month: int, day_of_month: int) -> bool:
    """Whether there is such a day."""
    try:
        date(year, month, day_of_month)
    except ValueError:
        return False
    return True


def yymmdd(digits: str) -> bool:
    """Whether six digits are a day of some century, the year first."""
    return day(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))


def ddmmyy(digits: str) -> bool:
    """Whether six digits are a day of some century, the day first."""
    return day(2000 + int(digits[4:6]), int(digits[2:4]), int(digits[:2]))
