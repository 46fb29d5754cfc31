"""What a repair did: every change of the text, so that the result can be replayed from what the model wrote.

The kinds of repairs:

fence             a code fence around the JSON was taken off
prose             text around the JSON was taken off
passed_over       text around the JSON was taken off that held another JSON value
control           a raw control character in a string was escaped
escape            a backslash that begins no escape of JSON was escaped, or an escape of another language was read
inner_quote       a quote inside a string was escaped
quotes            single, typographic, triple or back quotes around a string became double quotes
bare_key          a key without quotes got them
bare_string       text without quotes got them, where the contract asks for a string
joined            string literals joined by + became one
closed_string     the closing quote of a string was added where the next key begins
comma             a missing comma was added
trailing_comma    a comma before a closing bracket was taken out
comment           a comment was taken out
literal           a literal of Python or SQL became JSON's
number            a number in a spelling that JSON lacks was spelled its way
closed            closing brackets were added after a complete value
number_to_string  a number became a string, where the contract asks for one
string_to_number  a string that holds a number became one, where the contract asks for it
string_to_boolean a string that holds true or false became one, where the contract asks for it
enum_case         a string was written as the contract's choice that differs in case only
space             white space around an answer that is no JSON was taken off

Made only where the contract allows them by name, as they lose something or make something up:

drop_unknown      a key that the contract forbids was taken out, with its value
duplicate_keys    a key that comes again was taken out, with its value, so that the last one stays
complete          a value that was cut inside was ended where it stops, or taken out
merge             objects that have the wanted keys between them became one
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from holdfast.events import Repair

Kind = Literal[
    "fence",
    "prose",
    "passed_over",
    "control",
    "escape",
    "inner_quote",
    "quotes",
    "bare_key",
    "bare_string",
    "joined",
    "closed_string",
    "comma",
    "trailing_comma",
    "comment",
    "literal",
    "number",
    "closed",
    "number_to_string",
    "string_to_number",
    "string_to_boolean",
    "enum_case",
    "space",
    "drop_unknown",
    "duplicate_keys",
    "complete",
    "merge",
]
Lossy = Literal["drop_unknown", "duplicate_keys", "complete", "merge"]
Reason = Literal["no_json", "cut", "malformed", "ambiguous", "too_deep", "too_long", "too_many"]


class Repaired(msgspec.Struct, frozen=True):
    """One JSON value, as text. The ledger is empty where the text is the original."""

    text: str
    ledger: tuple[Repair, ...] = ()


class Refused(msgspec.Struct, frozen=True):
    """The text holds no JSON value that could be had without dropping, inventing or guessing.

    no_json: there is none; cut: it ends inside a value; malformed: it has a mistake that isn't repaired; ambiguous: it
    can be read in more than one way; too_deep, too_long, too_many: it exceeds a limit of the repair.
    """

    reason: Reason
    offset: int
    message: str


def replay(original: str, ledger: Iterable[Repair]) -> str:
    """Return the original with its repairs made. Raises ValueError where the ledger is not of this text."""
    return replay_part(original, ledger, 0, len(original))


def replay_part(original: str, ledger: Iterable[Repair], start: int, end: int) -> str:
    """Return a part of the original with the repairs made that are in it."""
    pieces: list[str] = []
    at = start
    for repair in ledger:
        if repair.offset < at or not original.startswith(repair.before, repair.offset, end):
            raise ValueError(f"the text at {repair.offset} is not what the ledger says")
        pieces += (original[at : repair.offset], repair.after)
        at = repair.offset + len(repair.before)
    pieces.append(original[at:end])
    return "".join(pieces)
