"""The pages that users read, followed as a reader would: block by block, in order, in a directory of their own."""

import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import yaml

from holdfast.config.files import read
from holdfast.config.load import build
from holdfast.contracts.load import ContractSettings
from holdfast.errors import ConfigError
from holdfast.providers.known import PROVIDERS
from holdfast.providers.simulated import RunningSimulator
from holdfast.providers.simulated.script import from_table

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
NODE_MODULES: Final = ROOT / "tests/javascript/node_modules"
SECONDS: Final = 60.0
"""How long one block may run, and a gateway may take to start."""
RUN: Final = {"bash", "sh", "python", "javascript"}
READ: Final = {"toml", "json", "jsonl", "yaml", "text", "markdown"}
"""Blocks that are data, which is checked, or what a command prints."""

_FENCE: Final = re.compile(r"^( *)```(.*)$")
_TITLE: Final = re.compile(r'title="([^"]+)"')
_MARKER: Final = re.compile(r"<!-- not run: (.+?) -->\s*$")
_PORT: Final = re.compile(r"(?<=:)80[89]\d\b|(?<=--port )80[89]\d\b")
_SERVER: Final = re.compile(r"make up|holdfast (up|serve)\b[^&\n]*")
_TABLE: Final = re.compile(r"^(?=\[)", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """A fenced block. `reason` is why it is not run, None if it is."""

    page: Path
    line: int
    language: str
    title: str | None
    reason: str | None
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those inside tabs and notes too."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start, before = 0, ""
    while start < len(lines):
        opening = _FENCE.match(lines[start])
        if opening is None:
            before = lines[start] if lines[start].strip() else before
            start += 1
            continue
        indent, info = len(opening[1]), opening[2].strip()
        end = next(at for at in range(start + 1, len(lines)) if lines[at].strip() == "```")
        title, marker = _TITLE.search(info), _MARKER.search(before)
        yield Block(
            page=page,
            line=start + 1,
            language=info.partition(" ")[0],
            title=title[1] if title else None,
            reason=marker[1] if marker else None,
            text="\n".join([line[indent:] for line in lines[start + 1 : end]]) + "\n",
        )
        start, before = end + 1, ""


@functools.cache
def commands_of_make() -> dict[str, str]:
    """Return what each target of the Makefile runs last, with the executables by their bare names."""
    text = (ROOT / "Makefile").read_text()
    recipes = re.findall(r"^(\w+):[^\n=]*\n\t([^\n]+)$", text, re.MULTILINE)
    return {target: command.replace("$(BIN)/", "").replace("$(PORT)", "8080") for target, command in recipes}


def check_data(block: Block) -> None:
    """Raise if a block of data is not what it says."""
    if block.language == "json":
        msgspec.json.decode(block.text)
    elif block.language == "jsonl":
        for line in block.text.splitlines():
            msgspec.json.decode(line)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "toml":
        _check_toml(block)


def _check_toml(block: Block) -> None:
    if block.title is not None and "script" in block.title:
        from_table(tomllib.loads(block.text), block.place, None)
        return
    if block.title is not None and block.title.startswith("contracts/"):
        msgspec.convert(tomllib.loads(block.text), ContractSettings)
        return
    completed = _completed(block.text)
    with tempfile.TemporaryDirectory() as directory:
        for feature in tomllib.loads(completed).get("features", {}).values():
            examples = feature.get("examples")
            shown = examples.get("file") if isinstance(examples, dict) else examples
            contract = feature.get("contract", "")
            contract = contract if contract.endswith((".json", ".toml", ".lark")) else None
            for name in (feature.get("prompt"), feature.get("last_resort", {}).get("file"), shown, contract):
                if name is not None:
                    named = Path(directory, name)
                    named.parent.mkdir(parents=True, exist_ok=True)
                    named.write_text('{"input": "Where?", "output": "Answer."}' if name == shown else '"Answer."')
        file = Path(directory, "holdfast.toml")
        file.write_text(completed)
        try:
            build(read(file), at_us=0, resolve_secrets=False, find_functions=False)  # those come in blocks of their own
        except ConfigError as error:
            raise AssertionError(f"{block.place}: {error}") from error


def _completed(text: str) -> str:
    """Return a part of a `holdfast.toml` with the models that it leaves out."""
    table = tomllib.loads(text)
    models = table.get("models", {})
    entries = [entry for feature in table.get("features", {}).values() for entry in feature.get("models", ())]
    named = [model for entry in entries for model in (entry if isinstance(entry, list) else [entry])]
    missing = [model for model in dict.fromkeys(named) if model not in models]
    if not models and not missing:
        missing = ["demo"]
    return text + "".join([f'\n[models.{model}]\nprovider = "simulated"\n' for model in missing])


def with_stand_ins(config: str, simulator: RunningSimulator) -> str:
    """Return a configuration whose providers are simulated ones, wherever it said that they were.

    Simulated models stay as they are, and so does what is served on a port of the page's own.
    """
    return "".join([_stand_in(table, simulator) for table in _TABLE.split(config)])


def _stand_in(table: str, simulator: RunningSimulator) -> str:
    parsed: dict[str, Any] = tomllib.loads(table)
    for settings in parsed.get("models", {}).values():
        provider, address = settings.get("provider"), settings.get("base_url")
        if provider is None or provider == "simulated" or (address and urlsplit(address).hostname == "127.0.0.1"):
            return table
        table = re.sub(r"^base_url *=.*\n", "", table, flags=re.MULTILINE)
        address = simulator.url(PROVIDERS[provider].wire)
        return re.sub(r"^(provider *=.*\n)", rf'\1base_url = "{address}"\n', table, flags=re.MULTILINE)
    return table


class Walk:
    """A reader on the way through one page. Blocks see the files, the gateway and the servers of those before them."""

    def __init__(self, directory: Path, simulator: RunningSimulator) -> None:
        self.skipped: list[str] = []
        self._directory = directory
        self._simulator = simulator
        self._ports: dict[str, str] = {}
        self._gateway: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._output = directory.parent / "output.txt"
        self._complaints = directory.parent / "gateway.txt"
        self._last = self._output
        keys = {provider.env: "a-key-of-the-test" for provider in PROVIDERS.values() if provider.env}
        bin = Path(sys.executable).parent
        self._bare = {key: value for key, value in os.environ.items() if key not in keys}
        self._bare |= {"PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        self._bare["COLUMNS"] = "200"
        self._environment = self._bare | keys

    def take(self, block: Block) -> None:
        """Do what a block says. Raises AssertionError if it fails or shows something else than what happens."""
        if block.reason is not None:
            return
        assert block.language in RUN | READ, f"{block.place}: nobody knows what to do with {block.language!r}"
        check_data(block)
        if block.language == "text":
            if block.title == "Output":
                self._compare(block)
        elif block.language in READ:
            self._write(block)
        elif block.language in ("bash", "sh") and _SERVER.fullmatch(block.text.strip()):
            self._serve(self._local(block.text.strip()))
        else:
            self._run(block)

    def close(self) -> None:
        """Stop everything, and fail if the gateway stumbled."""
        self._stop_gateway()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._complaints.exists():
            assert "Traceback" not in self._complaints.read_text()

    def _local(self, text: str) -> str:
        return _PORT.sub(lambda port: self._ports.setdefault(port[0], str(_free_port())), text)

    def _write(self, block: Block) -> None:
        if block.title is None:
            return
        text = self._local(block.text)
        if block.title == "holdfast.toml":
            self._stop_gateway()
            text = with_stand_ins(text, self._simulator)
        path = self._directory / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    # --- the gateway ---

    def _serve(self, command: str) -> None:
        self._stop_gateway()
        if command.startswith("make "):
            command = self._local(commands_of_make()[command.removeprefix("make ")])
        if "--port" not in command:
            command += f" --port {self._local(':8080')[1:]}"
        port = command.partition("--port ")[2].split()[0]
        demo = not (self._directory / "holdfast.toml").exists()
        with self._complaints.open("ab") as output:
            self._gateway = subprocess.Popen(
                command.split(),
                cwd=self._directory,
                stdout=output,
                stderr=output,
                env=self._bare if demo else self._environment,
            )
        self._last = self._complaints
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz", self._gateway, self._complaints)

    def _stop_gateway(self) -> None:
        if self._gateway is not None:
            self._gateway.terminate()
            try:
                self._gateway.wait(SECONDS)
            finally:
                self._gateway.kill()
            self._gateway = None

    # --- programs ---

    def _run(self, block: Block) -> None:
        command, suffix = {
            "python": ([sys.executable], ".py"),
            "javascript": (["node"], ".mjs"),
        }.get(block.language, (["bash", "-eo", "pipefail"], ".sh"))
        if reason := _cannot(block):
            self.skipped.append(f"{block.place}: {reason}")
            return
        if self._gateway is None and re.search(r":8080\b|holdfast calls|\.holdfast\b", block.text):
            self._serve("holdfast up --port " + self._local(":8080")[1:])
        if block.language == "javascript" and not (self._directory / "node_modules").exists():
            (self._directory / "node_modules").symlink_to(NODE_MODULES)
        program = self._directory / (block.title or f"block{block.line}{suffix}")
        program.write_text(self._local(block.text), encoding="utf-8")
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [*command, program.name],
                cwd=self._directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._processes.append(process)
        self._last = self._output
        code = process.wait(SECONDS)
        assert code == 0, f"{block.place} ended with {code}:\n{self._output.read_text(errors='replace')}"

    def _compare(self, block: Block) -> None:
        """Compare loosely: the lines that are shown come in this order; numbers, ids and white space may differ."""
        until = time.monotonic() + (SECONDS if self._last is self._complaints else 0)
        while missing := _missing(block.text, output := self._last.read_text(errors="replace")):
            assert time.monotonic() < until, f"{block.place}: {missing!r} is not in what was printed:\n{output}"
            time.sleep(0.05)


def _missing(shown: str, printed: str) -> str | None:
    """Return the first line of `shown` that was not printed after those before it."""
    lines = iter([_loose(line) for line in printed.splitlines()])
    for line in filter(str.strip, shown.splitlines()):
        pattern = re.compile(".*".join([re.escape(part.strip()) for part in _loose(line).split("...")]))
        if not any(pattern.search(other) for other in lines):
            return line
    return None


def _loose(line: str) -> str:
    line = re.sub(r"\b(?:[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{32})\b", "ID", line)
    line = re.sub(r"[─━●]+", "─", line)
    return " ".join(re.sub(r"\d+", "0", line).replace("─ ─", "─").split())


def _cannot(block: Block) -> str | None:
    """Return why this machine can't run a block, None if it can."""
    if block.language == "javascript" and not (shutil.which("node") and (NODE_MODULES / "openai").exists()):
        return "Node.js and the JavaScript SDKs are not here"
    if block.language in ("bash", "sh") and "curl" in block.text and shutil.which("curl") is None:
        return "curl is not here"
    return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], complaints: Path) -> None:
    until = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, complaints.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=SECONDS):
            return
        assert time.monotonic() < until, complaints.read_text()
        time.sleep(0.05)
