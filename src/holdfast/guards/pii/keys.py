"""Keys and tokens, told by what their issuers start them with, or by a word before them and how they look."""

import re

_ISSUED = re.compile(
    r"sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_\-]{20,180}"
    r"|gh[pousr]_[A-Za-z0-9]{36,80}|github_pat_[A-Za-z0-9_]{50,100}|glpat-[A-Za-z0-9_\-]{20,40}"
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|AIza[A-Za-z0-9_\-]{35}|ya29\.[A-Za-z0-9_\-]{20,180}"
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,120}|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,120}|whsec_[A-Za-z0-9]{24,80}"
    r"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_\-]{50,180}|hf_[A-Za-z0-9]{30,60}|gsk_[A-Za-z0-9]{40,80}|r8_[A-Za-z0-9]{30,60}"
    r"|SG\.[A-Za-z0-9_\-]{16,40}\.[A-Za-z0-9_\-]{30,60}|dop_v1_[a-f0-9]{64}|shpat_[a-fA-F0-9]{32}|key-[a-f0-9]{32}"
    r"|eyJ[A-Za-z0-9_\-]{10,100}(?:\.[A-Za-z0-9_\-]{5,120}){1,2}|pplx-[A-Za-z0-9]{40,60}|xai-[A-Za-z0-9]{40,100}"
)
_OPAQUE = re.compile(r"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_\-+/=.]{16,200}")


def issued(token: str) -> bool:
    """Whether the token has the form of an issuer's keys."""
    return _ISSUED.fullmatch(token) is not None


def opaque(token: str) -> bool:
    """Whether the token may be a key where words say that it is one."""
    return _OPAQUE.fullmatch(token) is not None
