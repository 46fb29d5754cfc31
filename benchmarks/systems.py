"""The systems that are measured: how each is installed, configured and started.

Every one forwards to the same two upstreams: nginx with a fixed answer, and `upstream.py` with paced streams. Each is
set up as its own documentation recommends for production, with the features that the comparison names and no others.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import payloads
from processes import free_port

from holdfast.log.connection import open_writer

HERE = Path(__file__).parent
BENCH = HERE.parent / ".bench"
"""Everything that is installed or written while measuring, except Debian packages."""

LITELLM = "1.106.2"
PORTKEY = "1.15.2"
PORTKEY_SERVER = "1.14.1"
"""Later releases of @hono/node-server break Portkey's streams (Portkey-AI/gateway issue 1389)."""

KEY = "sk-bench-9f2c61d07be84a35a1c4e8d20b7f6e13"
PATH = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"}


class Unavailable(Exception):
    """A system can't be installed here; the message says why."""


@dataclass(frozen=True)
class Target:
    """Where a workload is sent: a port on 127.0.0.1, and what is sent there."""

    port: int
    model: str
    headers: tuple[tuple[str, str], ...] = ()

    def header_lines(self) -> list[str]:
        return [f"{name}: {value}" for name, value in (("Authorization", f"Bearer {KEY}"), *self.headers)]


@dataclass(frozen=True)
class Upstreams:
    """The ports of the two upstreams."""

    plain: int
    stream: int


@dataclass(frozen=True)
class Launch:
    """How to start a system, and where it then listens."""

    argv: Sequence[str]
    plain: Target
    stream: Target
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class System:
    """`install` returns the version or raises Unavailable; `launch` writes what the system needs into a folder."""

    name: str
    title: str
    install: Callable[[], str]
    launch: Callable[[Path, Upstreams], Launch]
    logged: Callable[[Path], int] | None = None
    """Counts the calls in the system's log once it has stopped."""


# --- installing -------------------------------------------------------------------------------------------------------


