"""The JavaScript SDKs of OpenAI and Anthropic get what contracts promise: see `tests/javascript`."""

import json
import os
import re
import subprocess

from acceptance.contracts import FENCED, PART, RIGHT, SCHEMA, WRONG
from acceptance.test_javascript import NODE, SCRIPTS, pytestmark  # noqa: F401 - the same must be there


def test_the_sdks_get_what_contracts_promise(keeping, providers):
    said = {"SCHEMA": SCHEMA, "RIGHT": RIGHT, "FENCED": FENCED, "WRONG": WRONG, "PART": PART}
    environment = {
        "PATH": os.environ["PATH"],
        "HOLDFAST_URL": keeping.url,
        "SIMULATOR_URL": providers.address,
        "CONTRACTS": json.dumps(said),
    }
    command = [str(NODE), "--test-reporter=tap", "contracts.test.mjs"]
    run = subprocess.run(command, cwd=SCRIPTS, env=environment, capture_output=True, text=True, timeout=60, check=False)
    found = re.findall(r"^# (tests|pass|fail|skipped|todo) (\d+)$", run.stdout, re.MULTILINE)
    counts = {name: int(number) for name, number in found}
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
    assert counts["pass"] == counts["tests"] >= 31, run.stdout
