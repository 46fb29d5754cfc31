"""What a caller may call, and what of the calls it may see."""

from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from holdfast.errors import NotAllowed, UnknownModel
from holdfast.events import Call
from holdfast.gateway.access import LOCAL, Caller
from holdfast.gateway.catalog import Catalog
from holdfast.gateway.serving.pages.query import Bodies, CallsQuery, KeysQuery, SearchQuery, SpendQuery
from holdfast.gateway.serving.routes import AUDITORS, REVIEWERS
from holdfast.log.base import bodiless, silent
from holdfast.log.view import call_json
from holdfast.privacy.masking import masked

Q = TypeVar("Q", CallsQuery, SearchQuery, SpendQuery, KeysQuery)


def check_may_call(features: frozenset[str], name: str, catalog: Catalog) -> None:
    """Refuse what a key is not for, whether or not there is such a thing.

    Raises:
        NotAllowed: the key is not for it.
        UnknownModel: it is, but there is none of that name. Only what the key is for is named.
    """
    if name not in features:
        raise NotAllowed(f"This key may not call {name!r}. It may call: {', '.join(sorted(features))}.", param="model")
    if name not in catalog.features:
        raise unknown_model(name, features & catalog.features.keys())


def unknown_model(name: str, names: Iterable[str]) -> UnknownModel:
    """Return what is said of a name that is none of those which the caller may call."""
    known = ", ".join(sorted(names)) or "none"
    return UnknownModel(f"There is no feature or model {name!r}. Known: {known}.", param="model")


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


def narrowed(asked: Q, caller: Caller) -> Q:
    """Return a query for calls that finds only what a caller may see. Raises NotAllowed if it asks for others."""
    own = tenant_of(caller)
    if own is None:
        return asked
    if asked.tenant not in (None, own):
        raise NotAllowed(f"The role {caller.role} sees only the calls of its own tenant.", param="tenant")
    return replace(asked, tenant=own)


def bodies_for(caller: Caller, asked: Bodies | None) -> Bodies | None:
    """Return how a caller sees bodies who asked for them so; None: not at all.

    While there are no keys, they are shown as they are. Else that has to be asked for.

    Raises:
        NotAllowed: the role may not see what was asked for.
    """
    if caller.role == "auditor" and asked is None:
        return None
    if asked == "plain" and caller.role not in REVIEWERS:
        raise NotAllowed(f"The role {caller.role} sees no bodies in plain.", param="bodies")
    if caller.role == "auditor":
        raise NotAllowed("The role auditor sees no bodies.", param="bodies")
    return asked or ("plain" if caller is LOCAL else "masked")


def call_for(call: Call, bodies: Bodies | None) -> dict[str, Any]:
    """Return a call as JSON values, its bodies and all that may quote them shown in this way."""
    if bodies is None:
        return call_json(bodiless(silent(call)))
    return masked(call_json(call)) if bodies == "masked" else call_json(call)