def run(argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return what a program prints. Raises Unavailable with its last words if it fails."""
    try:
        done = subprocess.run(
            argv,
            check=False,
            cwd=cwd,
            env={**os.environ, **PATH, **(env or {})},
            capture_output=True,
            text=True,
            timeout=900,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise Unavailable(f"{' '.join(argv[:3])} failed: {words[-1][:200]}")
    return done.stdout + done.stderr


def program(name: str, *packages: str) -> str:
    """Return the path of a program, installing its Debian packages if it isn't there."""
    if found := shutil.which(name, path=PATH["PATH"]):
        return found
    install_packages(*packages)
    if found := shutil.which(name, path=PATH["PATH"]):
        return found
    raise Unavailable(f"no program {name} in the packages {', '.join(packages)}")


def install_packages(*packages: str) -> None:
    """Install Debian packages."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL keeps the packages from starting their services.
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q"]
    run([*apt, "update"])
    run([*apt, "install", "-y", "--no-install-recommends", *packages])


def nginx() -> str:
    return program("nginx", "nginx-light")


def wrk() -> str:
    return program("wrk", "wrk")


def install_nginx() -> str:
    return run([nginx(), "-v"]).strip().rpartition("/")[2]


def install_go() -> str:
    go = program("go", "golang-go")
    run([go, "build", "-o", str(BENCH / "go-proxy"), "."], cwd=HERE / "go-proxy", env={"CGO_ENABLED": "0"})
    return run([go, "version"]).split()[2].removeprefix("go")


def interpreter() -> str:
    """Return the Python that runs what is measured: $BENCH_PYTHON, Debian's, which is built with optimization, or ours.

    A Python that somebody compiled without `--enable-optimizations` is half again as slow.
    """
    if chosen := os.environ.get("BENCH_PYTHON"):
        return chosen
    debian = Path("/usr/bin/python3")
    if not debian.exists():
        return sys.executable
    recent = run([str(debian), "-c", "import sys; print(sys.version_info >= (3, 11))"]).strip() == "True"
    if recent and not any(Path("/usr/lib").glob("python3*/ensurepip")):
        install_packages("python3-venv")
    return str(debian) if recent else sys.executable


def virtual_environment(name: str, *requirements: str, without_dependencies: str | None = None) -> Path:
    """Return a virtual environment in .bench/ that holds what pip is asked for, made anew where that has changed."""
    venv, python = BENCH / name, interpreter()
    wanted = "\n".join([run([python, "-VV"]), *requirements, *(_texts(requirements)), without_dependencies or ""])
    stamp = venv / "wanted"
    if not stamp.exists() or stamp.read_text() != wanted:
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q"]
        run([python, "-m", "venv", "--clear", str(venv)])
        run([*pip, *requirements])
        if without_dependencies is not None:
            run([*pip, "--no-deps", "-e", without_dependencies])
        stamp.write_text(wanted)
    return venv


def _texts(paths: Sequence[str]) -> list[str]:
    return [Path(path).read_text(encoding="utf-8") for path in paths if path.endswith(".txt")]


def install_litellm() -> str:
    virtual_environment("litellm", f"litellm[proxy]=={LITELLM}")
    return LITELLM


def install_portkey() -> str:
    program("node", "nodejs")
    npm = program("npm", "npm")
    folder = BENCH / "portkey"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PORTKEY},
        "overrides": {"@hono/node-server": PORTKEY_SERVER},
    }
    package = folder / "package.json"
    if not (folder / "installed").exists() or json.loads(package.read_text()) != wanted:
        shutil.rmtree(folder)
        folder.mkdir()
        package.write_text(json.dumps(wanted))
        run([npm, "install", "--no-audit", "--no-fund"], cwd=folder)
        (folder / "installed").touch()
    return f"{PORTKEY} on Node {run(['node', '--version']).strip().removeprefix('v')}"


def install_holdfast() -> str:
    locked = str(HERE.parent / "requirements/base.txt")
    virtual_environment("holdfast", "--require-hashes", "-r", locked, without_dependencies=str(HERE.parent))
    run([str(_holdfast()), "--version"])
    return version("holdfast")


def _holdfast() -> Path:
    return BENCH / "holdfast/bin/holdfast"


# --- starting ---------------------------------------------------------------------------------------------------------

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_buffer_size 64k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  default_type application/json;
{servers}
}}
"""
NGINX_PROXY = """
  upstream u{upstream} {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://u{upstream};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering {buffering};
    }}
  }}
"""
NGINX_FIXED = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{body}'; }}
  }}
"""


def _nginx(folder: Path, servers: str) -> list[str]:
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, servers=servers))
    return [nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr"]


def launch_fixed(folder: Path, port: int) -> Sequence[str]:
    """Return the command of the plain upstream."""
    return _nginx(folder, NGINX_FIXED.format(port=port, body=payloads.reply().decode()))


def launch_nginx(folder: Path, upstreams: Upstreams) -> Launch:
    plain, stream = free_port(), free_port()
    servers = NGINX_PROXY.format(port=plain, upstream=upstreams.plain, buffering="on")
    servers += NGINX_PROXY.format(port=stream, upstream=upstreams.stream, buffering="off")
    return Launch(_nginx(folder, servers), Target(plain, "plain"), Target(stream, "stream"))


def launch_go(_folder: Path, upstreams: Upstreams) -> Launch:
    plain, stream = free_port(), free_port()
    pairs = ((plain, upstreams.plain), (stream, upstreams.stream))
    argv = [str(BENCH / "go-proxy")]
    for port, upstream in pairs:
        argv += [f"127.0.0.1:{port}", f"http://127.0.0.1:{upstream}"]
    return Launch(argv, Target(plain, "plain"), Target(stream, "stream"))


def launch_litellm(folder: Path, upstreams: Upstreams) -> Launch:
    port = free_port()
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/gpt-4o-mini",
                "api_base": f"http://127.0.0.1:{upstream}/v1",
                "api_key": "sk-upstream",
            },
        }
        for name, upstream in (("plain", upstreams.plain), ("stream", upstreams.stream))
    ]
    # JSON is YAML.
    (folder / "config.yaml").write_text(json.dumps({"model_list": models, "general_settings": {"master_key": KEY}}))
    argv = [str(BENCH / "litellm/bin/litellm"), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1"]
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    argv += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    return Launch(argv, Target(port, "plain"), Target(port, "stream"), env)


def launch_portkey(_folder: Path, upstreams: Upstreams) -> Launch:
    port = free_port()
    server = BENCH / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"

    def target(model: str, upstream: int) -> Target:
        host = ("x-portkey-custom-host", f"http://127.0.0.1:{upstream}/v1")
        return Target(port, model, (("x-portkey-provider", "openai"), host))

    return Launch(
        [shutil.which("node") or "node", str(server), f"--port={port}", "--headless"],
        target("plain", upstreams.plain),
        target("stream", upstreams.stream),
        {"NODE_ENV": "production"},
    )


HOLDFAST = """
[log]
path = "{folder}/log.db"
durability = "{durability}"

