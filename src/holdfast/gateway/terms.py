"""A contract as models are asked to keep it: by what their servers enforce, else in words."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from holdfast.chat import Message, Request, ResponseFormat, Text
from holdfast.contracts.base import Contract, Violation
from holdfast.contracts.reask import describe
from holdfast.contracts.requested import format_of
from holdfast.gateway.catalog import Model
from holdfast.gateway.record import tokens
from holdfast.providers.base import Constrained, Upstream

RECENT: Final = 0.1
"""The weight of the last answer in what is usual."""

logger = logging.getLogger(__name__)


class Terms:
    """A contract, and how each model can be asked to keep it."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self._format = format_of(contract)
        self._constrained: WeakKeyDictionary[Upstream, Constrained] = WeakKeyDictionary()
        self._length: float | None = None
        """How many characters an answer usually has that meets it."""

    def put(self, request: Request, model: Model, said: ResponseFormat | None = None) -> Request:
        """Return the request with the contract in it: as the model's server enforces it, else in words.

        `said` is how the caller said it, if the contract came with the call: it goes on as it came where it can.
        """
        format = said or self._format
        if format is None:
            return _told(request, self.contract)
        wanted = self.constrained(model, said).format
        if wanted is None or (wanted.type == "json" and format.type == "schema"):  # which says nothing of the schema
            request = _told(request, self.contract)
        return request if wanted is request.response_format else replace(request, response_format=wanted)

    def constrained(self, model: Model, said: ResponseFormat | None = None) -> Constrained:
        """Return what the model's server enforces of the contract, and what only the check does."""
        if said is not None:
            return model.upstream.constrain(said)
        found = self._constrained.get(model.upstream)
        if found is None:
            found = Constrained(format=None) if self._format is None else model.upstream.constrain(self._format)
            self._constrained[model.upstream] = found
        return found

    def met(self, length: int) -> None:
        """Note how long an answer was that met it."""
        self._length = length if self._length is None else self._length + RECENT * (length - self._length)

    def left(self, said: str) -> int:
        """Return about how many tokens an answer would have gone on for, after so much of it."""
        return 0 if self._length is None else tokens(max(0, int(self._length) - len(said)))

    def ignored(
        self, model: Model, violations: Sequence[Violation], said: ResponseFormat | None = None
    ) -> Violation | None:
        """Return what the server has let pass although it had accepted to enforce it."""
        constrained = self.constrained(model, said)
        checked = {keyword.keyword for keyword in constrained.checked}
        enforced = {keyword.keyword for keyword in constrained.enforced} - checked
        if enforced and self.contract.is_json:
            enforced.add("json")
        return next((violation for violation in violations if violation.keyword in enforced), None)


terms_of = lru_cache(maxsize=512)(Terms)
"""The terms of a contract, the same as long as it is in use."""


def _told(request: Request, contract: Contract) -> Request:
    """Return a request that tells the model in words what its answer must look like."""
    words = describe(contract)
    if not words:
        return request
    first = next((at for at, message in enumerate(request.messages) if message.role != "system"), len(request.messages))
    message = Message(role="system", parts=(Text(text=words),))
    return replace(request, messages=(*request.messages[:first], message, *request.messages[first:]))


@lru_cache(maxsize=256)
def warn_of_ignored(model: str, keyword: str) -> None:
    """Say once that a server ignores what it was asked to enforce."""
    logger.warning("the server of %s accepted a contract and did not keep it: its answer violates %r", model, keyword)
