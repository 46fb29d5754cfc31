"""Fields of requests that a wire has for itself.

To a model on another wire they mean nothing, or something else, and most servers refuse what they don't know.
"""

from typing import Final

from holdfast.providers.base import Wire

_FIELDS: Final[dict[Wire, frozenset[str]]] = {
    "openai": frozenset(  # and of those who speak its wire
        {
            *("audio", "chat_template_kwargs", "function_call", "functions", "include_reasoning", "logit_bias"),
            *("logprobs", "max_completion_tokens", "metadata", "modalities", "moderation", "parallel_tool_calls"),
            *("prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning"),
            *("reasoning_effort", "safety_identifier", "service_tier", "store", "stream_options", "user", "verbosity"),
            "web_search_options",
        }
    ),
    "anthropic": frozenset(
        {
            *("anthropic_beta", "anthropic_version", "betas", "cache_control", "container", "context_management"),
            *("inference_geo", "mcp_servers", "metadata", "output_config", "output_format", "service_tier", "speed"),
            *("stop_sequences", "system", "thinking", "user_profile_id"),
        }
    ),
    "google": frozenset(
        {
            *("cachedContent", "cached_content", "contents", "generationConfig", "generation_config", "labels"),
            *("safetySettings", "safety_settings", "serviceTier", "store", "systemInstruction", "system_instruction"),
            *("toolConfig", "tool_config"),
        }
    ),
}


def private_to_others(wire: Wire) -> frozenset[str]:
    """Return the fields that other wires than this have for themselves, some of which it has as well."""
    return frozenset().union(*[fields for other, fields in _FIELDS.items() if other != wire])
