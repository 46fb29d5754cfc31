"""A contract as models are asked to keep it: by what their servers enforce, else in words."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from weakref import WeakKeyDictionary, ref

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
        self._contract = ref(contract)  # which keeps these terms, not they it
        self._format = format_of(contract)
        self._constrained: WeakKeyDictionary[Upstream, Constrained] = WeakKeyDictionary()
        self._words: dict[bool, tuple[Message, ...]] = {}
        self._length: float | None = None
        """How many characters an answer usually has that meets it."""

    @property
    def contract(self) -> Contract:
        contract = self._contract()
        assert contract is not None
        return contract

    def put(self, request: Request, model: Model, said: ResponseFormat | None = None) -> Request:
        """Return the request with the contract in it: as the model's server enforces it, else in words.

        `said` is how the caller said it, if the contract came with the call: it goes on as it came where it can.
        """
        format, constrained = said or self._format, self.constrained(model, said)
        wanted = constrained.format
        only_json = wanted is not None and format is not None and wanted.type == "json" != format.type
        unsure = said is None and not constrained.enforced and model.upstream.ignores
        request = self._tell(request, form=wanted is None or only_json or unsure)
        return request if wanted is request.response_format else replace(request, response_format=wanted)

    def _tell(self, request: Request, *, form: bool) -> Request:
        """Return the request with what must hold of the answer in words: all of it, or what no server enforces."""
        if (told := self._words.get(form)) is None:
            words = describe(self.contract, form=form)
            told = self._words[form] = (Message(role="system", parts=(Text(text=words),)),) if words else ()
        if not told:
            return request
        said = request.messages
        first = next((at for at, message in enumerate(said) if message.role != "system"), len(said))
        return replace(request, messages=(*said[:first], *told, *said[first:]))

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


_KNOWN: Final[WeakKeyDictionary[Contract, Terms]] = WeakKeyDictionary()


def terms_of(contract: Contract) -> Terms:
    """Return the terms of a contract, the same as long as it is in use."""
    if (terms := _KNOWN.get(contract)) is None:
        terms = _KNOWN[contract] = Terms(contract)
    return terms


@lru_cache(maxsize=256)
def warn_of_ignored(model: str, keyword: str) -> None:
    """Say once that a server ignores what it was asked to enforce."""
    logger.warning("the server of %s accepted a contract and did not keep it: its answer violates %r", model, keyword)
