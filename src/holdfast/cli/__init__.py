"""The `holdfast` command. One file a command group, loaded when it is called."""

import difflib
import importlib

import click

COMMANDS = {
    "up": "Start the gateway: the demo, or ./holdfast.toml if there is one.",
    "serve": "Start the gateway with a configuration file.",
    "check": "Validate the configuration.",
    "simulate": "Start simulated providers, with faults on demand.",
    "drill": "Put the configuration through every fault.",
    "calls": "List, filter, search, tail and show the calls in the log.",
    "keys": "Say who may call and for how much, and see what they spend.",
    "accounts": "Say who may sign in over HTTP.",
    "erase": "Erase all data of a subject, and certify it.",
    "export": "Write all data of a subject into a file.",
    "keyring": "Change the master key.",
    "audit": "Show who did what, and find every change of the record of it.",
    "guard": "Train what tells what may not pass.",
}


class LazyGroup(click.Group):
    """Imports `holdfast.cli.NAME` for its `command` only when NAME is called, so that every command starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"holdfast.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"There is no command {name!r}" + (f": did you mean {near[0]!r}?" if near else "."))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="holdfast", message="%(package)s %(version)s")
def main() -> None:
    """Holdfast stands between an application and the models it calls."""
