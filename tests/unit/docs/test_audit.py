"""The page about the audit trail lists what is in it."""

import re
from pathlib import Path

from holdfast.privacy.audit.trail import ACTIONS

PAGE = Path(__file__).parents[3] / "docs" / "concepts" / "audit.md"


def test_every_action_is_documented_and_no_other():
    rows = re.findall(r"^\| (`[a-z_.`, ]+`) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(re.findall(r"`([a-z_.]+)`", " ".join(rows))) == sorted(ACTIONS)
