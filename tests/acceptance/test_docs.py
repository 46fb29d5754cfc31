"""Every command and every snippet that users read works as it is shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from acceptance.pages import PAGES, ROOT, Block, Walk, blocks
from holdfast.providers.simulated import RunningSimulator

TOP = [path for path in ROOT.glob("*.md") if path.name != "README.md"]
NOT_RUN = [block for page in PAGES for block in blocks(page) if block.reason is not None]
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_FETCHED = re.compile(r'<(?:script|img|link(?! rel="canonical"))\b[^>]*\b(?:src|href)="(?:https?:)?//([^"]+)"')


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=_name)
def test_a_reader_can_do_what_the_page_says(page, tmp_path, simulator: RunningSimulator):
    simulator.follow({})
    directory = tmp_path / "reader"
    directory.mkdir()
    walk = Walk(directory, simulator)
    try:
        for block in blocks(page):
            walk.take(block)
    finally:
        walk.close()
    if walk.skipped:
        pytest.skip("all else works; " + "; ".join(walk.skipped))


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_what_is_not_run_says_why(block: Block):
    assert block.reason is not None
    assert len(block.reason.split()) > 1
    pytest.skip(block.reason)


@pytest.mark.parametrize("page", [*TOP, ROOT / "README.md"], ids=_name)
def test_links_between_files_lead_somewhere(page):
    broken = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "WARNING -" not in built.stderr
    fetched = {host for page in site.rglob("*.html") for host in _FETCHED.findall(page.read_text())}
    assert fetched == set()
    assert not list(site.rglob("*.py"))
