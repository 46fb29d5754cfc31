"""Answers that another model goes on with: what it is asked, and how it says that it won't."""

import re

import msgspec

from holdfast.chat import Message, Request, Text
from holdfast.errors import BadRequest, ProviderError

_REFUSED = re.compile(
    r"prefill|prefix|continue_final_message|add_generation_prompt|last (?:message|role)|final (?:message|assistant)"
    r"|(?:end|ends|ending) with (?:a |the )?(?:user|tool)|end with an? assistant|after the last assistant",
    re.IGNORECASE,
)


def continued(request: Request, said: str) -> Request:
    """Return a request that ends with what the assistant has said so far, after the caller's own beginning, if any."""
    messages = request.messages
    if not said:
        return request
    if messages and messages[-1].role == "assistant" and messages[-1].parts:
        *parts, last = messages[-1].parts
        if isinstance(last, Text):  # a model that is given "a " may go on with " b"
            said = (last.text.rstrip() if said[0].isspace() else last.text) + said
        else:
            parts.append(last)
        turn = msgspec.structs.replace(messages[-1], parts=(*parts, Text(text=said)))
        return msgspec.structs.replace(request, messages=(*messages[:-1], turn))
    turn = Message(role="assistant", parts=(Text(text=said),))
    return msgspec.structs.replace(request, messages=(*messages, turn))


def refuses_prefill(error: ProviderError) -> bool:
    """Whether a model says, in its provider's words, that it does not go on with what the assistant has said."""
    return isinstance(error, BadRequest) and _REFUSED.search(error.message) is not None
