"""The log of a gateway as tests read it: with the keys that its bodies are sealed with."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.custody import open_custody
from holdfast.privacy.settings import PrivacySettings


@contextmanager
def opened_log(state: Path) -> Iterator[SqliteLog]:
    """Open the log of a state directory to read it, while its gateway runs or after."""
    keeping = open_custody(PrivacySettings(), state, state, SystemClock())
    with closing(keeping.keyring), closing(SqliteLog.read(state / "log.db", keeping.sealer)) as log:
        yield log
