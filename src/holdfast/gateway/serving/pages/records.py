"""What the pages about calls and keys write into the audit trail, and in whose name."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from holdfast.errors import PrivacyError, Saturated
from holdfast.gateway.access import Caller
from holdfast.gateway.serving.routes import Query
from holdfast.privacy.audit.trail import Trail
from holdfast.state.accounts import Accounts
from holdfast.state.keys import Keys

RETRY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Custody(msgspec.Struct, frozen=True):
    """What the pages need that are about keys, accounts and the audit trail. The methods of all of it block."""

    keys: Keys
    accounts: Accounts
    trail: Trail
    refresh: Callable[[], Awaitable[None]]
    """Makes the keys and sessions that there are known to this process."""
    spread_s: float = 0.3
    """How long it takes until all other processes know of them too."""

    async def record(self, actor: str, action: str, **details: Any) -> None:
        """Record that something is about to be done.

        Raises:
            Saturated: it can't be recorded, so it may not be done.
        """
        try:
            await asyncio.to_thread(self.trail.append, actor, action, **details)
        except PrivacyError as error:
            logger.error("%s by %s is refused, as it can't be recorded: %s", action, actor, error.message)
            raise Saturated(
                "What you ask for is recorded in the audit trail, which can't be written at the moment.",
                retry_after=RETRY_SECONDS,
            ) from error


def known(query: Query) -> Caller:
    """Return who asks for a page that is not public."""
    assert query.caller is not None
    return query.caller


def actor(caller: Caller) -> str:
    """Return the name of a caller in the audit trail: "key:hf_ab12cd34", "account:anna"."""
    if caller.key is not None:
        return f"key:{caller.key}"
    return "local" if caller.account is None else f"account:{caller.account}"
