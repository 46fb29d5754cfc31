"""Days, in the forms that people write them in: with a word of birth before them they are dates of birth."""

import re

_MONTHS = """
    jan feb mar apr may jun jul aug sep oct nov dec mär mai okt dez janv févr fév mars avr juin juil août déc
    ene abr ago dic gen mag giu lug set ott fev out stycz lut kwie maj czerw lip sier wrze paźdz list grud янв
    фев мар апр ма июн июл авг сен окт ноя дек ιαν φεβ μαρ απρ μαΐ ιουν ιουλ αυγ σεπ οκτ νοε δεκ ocak şub nis
    haz tem ağu eyl eki kas ara tammi helmi maalis huhti touko kesä heinä elo syys loka marras joulu
"""
_NUMERIC = re.compile(
    r"(?:(?:0?[1-9]|[12][0-9]|3[01])(?P<s>[-./]|\. | / )(?:0?[1-9]|[12][0-9]|3[01])(?P=s)"
    r"(?:1[89][0-9]{2}|20[0-4][0-9]|[0-9]{2})"
    r"|(?:1[89][0-9]{2}|20[0-4][0-9])(?P<t>[-./]|\. )(?:0?[1-9]|1[0-2])(?P=t)(?:0?[1-9]|[12][0-9]|3[01]))\.?"
)
_COMPACT = re.compile(r"(?:1[89][0-9]{2}|20[0-4][0-9])(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])")
_MONTH = r"(?:" + "|".join(sorted(_MONTHS.split(), key=len, reverse=True)) + r")[^\W\d_]{0,9}\.?"
_DAY_FIRST = re.compile(
    rf"(?:0?[1-9]|[12][0-9]|3[01])(?:\.|st|nd|rd|th|º|er)?[ -](?:(?:of|de|di) )?{_MONTH},?[ -](?:(?:de|del) )?"
    r"(?:1[89][0-9]{2}|20[0-4][0-9])(?![0-9])",
    re.IGNORECASE,
)
_MONTH_FIRST = re.compile(
    r"(?:0?[1-9]|[12][0-9]|3[01])(?:st|nd|rd|th)?,? (?:1[89][0-9]{2}|20[0-4][0-9])(?![0-9])", re.IGNORECASE
)
_MONTH_BEFORE = re.compile(rf"(?<![^\W\d_]){_MONTH} \Z", re.IGNORECASE)
_CJK = re.compile(
    r"(?:1[89][0-9]{2}|20[0-4][0-9])\s?[年년]\s?(?:1[0-2]|0?[1-9])\s?[月월]\s?(?:[12][0-9]|3[01]|0?[1-9])\s?[日일]"
)


def numeric(text: str) -> bool:
    """Whether the text is a day in digits."""
    return _NUMERIC.fullmatch(text) is not None or _COMPACT.fullmatch(text) is not None


def find(text: str, at: int) -> tuple[int, int] | None:
    """Return start and end of the day, its month being a word, whose first digit stands at a place."""
    if match := _DAY_FIRST.match(text, at) or _CJK.match(text, at):
        return match.span()
    if match := _MONTH_FIRST.match(text, at):
        window = text[max(at - 16, 0) : at]
        if month := _MONTH_BEFORE.search(window):
            return at - len(window) + month.start(), match.end()
    return None
