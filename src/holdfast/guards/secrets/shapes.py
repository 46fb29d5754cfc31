"""What keys and tokens look like: the prefixes that their providers give them, their lengths, their checksums.

A text is looked at only where there are 16 characters without white space, and there only at the prefixes. What has a
checksum that does not hold is no token but an example of one, and so is what repeats itself or says so.
"""

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from holdfast.guards.base import Finding

SHORTEST: Final = 16
"""Nothing here is shorter."""
_DISTINCT: Final = 7
_LOOKED_AT: Final = 256
_MADE_UP: Final = (
    "example",
    "placeholder",
    "redacted",
    "your",
    "xxxx",
    "***",
    "...",
    "1234567890",
    "abcdefgh",
    "0000000",
)
_DIGIT: Final = re.compile(r"\d")
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def plausible(token: str) -> bool:
    """Whether it may be random, rather than the example of a manual. The rest of a long one is not looked at."""
    token = token[:_LOOKED_AT].lower()
    return len(set(token)) >= _DISTINCT and not any(word in token for word in _MADE_UP)


def checked_by_crc(token: str) -> bool:
    """Whether the last 6 of 36 characters after the prefix are the CRC-32 of the others, in base 62."""
    body = token.rpartition("_")[2]
    if len(body) != 36:
        return True
    rest = binascii.crc32(body[:30].encode())
    digits = ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = _BASE62[digit] + digits
    return digits == body[30:]


