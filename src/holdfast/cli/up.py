"""`holdfast up`: the gateway that a newcomer starts with."""

import functools
import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import click

from holdfast.cli.serve import address, key_standings, listen, run
from holdfast.errors import ConfigError

FILE = Path("holdfast.toml")

PATIENCE_SECONDS = 20.0

WELCOME = """
  Holdfast {what} at {url}

  curl {url}/v1/chat/completions -H 'content-type: application/json' {header}\\
    -d '{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{key}")
  reply = client.chat.completions.create(model="{name}", messages=[{{"role": "user", "content": "Hello!"}}])
  print(reply.choices[0].message.content)
"""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="An address; with keys any, else a loopback one.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
def command(host: str, port: int) -> None:
    """Start the gateway with ./holdfast.toml, or without one as a demo with simulated models.

    The demo also offers the models of every provider whose key is in the environment: OPENAI_API_KEY,
    ANTHROPIC_API_KEY, GEMINI_API_KEY. State is kept in .holdfast/.
    """
    from holdfast.cli.confined import load_confined
    from holdfast.config import Reloader, parse
    from holdfast.demo import demo_files

    try:
        if FILE.exists():
            configuration = load_confined(FILE)
        else:
            configuration = parse(demo_files(), base=Path.cwd(), at_us=int(time.time() * 1e6))
    except ConfigError as error:
        click.echo(error.message, err=True)
        raise SystemExit(2) from error
    listeners = listen(configuration, host, port)
    name = next(iter([*configuration.config.features, *configuration.config.models]), None)
    what = f"serves {FILE}" if FILE.exists() else "runs its demo"
    url = address(listeners[0], configuration)
    greet: Callable[[], object]
    if name is None:
        greet = bool
        click.echo(f"{FILE} names no model yet: nothing can be called.", err=True)
    else:
        keyed = bool(key_standings(configuration))
        demo = not FILE.exists() and not keyed
        config = configuration.config  # under [network] it may connect to nobody, nor need it trust its certificate
        asks = config.network is None and config.gateway.tls is None
        welcome = functools.partial(_welcome, url, name, what, demo=demo, keyed=keyed, asks=asks)
        greet = threading.Thread(target=welcome, daemon=True).start
    run(configuration, listeners, Reloader(configuration) if FILE.exists() else None, greet)


def _welcome(url: str, name: str, what: str, *, demo: bool, keyed: bool, asks: bool) -> None:
    """Greet once the gateway has answered: with the demo a call, else (a call may cost money) that it is ready.

    Where it can't ask, greet at once.
    """
    try:
        if demo:
            question = {"model": name, "messages": [{"role": "user", "content": "Hello!"}]}
            reply = json.loads(_fetch(f"{url}/v1/chat/completions", json.dumps(question).encode()))
            answered = f"  It has answered its first call: {reply['choices'][0]['message']['content']!r}"
        elif not asks:
            answered = f"  Ask it whether it is ready: {url}/readyz"
        else:
            _fetch(f"{url}/readyz", None)
            answered = "  It is ready. No model has been called yet."
    except OSError as error:
        click.echo(f"The gateway at {url} did not answer: {error}", err=True)
        return
    header, key = ("-H 'authorization: Bearer hf_...' ", "hf_...") if keyed else ("", "unused")
    click.echo(WELCOME.format(what=what, url=url, name=name, header=header, key=key) + "\n" + answered)
    click.echo("  See the calls: holdfast calls        Stop: Ctrl-C")


def _fetch(url: str, body: bytes | None) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # noqa: S310 - our own address
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    with direct.open(request, timeout=PATIENCE_SECONDS) as response:
        data: bytes = response.read()
    return data
