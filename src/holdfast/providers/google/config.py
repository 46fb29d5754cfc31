"""How an answer is to be made: generationConfig, toolConfig and schemas of the Gemini wire, and back.

Gemini models up to 2.5 think by a budget of tokens, later ones by a level; on those, thinking can't be switched off.
"""

import re
from typing import Any, Final, cast

from holdfast.chat import Effort, Request, ResponseFormat, ToolChoice
from holdfast.errors import BadRequest
from holdfast.providers.decoding import Malformed
from holdfast.providers.google.wire import FunctionCallingConfig, GenerationConfig, Json, ThinkingConfig

FIELDS: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "n", "presence_penalty", "frequency_penalty"),
    *("top_logprobs", "response_format", "reasoning_effort", "reasoning_tokens"),
)
"""The fields of a request that this wire says in `generationConfig`."""
KNOWN: Final = frozenset(GenerationConfig.__struct_encode_fields__)

_NUMBERS: Final = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_VERSION = re.compile(r"gemini-(?:[a-z]+-)*(\d+)")
_LEVELS: Final = {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium"} | dict.fromkeys(
    ("high", "xhigh"), "high"
)
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
_JSON = "application/json"


# --- to the wire ------------------------------------------------------------------------------------------------------


def encode_config(request: Request, model: str) -> Json:
    """Return the generationConfig of a request."""
    values = ((name, getattr(request, field)) for field, name in _NUMBERS.items())
    config: Json = {name: value for name, value in values if value is not None}
    if request.n != 1:
        config["candidateCount"] = request.n
    if request.stop:
        config["stopSequences"] = request.stop
    if request.top_logprobs is not None:
        config["responseLogprobs"] = True
        if request.top_logprobs:
            config["logprobs"] = request.top_logprobs
    if request.response_format is not None:
        config |= _encode_format(request.response_format)
    if (thinking := _encode_thinking(request, model)) is not None:
        config["thinkingConfig"] = thinking
    return config


def _encode_format(format: ResponseFormat) -> Json:
    if format.type == "text":
        return {"responseMimeType": "text/plain"}
    if format.type == "choice":
        return {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": format.choices}}
    if format.type in ("pattern", "grammar"):
        raise BadRequest(f"The google wire has no words for a {format.type}.", param="response_format")
    if format.schema is None:
        return {"responseMimeType": _JSON}
    return {"responseMimeType": _JSON, "responseJsonSchema": format.schema}


def _encode_thinking(request: Request, model: str) -> Json | None:
    """A budget is more exact than a word for one, and the wire takes only either."""
    effort, budget = request.reasoning_effort, request.reasoning_tokens
    if budget is None and effort is not None and (version(model) or 3) < 3:
        budget = _BUDGETS[effort]
    if budget is not None:
        return {"thinkingBudget": budget} | ({"includeThoughts": True} if budget else {})
    if effort is None:
        return None
    level = _LEVELS[effort]
    if level == "minimal" and "-pro" in model:
        level = "low"
    return {"thinkingLevel": level, "includeThoughts": True}


def version(model: str) -> int | None:
    """Return the generation of a Gemini model, None where its name does not tell."""
    match = _VERSION.search(model)
    return int(match[1]) if match is not None else None


def encode_choice(choice: ToolChoice) -> Json:
    """Return the toolConfig of a choice."""
    config: Json = {"mode": _MODES[choice.mode]}
    if choice.mode == "named":
        config["allowedFunctionNames"] = [choice.name]
    return {"functionCallingConfig": config}


# --- from the wire ----------------------------------------------------------------------------------------------------


def decode_config(config: GenerationConfig) -> Json:
    """Return the fields of a request that a generationConfig says. Raises Malformed."""
    fields = {field: getattr(config, field) for field in ("temperature", "top_p", "seed")}
    thinking = config.thinking_config or ThinkingConfig()
    return fields | {
        "max_tokens": config.max_output_tokens,
        "top_k": _whole(config.top_k),
        "stop": tuple(config.stop_sequences or ()),
        "n": config.candidate_count or 1,
        "presence_penalty": config.presence_penalty,
        "frequency_penalty": config.frequency_penalty,
        "top_logprobs": (config.logprobs or 0) if config.response_logprobs else None,
        "response_format": _decode_format(config),
        "reasoning_effort": _decode_effort(thinking),
        "reasoning_tokens": thinking.thinking_budget if (thinking.thinking_budget or 0) > 0 else None,
    }


def _whole(number: float | None) -> int | None:
    if number is not None and number != int(number):
        raise Malformed("generationConfig.topK", f"Expected a whole number, got {number}")
    return None if number is None else int(number)


def _decode_format(config: GenerationConfig) -> ResponseFormat | None:
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema)
    if config.response_mime_type == _JSON:
        return ResponseFormat(type="json" if schema is None else "schema", schema=schema)
    if schema is not None and config.response_mime_type != "text/x.enum":
        raise Malformed("generationConfig.responseMimeType", f"A response schema needs the type {_JSON!r}")
    return ResponseFormat(type="text") if config.response_mime_type == "text/plain" else None


