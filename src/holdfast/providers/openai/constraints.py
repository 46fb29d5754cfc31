"""Formats of an answer as the servers of this wire are told of them, each by fields of its own."""

from holdfast.chat import ResponseFormat
from holdfast.errors import BadRequest
from holdfast.providers.dialects.regular import gbnf_of_choices, gbnf_of_pattern, pattern_of_choices, plain
from holdfast.providers.dialects.servers import Server, how
from holdfast.providers.openai.writing import Json, write_format


def write_constraint(format: ResponseFormat, server: Server) -> Json:
    """Return the fields of a request that ask for a format. Raises BadRequest where the server has none."""
    if format.type in ("text", "json", "schema"):
        if server.says_json == "tgi" and format.type != "text":
            schema = {"type": "object"} if format.type == "json" else format.schema
            return {"response_format": {"type": "json", "value": schema}}
        return {"response_format": write_format(format)}
    match how(format, server):
        case "structured_outputs":
            return {"structured_outputs": _of_vllm(format)}
        case "regex":
            return {"regex": _pattern(format)}
        case "regex_value":
            return {"response_format": {"type": "regex", "value": _pattern(format)}}
        case "regex_pattern":
            return {"response_format": {"type": "regex", "pattern": _pattern(format)}}
        case "gbnf_field":
            return {"grammar": _gbnf(format)}
        case "gbnf_format":
            return {"response_format": {"type": "grammar", "grammar": _gbnf(format)}}
    raise BadRequest(f"This server can't be held to a {format.type}.", param="response_format")


def _of_vllm(format: ResponseFormat) -> Json:
    if format.type == "pattern":
        return {"regex": _pattern(format)}
    return {"choice": format.choices} if format.type == "choice" else {"grammar": format.grammar}


def _pattern(format: ResponseFormat) -> str:
    """Return a regular expression of the whole answer. Some engines know no anchors, so there are none."""
    return pattern_of_choices(format.choices) if format.type == "choice" else plain(format.pattern or "") or ""


def _gbnf(format: ResponseFormat) -> str:
    return gbnf_of_choices(format.choices) if format.type == "choice" else gbnf_of_pattern(format.pattern or "") or ""
