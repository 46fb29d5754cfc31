"""Programs in a network namespace of their own, whose way out leads nowhere and is counted."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALONE = "ip link set lo up\n"
WITH_A_WAY_OUT = (
    ALONE
    + """
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 || true
printf 'nameserver 198.51.100.53\\noptions timeout:1 attempts:1\\n' > "$1/resolv.conf"
mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link add outside type veth peer name far
ip address add 192.0.2.2/24 dev outside
ip link set outside arp off up
ip link set far arp off up
ip route add default via 192.0.2.1 dev outside
"""
)
"""There is nobody at the other end, nor at the address of the name server."""
_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")


def run(directory: Path, setup: str, program: str, *arguments: str) -> Any:
    """Run a Python program in a new namespace. Return the JSON that it prints last, and fail if it fails.

    `packets()` in it tells how many packets have left so far.
    """
    if reason := _missing():
        pytest.skip(reason)
    (directory / "program.py").write_text(_PACKETS + program)
    script = f'set -e\n{setup}shift\nexec "$@"\n'
    command = [*_UNSHARE, "sh", "-c", script, "sh", str(directory), sys.executable, str(directory / "program.py")]
    ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


_PACKETS = """
def packets():
    with open("/proc/net/dev") as devices:
        (line,) = [line for line in devices if line.strip().startswith("outside:")]
    return int(line.split()[10])

"""


@functools.cache
def _missing() -> str | None:
    """Return why no namespace can be made here."""
    for tool in ("unshare", "ip", "mount"):
        if shutil.which(tool) is None:
            return f"{tool} is not here, and without it no network namespace can be made"
    probe = "ip link add outside type veth peer name far && mount --bind /etc/resolv.conf /etc/resolv.conf"
    tried = subprocess.run([*_UNSHARE, "sh", "-c", probe], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network namespace can be made here: {tried.stderr.strip()}"