def _decode_effort(thinking: ThinkingConfig) -> Effort | None:
    if thinking.thinking_budget == 0:
        return "none"
    level = (thinking.thinking_level or "").lower()
    if level in ("", "thinking_level_unspecified"):
        return None
    if level not in ("minimal", "low", "medium", "high"):
        raise Malformed("generationConfig.thinkingConfig.thinkingLevel", f"Invalid value: {thinking.thinking_level!r}")
    return cast("Effort", level)


def unknown_config(raw: Json) -> Json:
    """Return what a generationConfig says beyond the fields of a request."""
    rest = {name: value for name, value in raw.items() if name not in KNOWN}
    if raw.get("responseMimeType") not in (None, _JSON, "text/plain"):
        rest |= {name: raw[name] for name in ("responseMimeType", "responseSchema") if name in raw}
    thinking = raw.get("thinkingConfig") or {}
    kept = dict(thinking)
    asks = (thinking.get("thinkingBudget") or 0) > 0 or bool(thinking.get("thinkingLevel"))
    if (thinking.get("includeThoughts") or False) == asks:
        kept.pop("includeThoughts", None)
    elif asks:
        kept["includeThoughts"] = False
    if thinking.get("thinkingBudget") != -1:
        kept.pop("thinkingBudget", None)
    kept.pop("thinkingLevel", None)
    return rest | ({"thinkingConfig": kept} if kept else {})


def decode_choice(config: FunctionCallingConfig | None) -> ToolChoice | None:
    """Return the choice nearest to a functionCallingConfig. Raises Malformed."""
    mode, names = (config.mode or "", config.allowed_function_names or []) if config is not None else ("", [])
    match mode.upper():
        case "" | "MODE_UNSPECIFIED":
            return None
        case "AUTO" | "VALIDATED":
            return ToolChoice(mode="auto")
        case "NONE":
            return ToolChoice(mode="none")
        case "ANY":
            return ToolChoice(mode="named", name=names[0]) if len(names) == 1 else ToolChoice(mode="required")
    raise Malformed("toolConfig.functionCallingConfig.mode", f"Invalid value: {mode!r}")


# --- schemas ----------------------------------------------------------------------------------------------------------

_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})


def json_schema(schema: Json) -> Json:
    """Return the JSON Schema of a Schema, Google's selection of OpenAPI 3.0."""
    result: Json = {}
    for name, value in schema.items():
        if name == "properties" and isinstance(value, dict):
            result[name] = {key: _inner(inner) for key, inner in value.items()}
        elif name == "type" and isinstance(value, str):
            result[name] = value.lower()
        elif name in _COUNTS and isinstance(value, str) and value.isdecimal():
            result[name] = int(value)
        elif name == "example":
            result["examples"] = [value]
        elif name == "anyOf" and isinstance(value, list):
            result[name] = [_inner(inner) for inner in value]
        elif name not in ("nullable", "propertyOrdering"):
            result[name] = _inner(value)
    if schema.get("nullable") is True and "type" in result:
        result["type"] = [result["type"], "null"]
    return result


def _inner(value: Any) -> Any:
    return json_schema(value) if isinstance(value, dict) else value
