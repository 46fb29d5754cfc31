"""Postal addresses, told by the words for streets beside a house number."""

import re

_NAME = r"[A-ZÀ-ÖØ-ÞĀ-ŽΑ-ΩА-Я0-9][\w.'’\-]{0,24}"
_TYPE = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way|Parkway"
    r"|Pkwy|Highway|Hwy|Circle|Cir|Crescent|Cres|Close|Trail|Trl|Alley|Row|Mews|Gardens|Grove|Loop|Plaza|Walk|Broadway|Streets)"
)
_UNIT = r"(?:,?\s{0,3}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|#)\.?\s?#?[A-Za-z0-9\-]{1,6})"
_ZIP = (
    r"(?:[A-Z]{1,2}-)?[0-9]{4,6}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}|[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9]"
)
_CITY = rf"(?:,?\s{{1,3}}{_NAME}(?: {_NAME}){{0,2}})"
_TAIL = re.compile(
    rf"{_UNIT}?(?:,?\s{{1,3}}(?:{_ZIP})(?![\w])(?:{_CITY})?|{_CITY},?\s{{1,3}}(?:[A-Z]{{2}}\s)?(?:{_ZIP})(?![\w]))?"
)
_ENGLISH = re.compile(rf"[A-Za-z]?,? (?:{_NAME} ){{1,4}}?{_TYPE}(?![\w'’])\.?")
_LOWER = re.compile(r"[a-z]? (?:[a-z]{3,16} ){1,2}(?:street|avenue|road|boulevard|lane)(?!\w)")
_ROMANCE = re.compile(
    r"(?: ?(?:bis|ter|quater))?,? (?:rue|avenue|av\.|bd|boulevard|place|chemin|impasse|all[ée]e|quai|route|cours)"
    rf" (?:(?:de la|de l'|des|du|de|d'|la|le|les) ?)?{_NAME}(?: (?:(?:de|du|des|la|et) )?{_NAME}){{0,3}}",
    re.IGNORECASE,
)
_FRENCH_WORD = re.compile(  # a cheap look before
    r"(?: ?(?:bis|ter|quater))?,? (?:rue|avenue|av\.|bd|boulevard|place|chemin|impasse|all|quai|route|cours|square)",
    re.IGNORECASE,
)
_ENDINGS = (
    *("straße", "strasse", "str.", "weg", "platz", "allee", "gasse", "damm", "ufer", "chaussee", "stieg", "gade"),
    *("vej", "vænget", "gata", "gatan", "vägen", "veien", "veg", "katu", "kuja", "polku", "laan", "straat", "plein"),
    *("gracht", "dijk", "kade", "singel", "dreef", "utca", "ulica", "cesta", "iela", "gatvė", "sokak", "caddesi", "út"),
    *("-dong", "-ro", "-gil"),
)
_STARTS_LIST = """
    calle c/ via viale piazza corso vicolo largo rua avenida av. av avda avda. praça praca travessa estrada
    carrer plaza plaça paseo camino carretera ul. ul ulica al. aleja pl. улица ул. ул проспект пр. пр-т переулок
    пер. бульвар площадь вул. вулиця οδός οδος λεωφόρος str. strada bulevardul bd. calea trg jalan jl. jl rue
    avenue boulevard chemin
"""
_STARTS = frozenset(_STARTS_LIST.split())
_BOXES = frozenset({"box", "postfach", "apartado", "postbus", "skrytka", "bp", "b.p."})
_APART = frozenset({"utca", "út", "tér", "u", "straße", "str", "sokak", "cad"})
_KINDS_BEHIND = _BOXES | _APART
"""Words before a number that are not written with a capital, and still may belong to an address."""
_CJK_BEFORE = re.compile(r"(?:[\u4e00-\u9fff]{1,8}[省市区區县縣]){0,4}[\u4e00-\u9fff]{1,10}(?:大道|路|街|巷|弄|胡同)\Z")
_WORD = re.compile(r"[^\s,;:()\"]+")
_BEFORE = 72


def find(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return start and end of the address whose house number, or number of a box, is `text[start:end]`."""
    if text[end : end + 1] in (" ", ",") or text[end : end + 1].isalpha():
        match = _ENGLISH.match(text, end) or _LOWER.match(text, end)
        if match is None and _FRENCH_WORD.match(text, end):
            match = _ROMANCE.match(text, end)
        if match is not None:
            return start, _tail(text, match.end())
    begin = _before(text, start)
    return None if begin is None else (begin, _tail(text, end))


def _tail(text: str, at: int) -> int:
    match = _TAIL.match(text, at, at + 96)
    return match.end() if match else at


def _before(text: str, at: int) -> int | None:
    """Return where the street starts that stands before a house number, None if none does."""
    if at < 3 or (text[at - 1] != " " and not "\u4e00" <= text[at - 1] <= "\u9fff"):
        return None
    offset = max(at - _BEFORE, 0)
    if text[at - 1] != " ":
        match = _CJK_BEFORE.search(text[offset:at])
        return offset + match.start() if match else None
    last = text[text.rfind(" ", offset, at - 1) + 1 : at - 1].rpartition("\n")[2]
    if not last[:1].isupper() and last.lower().rstrip(".,") not in _KINDS_BEHIND:
        return None
    return _street(text[offset:at], offset)


def _street(window: str, offset: int) -> int | None:
    line = max(window.rfind("\n"), window.rfind(";"), window.rfind(": "), window.rfind('"')) + 1
    words = list(_WORD.finditer(window, line))[-5:]
    if not words:
        return None
    last = words[-1][0]
    if last.lower() in _BOXES:
        post = len(words) > 1 and words[-2][0].lower() in ("po", "p.o.")
        return offset + words[-2 if post else -1].start()
    if last[0].isupper() and len(last) >= 6 and last.lower().endswith(_ENDINGS):
        return offset + words[-1].start()
    for word in words[:-1]:
        if word[0].lower() in _STARTS and last[0].isupper():
            return offset + word.start()
    if len(words) > 1 and words[-2][0][0].isupper() and last.lower().rstrip(".") in _APART:
        return offset + words[-2].start()
    return None
