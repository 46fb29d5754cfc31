"""The state directory of a test's own folder, filled as a gateway fills it."""

from pathlib import Path
from typing import Any

from holdfast.clock import SystemClock
from holdfast.log.sqlite import SqliteLog
from holdfast.privacy.custody import open_custody
from holdfast.privacy.settings import PrivacySettings

STATE = Path(".holdfast")


def log_calls(*calls: Any, seal: bool = True) -> None:
    """Record calls, sealed or not, in the log of the current folder."""
    keeping = open_custody(PrivacySettings(), Path(), STATE, SystemClock())
    log = SqliteLog(STATE / "log.db", sealer=keeping.sealer if seal else None)
    log.append(calls)
    log.close()
    keeping.keyring.close()
