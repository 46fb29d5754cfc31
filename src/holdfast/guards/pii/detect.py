"""Find personal data that has a structure, in one pass over the digits and one over the at-signs of a text.

Whether a character is found depends on no more than `SPAN` characters to either side of it, and time is linear in the
length of the text.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address
from operator import attrgetter
from typing import Final, Literal

from holdfast.guards.base import Finding
from holdfast.guards.pii import accounts, addresses, dates, keys, national, phones, words
from holdfast.guards.pii.restoring import fits

Personal = Literal["address", "card", "date_of_birth", "email", "iban", "ip", "key", "national_number", "phone"]
KINDS: Final[tuple[Personal, ...]] = (
    *("address", "card", "date_of_birth", "email", "iban", "ip", "key", "national_number", "phone"),
)
SPAN: Final = 256

_LONGEST_RUN = 48
"""Characters of digits and separators. In a longer one each group of digits is judged by itself, so that what is found
at one end does not depend on what is found at the other."""
_MOST_GROUPS = 7
_LONGEST_TOKEN = 200

_ODD = re.compile(
    "[\u00a0\u2007\u2009\u200a\u202f\u2010-\u2015\u2212\u0660-\u0669\u06f0-\u06f9"
    "\u0966-\u096f\uff0b\uff0d\uff0e\uff10-\uff19\uff20]"
)
_PLAIN = {
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u200a\u202f"), " "),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"), "-"),
    **{base + digit: str(digit) for base in (0x660, 0x6F0, 0x966, 0xFF10) for digit in range(10)},
    0xFF0B: "+",
    0xFF0E: ".",
    0xFF20: "@",
}
_WORD = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_RUN = re.compile(r"[0-9]+(?:[ \-./()]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
_DIGITS = re.compile(r"[^0-9]+")
_TOKEN = re.compile(r"[A-Za-z0-9_\-]*")
_WHOLE_TOKEN = re.compile(r"[A-Za-z0-9_\-.+/=]*")
_LOCAL = re.compile(r"[A-Za-z0-9\u00c0-\u052f_.%+'\-]{1,65}")
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.){1,6}(?:[A-Za-z]{2,24}|[а-я]{2,10}|xn--[a-z0-9]{2,40})"
    r"(?![A-Za-z0-9_@а-я]|-[A-Za-z0-9])"
)
_IPV6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(r"[0-9A-Fa-f:]{2,39}(?:(?<=:)[0-9]{1,3}(?:\.[0-9]{1,3}){3})?")
_IPV6_BACK = re.compile(r"[0-9A-Fa-f:]{0,39}")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
_TIME = re.compile(r"[ T][0-9]{1,2}:[0-9]{2}")
_SUFFIX = re.compile(r"(?:-| (?=[A-D]\b))[A-Za-z](?![A-Za-z0-9])")


def find(text: str) -> list[Finding]:
    """Return the personal data in a text, in order, none overlapping another."""
    plain = text if text.isascii() else _ODD.sub(lambda match: _PLAIN[ord(match[0])], text)
    found = [*_emails(plain), *_ipv6(plain)]
    return [finding for finding in _merged([*found, *_Digits(plain).find()]) if fits(plain, finding.start, finding.end)]


def _merged(findings: list[Finding]) -> list[Finding]:
    """Join what overlaps: the longer one names it."""
    findings.sort(key=attrgetter("start"))
    merged: list[Finding] = []
    for finding in findings:
        if not merged or finding.start >= merged[-1].end:
            merged.append(finding)
            continue
        last = merged[-1]
        longer = last if last.end - last.start >= finding.end - finding.start else finding
        merged[-1] = Finding(longer.kind, last.start, max(last.end, finding.end), longer.score)
    return merged


def _emails(text: str) -> Iterator[Finding]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1, at + 160)
        local = _LOCAL.match(text[max(at - 65, 0) : at][::-1]) if domain else None
        if domain and local and domain.end() < at + 160:
            name = local[0][::-1].lstrip(".'-+%")
            if name and len(name) <= 64 and name != "git" and not name.endswith("."):
                yield Finding("email", at - len(name), domain.end())
        at = text.find("@", at + 1)


def _ipv6(text: str) -> Iterator[Finding]:
    done = 0
    for hint in _IPV6_HINT.finditer(text):
        if hint.start() < done:
            continue
        back = _IPV6_BACK.match(text[max(hint.start() - 39, 0) : hint.start()][::-1])
        start = hint.start() - (back.end() if back else 0)
        match = _IPV6.match(text, start)
        if match is None:
            continue
        done = match.end()
        bounded = not (start and text[start - 1] in _WORD) and text[done : done + 1] not in _WORD
        candidate = match[0].rstrip(":") if not match[0].endswith("::") else match[0]
        if bounded and _is_ipv6(candidate):
            yield Finding("ip", start, start + len(candidate))


def _is_ipv6(text: str) -> bool:
    if len(text) < 6:
        return False
    try:
        return not IPv6Address(text).is_loopback
    except ValueError:
        return False


class _Digits:
    """What is found around digits: everything but what an at-sign or colons tell."""

    def __init__(self, text: str) -> None:
        self.text = text

    def find(self) -> Iterator[Finding]:
        text, at, length = self.text, 0, len(self.text)
        while match := _RUN.search(text, at):
            start, end = match.span()
            while start > at and match.start() - start < 2 and text[start - 1] in "(+":
                start -= 1
            at = end
            before, after = text[start - 1] if start else " ", text[end] if end < length else " "
            if before in _WORD or after in _WORD:
                found, at = self._beside_letters(start, end)
                yield from found
            elif end - start <= 5 and text[start:end].isdigit():
                if found_here := self._short(start, end):
                    yield found_here
                    at = max(at, found_here.end)
            else:
                last = end
                for finding in self._run(start, end):
                    yield finding
                    last = max(last, finding.end)
                at = last

    # --- digits with letters at them ---

    def _beside_letters(self, start: int, end: int) -> tuple[list[Finding], int]:
        """Judge the token that the digits are part of, and those of the digits that are not. Return where to go on."""
        text = self.text
        first = text[start]
        glued = start and text[start - 1] in _WORD and first.isdigit()
        if (extended := phones.extension(text, end)) > end and not glued:
            digits = _DIGITS.sub("", text[start:end])
            if phones.alone(text[start:end], digits) or words.meaning(text, start) == "phone":
                return [Finding("phone", start, extended)], extended
        if glued:
            return self._token(start)
        last = end - 1
        while last > start and text[last - 1].isdigit():
            last -= 1
        head = [self._short(start, end)] if last == start else list(self._run(start, last))
        if last == start and end - start <= 5 and head[0] is not None:
            return [head[0]], max(head[0].end, end)
        found, at = self._token(last)
        # the longer reading wins
        if found:
            return found, at
        kept = [finding for finding in head if finding is not None and last > start]
        return kept, max([at, *(finding.end for finding in kept)])

    def _token(self, at: int) -> tuple[list[Finding], int]:
        text = self.text
        back = _TOKEN.match(text[max(at - _LONGEST_TOKEN, 0) : at][::-1])
        start = at - (back.end() if back else 0)
        ahead = _TOKEN.match(text, at, at + _LONGEST_TOKEN)
        end = ahead.end() if ahead else at + 1
        end = max(end, at + 1)
        if end - start > _LONGEST_TOKEN or end == at + _LONGEST_TOKEN:
            return [], end
        token = text[start:end].rstrip("-_")
        return self._coded(token, start, max(end, at + 1))

    def _coded(self, token: str, start: int, end: int) -> tuple[list[Finding], int]:
        text = self.text
        if len(token) < 7 and not (len(token) == 4 and token[:2].isalpha()):
            if token[:1].isdigit() and (found := self._short(start, start + len(token))):
                return [found], max(found.end, end)
            return [], end
        if token[:2].isalpha() and (iban := accounts.iban(text, start)):
            return [Finding("iban", start, iban)], max(iban, end)
        stop = start + len(token)
        whole = _WHOLE_TOKEN.match(text, start, start + _LONGEST_TOKEN)
        longer = whole[0].rstrip(".=/+") if whole else token
        for candidate in (longer, token):
            if keys.issued(candidate):
                return [Finding("key", start, start + len(candidate))], max(start + len(candidate), end)
        if len(token) <= 20 and national.form(token) in national.FORMS:
            announced = words.meaning(text, start) == "number"
            if national.find(token, announced):
                return [Finding("national_number", start, stop)], end
        said = words.meaning(text, start)
        if said == "key" and keys.opaque(token):
            return [Finding("key", start, stop)], end
        if said == "number" and len(token) <= 16 and sum(map(str.isdigit, token)) >= 5:
            return [Finding("national_number", start, stop, 0.6)], end
        return [], end

    # --- few digits ---

    def _short(self, start: int, end: int) -> Finding | None:
        """Judge a number that can only be part of an address or of a day."""
        text = self.text
        if end - start <= 4 and (day := dates.find(text, start)) and self._born(day[0], day[1]):
            return Finding("date_of_birth", *day, 0.9)
        if address := addresses.find(text, start, end):
            return Finding("address", *address, 0.8)
        return None

    def _born(self, start: int, end: int) -> bool:
        if _TIME.match(self.text, end):
            return False
        return words.meaning(self.text, start) == "born" or self.text[end : end + 3].strip()[:1] in ("生", "출")

    # --- digits in groups ---

    def _run(self, start: int, end: int) -> Iterator[Finding]:
        groups = [match.span() for match in _GROUP.finditer(self.text, start, end)]
        chained = end - start > _LONGEST_RUN
        at = 0
        while at < len(groups):
            finding, used = self._at(groups, at, start)
            if finding:
                yield finding
            at += used if finding and not chained else 1

    def _at(self, groups: list[tuple[int, int]], at: int, start: int) -> tuple[Finding | None, int]:
        """Judge what starts with one group of digits, the longest first. Return it, and how many groups it takes."""
        text = self.text
        begin = groups[at][0]
        if at == 0:
            begin = start
        elif text[begin - 1] in "(+":
            begin -= 2 if text[begin - 2] in "(+" and begin - 2 >= groups[at - 1][1] else 1
        elif not self._free_before(groups, at):
            return None, 1
        said: list[words.Meaning | None] = []
        for last in self._ends(groups, at):
            finish = groups[last][1]
            if "/ " in text[groups[at][1] : finish] and "/ " in text[groups[min(at + 1, last)][1] : finish]:
                continue  # between two numbers; behind the first group it may follow an area code
            if not self._free_after(groups, last):
                continue
            if finding := self._judge(begin, finish, groups[at : last + 1], said):
                return finding, last + 1 - at
        if groups[at][1] - groups[at][0] <= 5 and (short := self._short(*groups[at])):
            return short, max(sum(group[0] < short.end for group in groups[at:]), 1)
        return None, 1

    def _ends(self, groups: list[tuple[int, int]], at: int) -> list[int]:
        """Return the groups that what starts with one may end with, the last first: as many digits as anything has."""
        ends, count = [], 0
        for last in range(at, min(at + _MOST_GROUPS, len(groups))):
            start, end = groups[last]
            count += end - start
            if count > 19:
                break
            if count >= 6 or last - at == 3:
                ends.append(last)
        ends.reverse()
        return ends

    def _free_before(self, groups: list[tuple[int, int]], at: int) -> bool:
        gap = self.text[groups[at - 1][1] : groups[at][0]]
        return " " in gap or "(" in gap or gap == "/"

    def _free_after(self, groups: list[tuple[int, int]], last: int) -> bool:
        text, end = self.text, groups[last][1]
        if last + 1 < len(groups):
            gap = text[end : groups[last + 1][0]]
            return " " in gap or ")" in gap or gap == "/"
        goes_on = text[end : end + 1] == "," or (text[end : end + 1] == ":" and text[groups[last][0] - 1] != ".")
        return not (goes_on and text[end + 1 : end + 2].isdigit())

    def _judge(
        self, start: int, end: int, groups: list[tuple[int, int]], said: list[words.Meaning | None]
    ) -> Finding | None:
        text = self.text
        shown = text[start:end]
        digits = _DIGITS.sub("", shown)
        count = len(digits)
        if len(groups) == 4 and shown.count(".") == 3 and self._is_ipv4(shown, start, said):
            return Finding("ip", start, end)
        if count < 6 or count > 19:
            return None
        lengths = tuple([stop - begin for begin, stop in groups])
        if count >= 12 and accounts.card(digits, lengths, False) and self._said(start, said) != "other":
            return Finding("card", start, end)
        number = national.FORMS.get(national.form(shown))
        if number and (match := national.find(shown, announced=True)) and self._may_be(match, start, said):
            return Finding("national_number", start, end)
        if with_letter := self._lettered(start, end, shown):
            return with_letter
        if phones.alone(shown, digits):
            return None if self._said(start, said) == "other" else Finding("phone", start, phones.extension(text, end))
        return self._announced(start, end, shown, digits, lengths, said)

    def _announced(
        self,
        start: int,
        end: int,
        shown: str,
        digits: str,
        groups: tuple[int, ...],
        said: list[words.Meaning | None],
    ) -> Finding | None:
        meaning = self._said(start, said)
        after = self.text[end : end + 1] in (" ", "(", "-", ",") and words.phone_after(self.text, end)
        if meaning is None and not after and self.text[end : end + 1].isascii():
            return None
        if dates.numeric(shown):
            return Finding("date_of_birth", start, end, 0.9) if self._born(start, end) else None
        if meaning == "card" and accounts.card(digits, groups, True):
            return Finding("card", start, end, 0.9)
        if _DECIMAL.fullmatch(shown):
            return None
        if meaning == "number" and 7 <= len(digits) <= 14 and words.next_to(self.text, start):
            return Finding("national_number", start, end, 0.6)
        if (meaning == "phone" or after) and meaning != "other" and phones.announced(shown, digits):
            return Finding("phone", start, phones.extension(self.text, end), 0.85)
        return None

    def _said(self, start: int, said: list[words.Meaning | None]) -> words.Meaning | None:
        """Return what the words before say, looked up once for all that may start here."""
        if not said:
            said.append(words.meaning(self.text, start))
        return said[0]

    def _may_be(self, number: national.Number, start: int, said: list[words.Meaning | None]) -> bool:
        meaning = self._said(start, said)
        return meaning == "number" or (number.alone and meaning not in ("other", "phone"))

    def _lettered(self, start: int, end: int, shown: str) -> Finding | None:
        """Judge digits that letters apart from them may belong to: `12345678-Z`, `AB 12 34 56 C`."""
        text = self.text
        suffix = _SUFFIX.match(text, end)
        if suffix is None:
            return None
        if national.find(shown + suffix[0], words.meaning(text, start) == "number"):
            return Finding("national_number", start, suffix.end())
        prefix = text[max(start - 3, 0) : start]
        letters = prefix[:2].isalpha() and prefix[2:] == " " and prefix.isascii()
        if letters and national.find(prefix + shown + suffix[0], announced=False):
            return Finding("national_number", start - 3, suffix.end())
        return None

    def _is_ipv4(self, shown: str, start: int, said: list[words.Meaning | None]) -> bool:
        parts = shown.split(".")
        if not all(part.isdigit() and len(part) <= 3 and int(part) < 256 and str(int(part)) == part for part in parts):
            return False
        if parts[0] in ("0", "127", "255"):
            return False
        meaning = self._said(start, said)
        single = all(len(part) == 1 for part in parts)
        return meaning != "other" and (meaning == "host" or not single)
