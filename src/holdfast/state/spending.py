"""What was spent, in the state: workers draw leases from the windows of limits, and give back what they don't use.

Never is more drawn from a window than its cap. What a worker may use is drawn first, durably; how much of it was used
is in the worker's own file (see `holders.py`), so that a worker that dies has used no less than what is known of it.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Final, NamedTuple

from holdfast.database import open_reader, open_writer, transaction, translated
from holdfast.state.files import STATE
from holdfast.state.limits import Meter, Window

PORTION: Final = 4
"""A draw takes one part in so many of what is left, divided by the workers: so none holds what another may need."""
WINDOWS_KEPT: Final = 100
"""The latest windows of a meter that are remembered, also for a clock that is set back."""


class Order(NamedTuple):
    """What a worker wants to change about one of its leases. A new `number` makes a new lease."""

    number: int
    meter: Meter
    start: int
    """Of the window, in seconds since 1970."""
    cap: int
    keep: int
    """The part of it that was used, or is kept. It is drawn whatever the cap: what was used was used."""
    least: int = 0
    """Nothing more is drawn where this much can't be..."""
    needed: int = 0
    """...all of this if it can be..."""
    most: int = 0
    """...and up to this for later, if it is a small part of what is left."""
    close: bool = False
    """Whether it ends: what is not kept is given back."""


class Spent(NamedTuple):
    """What was drawn in a window, and how much of that is leased: used, or held by a worker."""

    meter: Meter
    start: int
    drawn: int
    leased: int


class Held(NamedTuple):
    """A lease: `granted` is the part of what was drawn in a window that a worker holds or has used."""

    holder: str
    number: int
    meter: Meter
    start: int
    granted: int


class Grant(NamedTuple):
    """What came of an order."""

    drawn: int
    """How much more."""
    left: int
    """How much anybody can still draw; negative: overdrawn."""
    others: tuple[Held, ...] = ()
    """Where less was drawn than needed: the leases of others in the window, who may give some of it back."""
    idle: int = 0
    """How much of that is free: neither used nor set aside. Only the workers' files tell, see `leases.py`."""

    def short_of(self, order: Order) -> bool:
        """Whether less was drawn than the order is of use with."""
        return not order.close and self.drawn < order.least


class Spending:
    """The windows and leases, on one connection. Methods block; threads take turns, other processes may draw too.

    Raises:
        StateError: from every method. The state can't be used. Nothing was changed, unless it broke in the very moment
            of the commit: orders are such that giving them again is right in both cases.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._turn = threading.Lock()
        self._db = open_reader(path, STATE) if read_only else open_writer(path, STATE, "sync")

    @property
    def directory(self) -> Path:
        """The folder of the workers' files."""
        return self.path.parent / "leases"

    def exchange(self, holder: str, orders: Sequence[Order], live: int = 1) -> list[Grant]:
        """Carry out orders of one holder, all or none; `live` is the number of workers that draw."""
        with self._changing() as db:
            return [_exchange(db, holder, order, live) for order in orders]

    def recover(self, holder: str, used: Mapping[int, int] | None) -> int:
        """Close the leases of a holder that is dead, and return how many there were.

        `used` says how much was used by a lease's number; what it doesn't tell of counts as used, with None all of it.
        """
        with self._changing() as db:
            rows = db.execute("SELECT number, window, granted FROM leases WHERE holder = ?", (holder,)).fetchall()
            for number, window, granted in rows:
                spent = granted if used is None else used.get(number, granted)
                db.execute("UPDATE windows SET drawn = drawn + ? WHERE id = ?", (spent - granted, window))
            db.execute("DELETE FROM leases WHERE holder = ?", (holder,))
        return len(rows)

    def holders(self) -> set[str]:
        """Return who holds leases."""
        with self._reading() as db:
            return {row[0] for row in db.execute("SELECT DISTINCT holder FROM leases")}

    def held(self) -> list[Held]:
        """Return the leases that there are."""
        with self._reading() as db:
            rows = db.execute(_HELD).fetchall()
        return [Held(row[0], row[1], Meter(row[2], row[3], row[4], Window(row[5])), *row[6:]) for row in rows]

    def spent(self, *, since: int = 0) -> list[Spent]:
        """Return the windows that began at `since` (seconds since 1970) or later, and those that never end."""
        with self._reading() as db:
            rows = db.execute(_SPENT, (since, Window.TOTAL)).fetchall()
        return [Spent(Meter(row[0], row[1], row[2], Window(row[3])), *row[4:]) for row in rows]

    def close(self) -> None:
        """Close the connection. It may be closed twice."""
        with self._turn:
            self._db.close()

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with self._turn, translated(self.path, STATE), transaction(self._db):
            yield self._db

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._turn, translated(self.path, STATE), transaction(self._db, "DEFERRED"):
            yield self._db


