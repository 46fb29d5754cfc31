"""`holdfast export`: hand a person their data."""

from pathlib import Path

import click
import msgspec

from holdfast.cli.custody import opened_log
from holdfast.cli.files import replacing
from holdfast.cli.listing import print_json
from holdfast.cli.output import force_option, refuse_existing
from holdfast.cli.state_directory import StateDirectory, json_option, state_options
from holdfast.cli.subjects import Asked, chosen, record_subjects, tenant_options
from holdfast.privacy.erasure.registry import Registry


@click.command()
@click.option("--subject", required=True, help="Whose data: the name the application sent, or its hash.")
@tenant_options
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to write.")
@force_option
@json_option
@state_options
def command(state: StateDirectory, subject: str, asked: Asked, output: Path, force: bool, as_json: bool) -> None:
    """Write all that is kept of a subject into a file: its calls, with what was asked and answered, as JSON Lines.

    Works while the gateway serves. The audit trail will tell.
    """
    refuse_existing(output, force=force)
    subjects = chosen(subject, asked, state.existing())
    found: dict[str, int] = {}
    with opened_log(state, all_bodies=True) as log:
        record_subjects(state, "export", subjects)
        stores = Registry([log])
        with replacing(output) as file:
            for hash, whose in subjects.items():
                for store, item in stores.export(hash):
                    file.write(msgspec.json.encode({"found_in": store, "tenant": whose, **item}) + b"\n")
                    found[store] = found.get(store, 0) + 1
    if as_json:
        print_json([{"output": str(output), "found": found}])
    else:
        told = ", ".join([f"{count} in the {store}" for store, count in found.items()]) or "nothing was found"
        click.echo(f"Written to {output}: {told}.")
