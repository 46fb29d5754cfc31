"""`holdfast serve`: the gateway with a configuration file."""

import errno
import ipaddress
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.errors import ConfigError, StoreError

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
@click.option("--host", default="127.0.0.1", show_default=True, help="An address; with keys any, else a loopback one.")
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
    listeners = listen(configuration, host, port, workers)
    told = f"Holdfast serves {path} at {address(listeners[0], configuration)} (configuration {configuration.hash})"
    run(configuration, listeners, Reloader(configuration), lambda: click.echo(told))


def run(
    configuration: "Configuration",
    listeners: Sequence[socket.socket],
    reloader: "Reloader | None",
    opened: Callable[[], object],
) -> None:
    """Serve until told to stop, then end the process with the right exit code.

    `opened` is called once nothing stands in the way of serving: the state and the log are open.
    """
    from holdfast.workers import log_to_stderr, serve

    log_to_stderr("%(levelname)s %(message)s")
    try:
        code = serve(configuration, listeners, reloader, opened)
    except (StoreError, ConfigError) as error:
        click.echo(error.message, err=True)
        raise SystemExit(1 if isinstance(error, StoreError) else 2) from error
    click.echo("Stopped.", err=True)
    raise SystemExit(code)


def listen(configuration: "Configuration", host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return sockets that listen on an address: of this machine alone, or with keys on any.

    End the process with a clear message if it is not to be had.
    """
    from holdfast.gateway.serving.server import bind

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to reload for it
    resolved = "127.0.0.1" if host == "localhost" else host
    if not _is_loopback(resolved):
        _need_keys(configuration, host)
    try:
        return bind(resolved, port, count)
    except (OSError, UnicodeError) as error:  # which no host name is that can't be encoded
        click.echo(_unavailable(host, port, error), err=True)
        raise SystemExit(1) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _need_keys(configuration: "Configuration", host: str) -> None:
    """End the process if nobody could call from another machine, and warn if keys would travel in the clear."""
    if "valid" not in key_standings(configuration):
        folder = (configuration.base / configuration.config.log.path).parent
        click.echo(
            f"--host {host}: without keys the gateway serves loopback only (127.0.0.1 or ::1). To serve other "
            f"machines, make a key first: holdfast keys create --tenant NAME --role app --state {folder}",
            err=True,
        )
        raise SystemExit(2)
    if configuration.config.gateway.tls is None:
        click.echo(
            f"--host {host}: keys and calls travel in the clear. Set [gateway] tls, unless a proxy before the gateway "
            "takes care of that.",
            err=True,
        )


def key_standings(configuration: "Configuration") -> set[str]:
    """Return how the keys stand that there are: "valid", "expired", "revoked".

    The state is migrated where it is older than this version. End the process with a message if it can't be read.
    """
    from holdfast.clock import SystemClock
    from holdfast.state.files import STATE_FILE
    from holdfast.state.keys import Keys, microseconds

    path, clock = (configuration.base / configuration.config.log.path).with_name(STATE_FILE), SystemClock()
    if not path.exists():
        return set()
    try:
        with closing(Keys(path, clock)) as keys:
            return {key.standing(microseconds(clock)) for key in keys.all()}
    except StoreError as error:
        click.echo(error.message, err=True)
        raise SystemExit(1) from error


def _unavailable(host: str, port: int, error: OSError | UnicodeError) -> str:
    if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        told = getattr(error, "strerror", None) or error
        return f"{host}:{port} is not to be had: {told}. Try another --host or --port."
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
