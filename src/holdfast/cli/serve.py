"""`holdfast serve`: the gateway with a configuration file."""

import errno
import ipaddress
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.errors import ConfigError, LogError

if TYPE_CHECKING:
    from holdfast.config import Configuration, Reloader


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("holdfast.toml"),
    show_default=True,
    help="The configuration file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes on the port.")
def command(path: Path, host: str, port: int, workers: int) -> None:
    """Start the gateway with a configuration file.

    It follows changes of the file and of the files it names; SIGHUP makes it look at once. SIGTERM and SIGINT drain
    the calls in flight, then stop.
    """
    from holdfast.cli.confined import load_confined
    from holdfast.config import Reloader

    try:
        configuration = load_confined(path)
    except ConfigError as error:
        click.echo(error.message, err=True)
        raise SystemExit(2) from error
    listeners = listen(host, port, workers)
    click.echo(f"Holdfast serves {path} at {address(listeners[0], configuration)} (configuration {configuration.hash})")
    run(configuration, listeners, Reloader(configuration))


def run(configuration: "Configuration", listeners: Sequence[socket.socket], reloader: "Reloader | None") -> None:
    """Serve until told to stop, then end the process with the right exit code."""
    from holdfast.workers import log_to_stderr, serve

    log_to_stderr("%(levelname)s %(message)s")
    try:
        code = serve(configuration, listeners, reloader)
    except (LogError, ConfigError) as error:
        click.echo(error.message, err=True)
        raise SystemExit(1 if isinstance(error, LogError) else 2) from error
    click.echo("Stopped.", err=True)
    raise SystemExit(code)


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return sockets that listen on a loopback address; end the process with a clear message if it is not to be had."""
    from holdfast.gateway.serving.server import bind

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to reload for it
    resolved = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(resolved).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        click.echo(
            f"--host {host}: without keys the gateway serves loopback only (127.0.0.1 or ::1). To serve other "
            "machines, put a proxy that authenticates in front of it.",
            err=True,
        )
        raise SystemExit(2)
    try:
        return bind(resolved, port, count)
    except OSError as error:
        click.echo(_unavailable(host, port, error), err=True)
        raise SystemExit(1) from error


def _unavailable(host: str, port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"{host}:{port} is not to be had: {error.strerror or error}. Try another --port."
    other = port + 1 if port < 65535 else port - 1
    return (
        f"port {port} is taken: another program listens on {host}, perhaps a gateway that still runs. "
        f"Stop it, or try --port {other} (make up PORT={other})."
    )


def address(listener: socket.socket, configuration: "Configuration") -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if configuration.config.gateway.tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
