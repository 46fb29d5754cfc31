"""Pages of calls: which, in what order, and where one goes on."""

import sqlite3
from collections.abc import Mapping, Sequence

from holdfast.log.base import Filter, UnknownCall
from holdfast.log.rows import json_text

Condition = tuple[str, Sequence[object]]

_ATTEMPTS = "SELECT * FROM other_attempts WHERE call IN (SELECT value FROM json_each(?)) ORDER BY call, n"


def conditions_of(filter: Filter) -> list[Condition]:
    """Return what calls have to be, wherever they are in the order of the scan."""
    equal = {name: getattr(filter, name) for name in Filter.EQUALS}
    conditions: list[Condition] = [(f"{name} = ?", (value,)) for name, value in equal.items() if value is not None]
    if filter.since_us is not None:
        conditions.append(("at_us >= ?", (filter.since_us,)))
    if filter.until_us is not None:
        conditions.append(("at_us < ?", (filter.until_us,)))
    if filter.tag is not None:
        conditions.append(("EXISTS (SELECT 1 FROM json_each(tags) WHERE key = ? AND value = ?)", filter.tag))
    if filter.repaired is not None:
        conditions.append(("repairs > 0" if filter.repaired else "repairs = 0", ()))
    if filter.replayed is not None:
        conditions.append(("replayed IS NOT NULL" if filter.replayed else "replayed IS NULL", ()))
    return conditions


def start_of(filter: Filter, db: sqlite3.Connection) -> list[Condition]:
    """Return where a scan begins. Raises UnknownCall."""
    cursors = [id for id in (filter.after, filter.before) if id is not None]
    return [later(_place(db, id), filter) for id in cursors]


def later(row: sqlite3.Row, filter: Filter) -> Condition:
    """Return the condition for what comes later in the order of the scan than a row."""
    if filter.after is not None:
        return "seq > ?", (row["seq"],)
    return "(at_us, seq) < (?, ?)", (row["at_us"], row["seq"])


def _place(db: sqlite3.Connection, id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT seq, at_us FROM calls WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise UnknownCall(id)
    return row


def page(
    db: sqlite3.Connection, conditions: Sequence[Condition], filter: Filter, size: int
) -> tuple[list[sqlite3.Row], Mapping[int, list[sqlite3.Row]]]:
    """Return rows of calls, and those of their other attempts by `seq`."""
    order = "seq" if filter.after is not None else "at_us DESC, seq DESC"
    where = " AND ".join([text for text, _ in conditions]) or "1"
    values = [value for _, values in conditions for value in values]
    sql = f"SELECT * FROM calls WHERE {where} ORDER BY {order} LIMIT ?"  # noqa: S608 the text is made above
    found = db.execute(sql, (*values, size)).fetchall()
    attempts: dict[int, list[sqlite3.Row]] = {}
    for row in db.execute(_ATTEMPTS, (json_text([row["seq"] for row in found]),)):
        attempts.setdefault(row["call"], []).append(row)
    return found, attempts