def is_jwt(token: str) -> bool:
    """Whether the header of what looks like a JSON Web Token is one."""
    header = token.partition(".")[0]
    try:
        fields = msgspec.json.decode(urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and ("alg" in fields or "enc" in fields)


def has_digit(token: str) -> bool:
    return _DIGIT.search(token, 0, _LOOKED_AT) is not None


class Shape(NamedTuple):
    """A prefix, the regular expression of what follows it, and what must hold of a token that is no example."""

    kind: str
    prefix: str
    rest: str
    holds: Callable[[str], bool] = plausible


_A: Final = "[A-Za-z0-9]"
_W: Final = "[A-Za-z0-9_-]"
_X: Final = "[0-9a-f]"
_END: Final = "(?![A-Za-z0-9])"
_END_W: Final = "(?![A-Za-z0-9_-])"
_UUID: Final = f"{_X}{{8}}-{_X}{{4}}-{_X}{{4}}-{_X}{{4}}-{_X}{{12}}"

SHAPES: Final = (
    # clouds
    *(Shape("AWS access key", prefix, f"[A-Z2-7]{{16}}{_END}") for prefix in ("AKIA", "ASIA")),
    Shape("Google API key", "AIza", f"{_W}{{35}}{_END_W}"),
    Shape("Google client secret", "GOCSPX-", f"{_W}{{28}}{_END_W}"),
    Shape("Google access token", "ya29.", f"{_W}{{30,}}+"),
    *(Shape("DigitalOcean token", f"do{kind}_v1_", f"{_X}{{64}}{_END}") for kind in "opr"),
    Shape("Azure storage key", "AccountKey=", r"[A-Za-z0-9+/]{86}=="),
    Shape("Databricks token", "dapi", f"{_X}{{32}}(?:-\\d)?{_END}"),
    Shape("Fly token", "fm2_", "[A-Za-z0-9+/=,_-]{100,700}+"),
    Shape("Supabase token", "sbp_", f"{_X}{{40}}{_END}"),
    Shape("Vault token", "hvs.", f"{_W}{{24,200}}+"),
    Shape("Vault token", "hvb.", f"{_W}{{100,300}}+"),
    Shape("Pulumi token", "pul-", f"{_X}{{40}}{_END}"),
    Shape("Tailscale key", "tskey-", f"[a-z]{{3,10}}-{_A}{{8,40}}-?{_A}{{0,48}}{_END}"),
    Shape("Doppler token", "dp.", f"[a-z]{{2,6}}\\.{_A}{{40,50}}{_END}"),
    # code and packages
    *(Shape("GitHub token", f"gh{kind}_", f"{_A}{{36,255}}+", checked_by_crc) for kind in "pousr"),
    Shape("GitHub token", "github_pat_", f"{_A}{{22}}_{_A}{{59}}{_END}"),
    *(
        Shape("GitLab token", f"gl{kind}-", f"{_W}{{20,300}}+", has_digit)
        for kind in ("pat", "ptt", "dt", "rt", "cbt", "oas", "soat", "ft", "imt", "agent")
    ),
    Shape("npm token", "npm_", f"{_A}{{36}}{_END}", checked_by_crc),
    Shape("PyPI token", "pypi-AgE", f"{_W}{{50,300}}+"),
    Shape("crates.io token", "cio", f"{_A}{{32}}{_END}", has_digit),
    Shape("RubyGems key", "rubygems_", f"{_X}{{48}}{_END}"),
    Shape("Docker token", "dckr_pat_", f"{_W}{{27}}{_END_W}"),
    Shape("Atlassian token", "ATATT3", f"{_W}{{150,250}}=?[0-9A-F]{{0,8}}"),
    Shape("Linear key", "lin_api_", f"{_A}{{40}}{_END}"),
    Shape("Postman key", "PMAK-", f"{_X}{{24}}-{_X}{{34}}{_END}"),
    # models
    Shape("Anthropic key", "sk-ant-", f"[a-z]{{3,6}}\\d\\d-{_W}{{80,128}}+"),
    *(Shape("OpenAI key", f"sk-{kind}-", f"{_W}{{40,250}}+", has_digit) for kind in ("proj", "svcacct", "admin")),
    Shape("OpenAI key", "sk-", f"{_A}{{20}}T3BlbkFJ{_A}{{20}}{_END}"),
    Shape("OpenRouter key", "sk-or-v1-", f"{_X}{{64}}{_END}"),
    Shape("Langfuse key", "sk-lf-", _UUID),
    Shape("API key", "sk-", f"{_A}{{32,64}}{_END_W}", has_digit),
    Shape("Groq key", "gsk_", f"{_A}{{52}}{_END}"),
    Shape("xAI key", "xai-", f"{_A}{{70,90}}{_END}"),
    Shape("Perplexity key", "pplx-", f"{_A}{{40,60}}{_END}"),
    Shape("Replicate token", "r8_", f"{_A}{{37}}{_END}"),
    Shape("Holdfast key", "hf_", f"[a-z2-9]{{8}}_{_A}{{40}}{_END}"),
    Shape("Hugging Face token", "hf_", f"{_A}{{34}}{_END}"),
    Shape("LangSmith key", "lsv2_", f"(?:pt|sk)_{_X}{{32}}_{_X}{{10}}{_END}"),
    Shape("Pinecone key", "pcsk_", f"{_A}{{5,8}}_{_A}{{60,70}}{_END}"),
    # payments, messages, monitoring
    *(
        Shape("Stripe key", f"{kind}_{mode}_", f"{_A}{{20,247}}+")
        for kind in ("sk", "rk")
        for mode in ("live", "test", "prod")
    ),
    Shape("Stripe webhook secret", "whsec_", "[A-Za-z0-9+/=]{32,128}+"),
    *(Shape("Slack token", f"xox{kind}-", "[A-Za-z0-9-]{20,250}+", has_digit) for kind in "abeoprs"),
    Shape("Slack token", "xapp-", "\\d-[A-Z0-9]{8,14}-\\d{10,14}-[0-9a-f]{60,70}"),
    Shape("Slack webhook", "hooks.slack.com/", f"services/T{_A}{{8,12}}/B{_A}{{8,12}}/{_A}{{24}}{_END}"),
    Shape("SendGrid key", "SG.", f"{_W}{{22}}\\.{_W}{{43}}{_END_W}"),
    Shape("Twilio key", "SK", f"{_X}{{32}}{_END}"),
    Shape("Mailgun key", "key-", f"{_X}{{32}}{_END}"),
    Shape("Mailchimp key", "mc-", f"{_X}{{32}}-us\\d{{1,2}}"),
    *(Shape("Shopify token", f"shp{kind}_", f"[0-9a-fA-F]{{32}}{_END}") for kind in ("at", "ca", "pa", "ss")),
    Shape("Square secret", "sq0csp-", f"{_W}{{43}}{_END_W}"),
    Shape("Notion token", "ntn_", f"{_A}{{40,50}}{_END}"),
    Shape("New Relic key", "NRAK-", f"[A-Z0-9]{{27}}{_END}"),
    Shape("Grafana token", "glsa_", f"{_A}{{32}}_{_X}{{8}}{_END}"),
    Shape("Grafana token", "glc_", "[A-Za-z0-9+/=]{32,400}+"),
    Shape("Sentry token", "sntrys_", "[A-Za-z0-9+/=_-]{60,400}+"),
    Shape("age key", "AGE-SECRET-KEY-1", f"[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{{58}}{_END}"),
    Shape("JWT", "eyJ", f"{_A}{{5}}{_W}{{3,300}}+\\.{_W}{{4,}}+(?:\\.{_W}++){{0,3}}+", is_jwt),
)


_Tree = dict[str, "_Tree"]


def _combined() -> re.Pattern[str]:
    """Put all shapes into one expression in which prefixes share their beginnings, so that no place is tried twice."""
    tree: _Tree = {}
    for shape in SHAPES:
        node = tree
        for letter in shape.prefix:
            node = node.setdefault(re.escape(letter), {})
        node.setdefault(_start(len(shape.prefix)) + f"(?:{shape.rest})", {})
    return re.compile(_written(tree))


def _start(length: int) -> str:
    """Return what holds after a prefix where no letter or digit precedes it, unless it belongs to an escape."""
    prefix = f".{{{length}}}"
    return rf"(?:(?<![A-Za-z0-9]{prefix})|(?<=\\[nrt]{prefix})|(?<=%[0-9A-Fa-f]{{2}}{prefix}))"


def _written(tree: _Tree) -> str:
    options = [part + (_written(inner) if inner else "") for part, inner in tree.items()]
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"


_COMBINED: Final = _combined()
_RESTS: Final = {shape: re.compile(shape.rest) for shape in SHAPES}
_BY_LETTER: Final = {
    first: [shape for shape in SHAPES if shape.prefix[0] == first] for first in {shape.prefix[0] for shape in SHAPES}
}


def tokens(text: str) -> Iterator[Finding]:
    """Yield what has the shape of a key or token, in its order."""
    at = 0
    for run in [run for run in text.split() if len(run) >= SHORTEST]:
        at = text.find(run, at)
        yield from _in_run(text, at, at + len(run))
        at += len(run)


def _in_run(text: str, at: int, end: int) -> Iterator[Finding]:
    while match := _COMBINED.search(text, at, end):
        shape = _shape(match[0])
        if shape and shape.holds(match[0]) and plausible(match[0][len(shape.prefix) :]):
            yield Finding(shape.kind, match.start(), match.end())
            at = match.end()
        else:  # within what is no token, there may be one
            at = match.start() + 1


def _shape(token: str) -> Shape | None:
    """Return which shape it is that a token has."""
    for shape in _BY_LETTER[token[0]]:
        if token.startswith(shape.prefix) and _RESTS[shape].fullmatch(token, len(shape.prefix)):
            return shape
    return None
