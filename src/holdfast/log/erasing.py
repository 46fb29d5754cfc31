"""The erasure of a subject's calls, until no trace of them is left in the file.

SQLite overwrites what is deleted, but not what it moves: when a page is divided or joined with another, copies of rows
may stay in what becomes free, and outlive the rows. So the file is searched after an erasure. Where something is left,
the indexes are built anew, which is where nearly all such copies are, and only if that is not enough the whole file.
"""

import os
import sqlite3
from collections.abc import Sequence
from typing import Final

from holdfast.log.base import Pause

CHUNK_BYTES: Final = 2**20
_SHORTEST: Final = 12
"""Characters of a session that is searched for: shorter ones are found everywhere."""
_MOST_SESSIONS: Final = 100

_BLOCKS = "DELETE FROM body_blocks WHERE number IN (SELECT block FROM call_rows WHERE subject = ?)"
_ATTEMPTS = "DELETE FROM other_attempts WHERE call IN (SELECT seq FROM call_rows WHERE subject = ?)"
_CALLS = "DELETE FROM call_rows WHERE subject = ?"
_SESSIONS = """
    SELECT DISTINCT session FROM call_rows AS r WHERE subject = ?1 AND length(session) >= ?2 AND NOT EXISTS (
        SELECT 1 FROM call_rows AS other WHERE other.session = r.session AND other.subject IS NOT ?1
    ) LIMIT ?3
"""
CURES: Final = (("REINDEX calls_subject", "REINDEX calls_session"), ("VACUUM",))
"""What removes copies, the cheaper first."""


def erase(db: sqlite3.Connection, subject: str) -> tuple[int, Sequence[bytes]]:
    """Delete the calls of a subject, within a transaction of the caller.

    Return how many there were, and what would be a trace of them: the subject, and the sessions that were its alone.
    """
    sessions = [row[0] for row in db.execute(_SESSIONS, (subject, _SHORTEST, _MOST_SESSIONS))]
    db.execute(_BLOCKS, (subject,))
    db.execute(_ATTEMPTS, (subject,))
    erased = db.execute(_CALLS, (subject,)).rowcount
    return erased, [text.encode() for text in (subject, *sessions) if len(text) >= _SHORTEST]


def holds(descriptor: int, traces: Sequence[bytes], pause: Pause) -> bool:
    """Whether an open file holds one of these texts."""
    overlap, offset = max(map(len, traces), default=1) - 1, 0
    while chunk := os.pread(descriptor, CHUNK_BYTES + overlap, offset):
        if any(trace in chunk for trace in traces):
            return True
        offset += CHUNK_BYTES
        pause()
    return False
