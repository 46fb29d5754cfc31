"""Phone numbers, international and national, told by their groups of digits."""

import re

_CODES = """
    1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82
    84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 232 233 234
    235 236 237 238 239 240 241 242 243 244 245 246 248 249 250 251 252 253 254 255 256 257 258 260 261 262 263
    264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 371 372 373 374 375
    376 377 378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 507 508 509 590 591 592
    593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 685 686 687 688 689 690 691
    692 800 808 850 852 853 855 856 870 878 880 881 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971
    972 973 974 975 976 977 979 992 993 994 995 996 998
"""
_CALLING = frozenset(_CODES.split())
"""Calling codes of countries and networks (ITU-T E.164)."""

_NORTH_AMERICAN = re.compile(r"(?:1[-. ]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-. ])[0-9]{3}[-. ][0-9]{4}")
_AREA = re.compile(r"\(0?[1-9][0-9]{0,4}\)[ -]?[0-9]{2,5}(?:[ -]?[0-9]{2,5}){0,4}")
_TRUNK = re.compile(
    r"\(?0[1-9][0-9]{0,4}\)?(?:[ .\-/][0-9]{2,4}){2,4}"  # in three groups or more
    r"|\(?0[1-9][0-9]{1,4}\)?[ \-/][0-9]{4,8}"  # or in two, and no decimal fraction
)
_EXTENSION = re.compile(r"(?: ?(?:x|ext\.? ?|#))[0-9]{1,5}(?![0-9A-Za-z])")
_DAY = re.compile(r"[0-9]{4}([-./ ])[0-9]{1,2}\1[0-9]{1,2}|[0-9]{1,2}([-./ ])[0-9]{1,2}\2[0-9]{4}")


def calling_code(digits: str) -> str | None:
    """Return the calling code that the digits of an international number start with."""
    return next((digits[:n] for n in (1, 2, 3) if digits[:n] in _CALLING), None)


def north_american(text: str) -> bool:
    """Whether the text starts as the numbers of North America are written."""
    return _NORTH_AMERICAN.match(text) is not None


def extension(text: str, at: int) -> int:
    """Return where the extension ends that stands at a place; the place, if none does."""
    match = _EXTENSION.match(text, at)
    return match.end() if match else at


def alone(text: str, digits: str) -> bool:
    """Whether the text has the form of a phone number that hardly anything else has."""
    first, count = text[0], len(digits)
    if first == "+":
        return 8 <= count <= 15 and calling_code(digits) is not None
    if first == "(" and text[1] == "+":
        return 8 <= count <= 15 and calling_code(digits) is not None
    if digits.startswith("00"):
        return 11 <= count <= 17 and len(text) > count and calling_code(digits[2:]) is not None
    if first == "0" or text.startswith("(0"):
        return 9 <= count <= 12 and _TRUNK.fullmatch(text) is not None and not _DAY.fullmatch(text)
    if first == "(":
        return 7 <= count <= 12 and _AREA.fullmatch(text) is not None
    return count in (10, 11) and _NORTH_AMERICAN.fullmatch(text) is not None


def announced(text: str, digits: str) -> bool:
    """Whether the text may be a phone number where words say that it is one."""
    return 7 <= len(digits) <= 15 and len(set(digits)) > 1 and not _DAY.fullmatch(text)
