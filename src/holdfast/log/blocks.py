"""The blocks of some calls: read together, opened one by one when a call needs its own."""

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import structs

from holdfast.errors import PrivacyError
from holdfast.events import Call
from holdfast.log.bodies import Entry, Withheld, Words, entries_of, unseal, words
from holdfast.log.rows import json_text, unreadable
from holdfast.privacy.sealing.sealer import Sealer, owner_of

_READ = "SELECT number, codec, data FROM body_blocks WHERE number IN (SELECT value FROM json_each(?))"


class Blocks:
    """What the rows of `calls` point to. Read within a transaction of the caller; opened when that has ended."""

    def __init__(self, db: sqlite3.Connection, calls: Iterable[sqlite3.Row], sealer: Sealer | None) -> None:
        numbers = {row["block"] for row in calls} - {None}
        self._blocks = {row["number"]: row for row in db.execute(_READ, (json_text(sorted(numbers)),))}
        self._opened: dict[int, Sequence[Entry] | Withheld] = {}
        self._sealer = sealer

    def entry(self, row: sqlite3.Row) -> Entry | Withheld | None:
        """Return the bodies of a call, encoded; why they can't be had; None where there are none.

        Raises:
            LogError: they are damaged, or the keys can't be used.
        """
        block = self._blocks.get(row["block"])
        if block is None:
            return None
        try:
            if block["number"] not in self._opened:
                self._opened[block["number"]] = self._open(row, block)
            opened = self._opened[block["number"]]
            return opened if isinstance(opened, str) else opened[row["place"]]
        except (ValueError, LookupError, TypeError, PrivacyError) as error:
            raise unreadable(row, error) from error

    def _open(self, row: sqlite3.Row, block: sqlite3.Row) -> Sequence[Entry] | Withheld:
        owner = owner_of(row["subject"], row["tenant"])
        data = unseal(self._sealer, block["number"], owner, block["codec"], block["data"])
        return data if isinstance(data, str) else entries_of(data)

    def complete(self, row: sqlite3.Row, call: Call) -> Call:
        """Return a call with its bodies, or with what says why not. Raises LogError: they are damaged."""
        entry = self.entry(row)
        if entry is None:
            return call
        if isinstance(entry, str):
            return structs.replace(call, withheld=entry)
        try:
            return _with(call, words(call.kind, entry))
        except ValueError as error:
            raise unreadable(row, error) from error


def _with(call: Call, said: Words) -> Call:
    attempts = call.attempts
    if said.messages:
        messages = [*said.messages, *[None] * len(attempts)]  # a correction may have come without the keys
        attempts = tuple(
            [a if m is None else structs.replace(a, message=m) for a, m in zip(attempts, messages, strict=False)]
        )
    message = said.message if call.message is None else call.message
    bodies = {"request": said.request, "reply": said.reply, "ledger": said.ledger}
    return structs.replace(call, **bodies, message=message, attempts=attempts)
