"""How a server of this wire is told to go on with the last message, which is the assistant's.

The API itself has no words for it, so every provider has words of its own; without a quirk nothing is said, as
llama.cpp and Groq want it. Sources: docs.mistral.ai/capabilities/completion, api-docs.deepseek.com/guides/
chat_prefix_completion, platform.moonshot.ai/docs/guide/use-partial-mode-feature-of-kimi-api, docs.vllm.ai (chat API).
"""

from typing import Any, Final

import msgspec

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(dict[str, Any])
_ENCODER = msgspec.json.Encoder()

_MARKS: Final = ("prefix", "partial")
"""Quirks that are a field of the last message by the same name."""


def ask_to_continue(body: bytes, quirks: frozenset[str]) -> bytes:
    """Return the body of a request with what makes the server go on with its last message."""
    marks = {mark: True for mark in _MARKS if mark in quirks}
    final = "continue_final_message" in quirks
    if not marks and not final:
        return body
    fields: dict[str, Any] = dict(_FIELDS.decode(body))
    if marks:
        *messages, last = _MESSAGES.decode(fields["messages"])
        fields["messages"] = [*messages, _MESSAGE.decode(last) | marks]
    if final:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    return _ENCODER.encode(fields)


def prefill_url(base_url: str, quirks: frozenset[str]) -> str:
    """Return the base URL where the server continues answers: DeepSeek does so only at /beta."""
    if "beta" in quirks and base_url in ("https://api.deepseek.com/v1", "https://api.deepseek.com"):
        return "https://api.deepseek.com/beta"
    return base_url
