"""What a caller may call, and what of the calls it may see."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from holdfast.errors import NotAllowed, UnknownModel
from holdfast.gateway.access import Caller
from holdfast.gateway.catalog import Catalog
from holdfast.gateway.serving.routes import AUDITORS
from holdfast.log.base import Filter

BODIES: Final = ("request", "reply", "ledger")
"""What of a call are words of its caller and of models..."""
WORDS: Final = ("message",)
"""...and what may quote them."""


def check_may_call(features: frozenset[str], name: str, catalog: Catalog) -> None:
    """Refuse what a key is not for, whether or not there is such a thing.

    Raises:
        NotAllowed: the key is not for it.
        UnknownModel: it is, but there is none of that name. Only what the key is for is named.
    """
    if name not in features:
        raise NotAllowed(f"This key may not call {name!r}. It may call: {', '.join(sorted(features))}.", param="model")
    if name not in catalog.features:
        known = ", ".join(sorted(features & catalog.features.keys())) or "none"
        raise UnknownModel(f"There is no feature or model {name!r}. Known: {known}.", param="model")


def callable_by(caller: Caller | None, names: Iterable[str]) -> list[str]:
    """Return those of the names that a caller may call."""
    features = None if caller is None else caller.features
    return [name for name in names if features is None or name in features]


def tenant_of(caller: Caller) -> str | None:
    """Return the tenant whose calls a caller may see; None: those of all."""
    if caller.role in AUDITORS:
        return None
    if caller.tenant is None:
        raise NotAllowed(f"The role {caller.role} sees the calls of one tenant, and this caller is of none.")
    return caller.tenant


def narrowed(filter: Filter, caller: Caller) -> Filter:
    """Return a filter that finds only what a caller may see. Raises NotAllowed if another tenant is asked for."""
    own = tenant_of(caller)
    if own is None:
        return filter
    if filter.tenant not in (None, own):
        raise NotAllowed(f"The role {caller.role} sees only the calls of its own tenant.", param="tenant")
    return replace(filter, tenant=own)
