"""Which contracts bind a call: that of its feature, and those that came with it."""

from typing import Final

from holdfast.chat import Request, ResponseFormat
from holdfast.contracts.base import Contract
from holdfast.contracts.forms.schema import JsonForm
from holdfast.contracts.requested import arguments_of, at_hand, requested
from holdfast.errors import InvalidRequest
from holdfast.gateway.answers.follower import aside
from holdfast.gateway.answers.judge import Judge
from holdfast.gateway.record import Arrival
from holdfast.providers.base import Source

WITH_THE_CALL: Final = "request"
"""The name of a contract that came with the call."""


async def judge_of(own: Contract | None, arrival: Arrival, reask_tokens: int) -> Judge | None:
    """Return what judges the answers of a call, by the contract of its feature and those that came with it.

    Raises:
        InvalidRequest: a schema that came with the call can't be used.
    """
    request, source = arrival.request, arrival.source
    assert isinstance(request, Request)
    format = request.response_format
    if format is not None and format.type == "text":
        format = None
    if own is None and arrival.returns is None and format is None and not request.tools:
        return None
    if at_hand(format, _raw(source), request.tools):
        return _judge(own, arrival, format, reask_tokens)
    return await aside(_judge, own, arrival, format, reask_tokens)


def _judge(own: Contract | None, arrival: Arrival, format: ResponseFormat | None, reask_tokens: int) -> Judge | None:
    request, source, returns = arrival.request, arrival.source, arrival.returns
    assert isinstance(request, Request)
    came = None
    if format is not None:
        try:
            came = requested(format, _raw(source))
        except InvalidRequest as error:
            raise _as_written(error, source) from error
        if request.stream and came is not None and isinstance(came.form, JsonForm):
            came.form.subschemas.validators(())  # which compiles them all, and not when the answer begins
    contracts = [contract for contract in (own, came, returns) if contract is not None]
    strict = [tool for tool in request.tools if tool.strict]
    tools = {tool.name: contract for tool in strict if (contract := arguments_of(tool)) is not None}
    if not contracts and not tools:
        return None
    name = WITH_THE_CALL if own is None else own.name
    said = None if own is not None or came is None else format
    offers = bool(request.tools) or "functions" in request.extra
    return Judge(contracts, tools, name=name, said=said, reask_tokens=reask_tokens, offers=offers)


def _raw(source: Source | None) -> bytes | None:
    """Return the bytes that the format of the answer came in, None where they are not at hand."""
    raw = None if source is None else source.fields.get("response_format")
    return None if raw is None else bytes(raw)


def _as_written(error: InvalidRequest, source: Source | None) -> InvalidRequest:
    """Name the schema at fault as the caller's wire does."""
    if source is None or source.wire != "anthropic" or error.param is None:
        return error
    name = "output_format.schema" if "output_format" in source.fields else "output_config.format.schema"
    return InvalidRequest(error.message.replace(error.param, name, 1), param=name)
