"""Calls without the words of those who asked and answered."""

from typing import Any

import msgspec
from msgspec import structs

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply
from holdfast.events import Call, Repair
from holdfast.log.view import call_json
from holdfast.privacy.masking import masked


def mask_call(call: Call) -> Call:
    """Return a call as it looks when all that a person or a model wrote is masked: see `privacy.masking.masked`."""
    call = structs.replace(call, reply=_without_tokens(call.reply))
    shown = masked(call_json(call))
    messages = [attempt["message"] for attempt in shown["attempts"]]
    return structs.replace(
        call,
        message=shown["message"],
        attempts=tuple(
            [
                structs.replace(attempt, message=message)
                for attempt, message in zip(call.attempts, messages, strict=True)
            ]
        ),
        request=_request(call, shown.get("request")),
        reply=None if call.reply is None else msgspec.convert(shown["reply"], type(call.reply)),
        ledger=msgspec.convert(shown.get("ledger", ()), tuple[Repair, ...]),
    )


def _request(call: Call, shown: Any) -> Any:
    if isinstance(call.request, EmbeddingRequest):
        return EmbeddingRequest(input=tuple(shown["input"]), model=call.request.model)
    return None if call.request is None else msgspec.convert(shown, type(call.request))


def _without_tokens(reply: Reply | EmbeddingReply | None) -> Reply | EmbeddingReply | None:
    """Leave out the tokens with their log-probabilities, which would say the answer again and are not shown."""
    if not isinstance(reply, Reply):
        return reply
    return structs.replace(reply, choices=tuple([structs.replace(choice, logprobs=None) for choice in reply.choices]))
