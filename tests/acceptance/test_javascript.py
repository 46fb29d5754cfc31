"""The JavaScript SDKs of OpenAI and Anthropic work unchanged: see `tests/javascript`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from acceptance.gateways import LAST_RESORT

SCRIPTS = Path(__file__).parents[1] / "javascript"
NODE = shutil.which("node")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not here"),
    pytest.mark.skipif(
        not (SCRIPTS / "node_modules" / "openai").is_dir(),
        reason="the JavaScript SDKs are not installed: `make test` does it, or `npm ci` in tests/javascript",
    ),
]


@pytest.mark.parametrize(("script", "least"), [("openai.test.mjs", 40), ("anthropic.test.mjs", 35)])
def test_the_sdk_works_unchanged(gateway, providers, script, least):
    environment = {
        "PATH": os.environ["PATH"],
        "HOLDFAST_URL": gateway.url,
        "SIMULATOR_URL": providers.address,
        "LAST_RESORT": LAST_RESORT,
    }
    command = [str(NODE), "--test-reporter=tap", script]
    run = subprocess.run(command, cwd=SCRIPTS, env=environment, capture_output=True, text=True, timeout=60, check=False)
    found = re.findall(r"^# (tests|pass|fail|skipped|todo) (\d+)$", run.stdout, re.MULTILINE)
    counts = {name: int(number) for name, number in found}
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert counts["pass"] == counts["tests"] >= least, run.stdout
