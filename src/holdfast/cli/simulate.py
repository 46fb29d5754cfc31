"""`holdfast simulate`: simulated providers to test an application against."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.providers.simulated import Script, Simulator

GRACE_SECONDS = 3.0


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 takes a free one.")
@click.option("--script", type=click.Path(path_type=Path), help="A TOML or JSON file: which model behaves how, when.")
@click.option(
    "--corpus",
    type=click.Path(),
    multiple=True,
    help="A JSONL file of recorded outputs by prompt (.gz or not); may be given several times. Each file of outputs is "
    "a model by the file's name.",
)
@click.option(
    "--tokens-per-second", type=click.FloatRange(min=0), help="The speed of models that don't say. 0: no limit."
)
@click.option("--first-token", metavar="DURATION", help='The first-token delay of models that don\'t say, as "300ms".')
@click.option("--seed", type=int, help="Of everything that is left to chance.")
def command(
    host: str,
    port: int,
    script: Path | None,
    corpus: tuple[str, ...],
    tokens_per_second: float | None,
    first_token: str | None,
    seed: int | None,
) -> None:
    """Start simulated providers that speak the wire formats of OpenAI, Anthropic and Gemini.

    How a model behaves is said by its name ("sim-echo:tps=20,cut=12") or by a script. The address /_simulator/requests
    shows what reached them.
    """
    defaults = {"tps": tokens_per_second, "ttft": first_token}
    try:
        wanted = _script(script, corpus, {key: value for key, value in defaults.items() if value is not None}, seed)
        _run(wanted, host, port)
    except HoldfastError as error:
        click.echo(error.message, err=True)
        raise SystemExit(2) from error
    except OSError as error:
        click.echo(f"Can't listen on {host}:{port}: {error.strerror or error}", err=True)
        raise SystemExit(1) from error


def _script(file: Path | None, corpus: tuple[str, ...], defaults: dict[str, object], seed: int | None) -> "Script":
    """Build the script: the file's, with what the options say laid over its defaults. Raises ConfigError."""
    from holdfast.providers.simulated.behaviour import merge
    from holdfast.providers.simulated.corpus import holds_outputs
    from holdfast.providers.simulated.script import from_table, read

    table = dict(read(file)) if file is not None else {}
    files = [str(Path(name).absolute()) for name in corpus]
    prompts = [name for name in files if not holds_outputs(name)]
    outputs = [name for name in files if name not in prompts]
    models = {Path(name).name.split(".jsonl")[0]: {"corpus": [*prompts, name]} for name in outputs}
    own = table.get("default", {})
    default = {**(merge(own) if isinstance(own, str | dict) else {}), **defaults} | ({"corpus": files} if files else {})
    written = table.get("models", {})
    table |= {"default": default, "models": models | written if isinstance(written, dict) else written}
    table |= {"seed": seed} if seed is not None else {}
    return from_table(table, str(file or "options"), file.parent if file else None)


def _run(script: "Script", host: str, port: int) -> None:
    from holdfast.providers.simulated import Simulator

    simulator = Simulator(script, host=host, port=port)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(simulator))
    else:
        uvloop.run(_serve(simulator))


async def _serve(simulator: "Simulator") -> None:
    """Serve until a signal comes, then let the responses under way end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await simulator.start()
    _greet(simulator)
    await stop.wait()
    click.echo("Stopping.")
    await simulator.aclose(GRACE_SECONDS)


def _greet(simulator: "Simulator") -> None:
    from rich.console import Console
    from rich.table import Table

    from holdfast.providers.simulated import PRESETS

    click.echo(f"Simulated providers at {simulator.address}")
    for wire, name in (("openai", "OpenAI"), ("anthropic", "Anthropic"), ("google", "Gemini")):
        click.echo(f"  {name + ' base URL':<20} {simulator.url(wire)}")  # type: ignore[arg-type]
    table = Table("model", "behaves as", box=None, pad_edge=False)
    for model in simulator.script.models:
        table.add_row(model, "(script)")
    for model, behaviour in PRESETS.items():
        table.add_row(model, behaviour or "repeats the last user message")
    table.add_row("any:KEY=VALUE,...", "such as ttft=300ms,tps=50,cut=12")
    Console(soft_wrap=True).print(table)