[models.upstream-plain]
provider = "openai"
name = "gpt-4o-mini"
base_url = "http://127.0.0.1:{plain}/v1"
api_key = {{ env = "BENCH_UPSTREAM_KEY" }}

[models.upstream-stream]
provider = "openai"
name = "gpt-4o-mini"
base_url = "http://127.0.0.1:{stream}/v1"
api_key = {{ env = "BENCH_UPSTREAM_KEY" }}

[features.plain]
models = ["upstream-plain", "upstream-stream"]
deadline = "60s"
last_resort = {{ message = "The model can't answer right now." }}

[features.stream]
models = ["upstream-stream", "upstream-plain"]
deadline = "60s"
last_resort = {{ message = "The model can't answer right now." }}
"""


def launch_holdfast(durability: str) -> Callable[[Path, Upstreams], Launch]:
    def launch(folder: Path, upstreams: Upstreams) -> Launch:
        port, config = free_port(), folder / "holdfast.toml"
        config.write_text(
            HOLDFAST.format(folder=folder, durability=durability, plain=upstreams.plain, stream=upstreams.stream)
        )
        argv = [str(_holdfast()), "serve", "--config", str(config), "--port", str(port), "--workers", "1"]
        env = {"BENCH_UPSTREAM_KEY": "sk-upstream"}
        return Launch(argv, Target(port, "plain"), Target(port, "stream"), env)

    return launch


def logged_holdfast(folder: Path) -> int:
    """Count the calls in the log with nothing but SQLite, so that the count owes nothing to what is measured."""
    with sqlite3.connect(f"file:{folder}/log.db?mode=ro", uri=True) as database:
        (calls,) = database.execute("SELECT count(*) FROM calls").fetchone()
    return int(calls)


def journal(durability: str) -> str:
    """Return the settings of SQLite that Holdfast's log runs with, as SQLite tells them."""
    with tempfile.TemporaryDirectory() as folder:
        database = open_writer(Path(folder) / "log.db", "sync" if durability == "sync" else "async")
        mode, synchronous, pages = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint")
        )
        database.close()
    level = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[synchronous]
    return f"journal_mode={mode.upper()}, synchronous={level}, wal_autocheckpoint={pages}"


SYSTEMS = {
    system.name: system
    for system in (
        System("nginx", "nginx proxy_pass", install_nginx, launch_nginx),
        System("go", "Go net/http ReverseProxy (bare)", install_go, launch_go),
        System("portkey", "Portkey gateway", install_portkey, launch_portkey),
        System("litellm", "LiteLLM proxy", install_litellm, launch_litellm),
        System("holdfast", "Holdfast", install_holdfast, launch_holdfast("async"), logged_holdfast),
        System(
            "holdfast-sync", 'Holdfast, durability "sync"', install_holdfast, launch_holdfast("sync"), logged_holdfast
        ),
    )
}