_FIND = "SELECT id, drawn FROM windows WHERE scope = ? AND whose = ? AND unit = ? AND span = ? AND start = ?"
_ADD = "INSERT INTO windows (scope, whose, unit, span, start, drawn) VALUES (?, ?, ?, ?, ?, 0) RETURNING id, drawn"
_FORGET = """
DELETE FROM windows WHERE scope = ?1 AND whose = ?2 AND unit = ?3 AND span = ?4 AND start <= (
    SELECT start FROM windows WHERE scope = ?1 AND whose = ?2 AND unit = ?3 AND span = ?4
    ORDER BY start DESC LIMIT 1 OFFSET ?5
) AND id != ?6 AND id NOT IN (SELECT window FROM leases)
"""
_LEASE = """
INSERT INTO leases (holder, number, window, granted) VALUES (?, ?, ?, ?)
ON CONFLICT (holder, number) DO UPDATE SET granted = excluded.granted
"""
_HELD = """
SELECT holder, number, scope, whose, unit, span, start, granted FROM leases JOIN windows ON window = id
"""
_SPENT = """
SELECT scope, whose, unit, span, start, drawn, coalesce((SELECT sum(granted) FROM leases WHERE window = id), 0)
FROM windows WHERE start >= ? OR span = ? ORDER BY scope, whose, unit, span, start
"""


def _exchange(db: Connection, holder: str, order: Order, live: int) -> Grant:
    window, drawn = _window(db, order)
    row = db.execute("SELECT granted FROM leases WHERE holder = ? AND number = ?", (holder, order.number)).fetchone()
    if row is None and order.close:
        return Grant(0, order.cap - drawn)  # it was closed already, by an order whose answer got lost
    held: int = row[0] if row is not None else 0
    drawn += order.keep - held
    left = order.cap - drawn
    more = 0 if order.close else _portion(order, left, live)
    db.execute("UPDATE windows SET drawn = ? WHERE id = ?", (drawn + more, window))
    if order.close:
        db.execute("DELETE FROM leases WHERE holder = ? AND number = ?", (holder, order.number))
    else:
        db.execute(_LEASE, (holder, order.number, window, order.keep + more))
    grant = Grant(more, left - more)
    return grant if order.close or more >= order.needed else grant._replace(others=_others(db, holder, window, order))


def _others(db: Connection, holder: str, window: int, order: Order) -> tuple[Held, ...]:
    query = "SELECT holder, number, granted FROM leases WHERE window = ? AND holder != ?"
    rows = db.execute(query, (window, holder)).fetchall()
    return tuple(Held(row[0], row[1], order.meter, order.start, row[2]) for row in rows)


def _portion(order: Order, left: int, live: int) -> int:
    """Return how much is drawn of what is left."""
    if left < order.least or left <= 0:
        return 0
    return min(left, max(order.needed, min(order.most, left // (PORTION * live))))


def _window(db: Connection, order: Order) -> tuple[int, int]:
    """Return the id of a window and what is drawn from it, which is 0 if it is new."""
    key = (*order.meter, order.start)
    found = db.execute(_FIND, key).fetchone()
    if found is None:
        found = db.execute(_ADD, key).fetchall()[0]
        db.execute(_FORGET, (*order.meter, WINDOWS_KEPT, found[0]))
    return found[0], found[1]
