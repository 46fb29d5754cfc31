"""What a search through bodies found: calls, and where in them."""

from typing import Any

import click

from holdfast.cli.listing import CallPrinter, print_json
from holdfast.cli.timeline import one_line
from holdfast.log.base import Found, Match
from holdfast.log.view import call_json
from holdfast.privacy.masking import mask, masked


def print_found(found: Found, *, plain: bool, as_json: bool) -> None:
    """Print what a search found, what stands around the text in `plain` or masked, and how far it looked."""
    if as_json:
        print_json([_match_json(match, plain=plain) for match in found.matches])
        print_json([{"looked": found.looked, "withheld": found.withheld, "next": found.next}])
        return
    printed = CallPrinter(as_json=False)
    for match in found.matches:
        printed.print([match.call])
        for place in _places(match, plain=plain):
            click.echo(f"  {one_line(place['pointer'])}: {one_line(place['excerpt'])}")
    click.echo(_told(found), err=True)


def _match_json(match: Match, *, plain: bool) -> dict[str, Any]:
    shown = call_json(match.call)
    return (shown if plain else masked(shown)) | {"places": _places(match, plain=plain)}


def _places(match: Match, *, plain: bool) -> list[dict[str, str]]:
    return [
        {"pointer": place.pointer, "excerpt": place.excerpt if plain else mask(place.excerpt)} for place in match.places
    ]


def _told(found: Found) -> str:
    """Say how much was looked at, and how to go on."""
    told = f"Found in {len(found.matches)} of the {found.looked} calls that were looked at."
    if found.withheld:
        told += f" The bodies of {found.withheld} of them can't be read."
    return told if found.next is None else f"{told} There are older ones: go on with --before {found.next}"
