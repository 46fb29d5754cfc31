"""What each server can be asked to enforce, by its own documentation, and what a constraint becomes there."""

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from holdfast.chat import ResponseFormat
from holdfast.providers.dialects.dialect import Constrained, Dialect, Json, Keyword, keywords
from holdfast.providers.dialects.narrowing import Unsuited, is_object, narrowed
from holdfast.providers.dialects.regular import gbnf_of_pattern, plain

How = Literal["structured_outputs", "regex", "regex_value", "regex_pattern", "gbnf_field", "gbnf_format", "enum"]
"""How a text is constrained on the wire:

- "structured_outputs": a field of vLLM's;
- "regex": SGLang's field, "regex_value" and "regex_pattern": the `response_format` of TGI and of Together;
- "gbnf_field": llama.cpp's field `grammar`, "gbnf_format": Fireworks' `response_format`;
- "enum": Gemini's `text/x.enum`.
"""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a server can be asked to enforce, and how it is said."""

    dialect: Dialect | None = None
    """None: no schema is known to be enforced."""
    strict: bool = False
    """Whether a schema is enforced only where `strict` is true."""
    unsuited: Literal["schema", "json", "nothing"] = "nothing"
    """What is asked for where a schema can't be enforced: the schema, as a hint; any JSON object; nothing."""
    json: Literal["enforced", "sent", "unknown"] = "unknown"
    """Whether any JSON object can be asked for: "unknown" does not have it."""
    pattern: How | None = None
    choice: How | None = None
    grammar: Literal["structured_outputs"] | None = None
    says_json: Literal["openai", "tgi"] = "openai"
    """How a schema stands in `response_format`."""


UNKNOWN: Final = Server(unsuited="schema", json="sent")
"""A server of which nothing is known: it is asked, and nothing is relied upon."""
NOTHING: Final = Server()
"""A server that can't be asked for anything."""


def constrained(format: ResponseFormat, server: Server) -> Constrained:
    """Return what a server makes of a format. Never raises."""
    match format.type:
        case "text":
            return Constrained(format=format)
        case "json":
            return _json(format, server)
        case "schema":
            return _schema(format, server)
    return _text(format, server)


def _json(format: ResponseFormat, server: Server) -> Constrained:
    whole = (Keyword("", "json"),)
    if server.json == "enforced":
        return Constrained(format=format, enforced=whole)
    return Constrained(format=format if server.json == "sent" else None, checked=whole)


def _text(format: ResponseFormat, server: Server) -> Constrained:
    whole = (Keyword("", format.type),)
    if how(format, server) is None:
        return Constrained(format=None, checked=whole)
    return Constrained(format=format, enforced=whole)


def how(format: ResponseFormat, server: Server) -> How | None:
    """Return how a server is told of a pattern, choices or a grammar; None where it can't be."""
    if format.type == "grammar":
        return server.grammar
    if format.type == "choice":
        return server.choice if format.choices else None
    if format.pattern is None or server.pattern is None:
        return None
    if server.pattern in ("gbnf_field", "gbnf_format"):
        return server.pattern if gbnf_of_pattern(format.pattern) is not None else None
    return server.pattern if plain(format.pattern) is not None else None


def _schema(format: ResponseFormat, server: Server) -> Constrained:
    schema = format.schema or {}
    if server.strict and format.strict is False:  # the caller wants no more than a hint
        return Constrained(format=format, checked=keywords(schema))
    if server.dialect is None:
        return _unsuited(format, server)
    try:
        found = narrowed(schema, server.dialect)
    except Unsuited as problem:
        return _unsuited(format, server, str(problem))
    except RecursionError:
        return _unsuited(format, server, "it is nested too deeply")
    if not found.enforced:
        return _unsuited(format, server)
    strict = server.strict or format.strict
    same = found.schema is schema and strict == format.strict and server.says_json == "openai"
    asked = format if same else replace(format, schema=found.schema, strict=strict)
    return Constrained(format=asked, enforced=found.enforced, checked=found.checked)


def _suits(schema: Json) -> bool:
    """Whether a schema is one that the strictest known server takes as it is."""
    try:
        return narrowed(schema, _OPENAI).schema is schema
    except (Unsuited, RecursionError):
        return False


def _unsuited(format: ResponseFormat, server: Server, reason: str | None = None) -> Constrained:
    """Ask for what comes nearest, and rely on nothing."""
    schema = format.schema or {}
    asked: ResponseFormat | None = None
    if server.unsuited == "schema" and not (server.strict and not is_object(schema)):
        strict = False if server.strict else format.strict
        if strict and server.dialect is None and not _suits(schema):  # it may be OpenAI's, which refuses what it lacks
            strict = None
        asked = format if strict == format.strict else replace(format, strict=strict)
    elif server.unsuited == "json" and is_object(schema):
        asked = ResponseFormat(type="json")
    return Constrained(format=asked, checked=keywords(schema), reason=reason)


# --- dialects ---------------------------------------------------------------------------------------------------------

_NUMERIC: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_LENGTHS: Final = frozenset({"minLength", "maxLength"})
_COUNTS: Final = frozenset({"minItems", "maxItems"})
_GENERAL: Final = frozenset({"type", "enum", "const", "anyOf", "$ref"})
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

_STRICT: Final = Dialect(
    general=_GENERAL,
    closing="must",
    all_required=True,
    all_typed=True,
    object_root=True,
)
_OPENAI: Final = replace(  # platform.openai.com/docs/guides/structured-outputs
    _STRICT,
    array=frozenset({"items", *_COUNTS}),
    string=frozenset({"pattern", "format"}),
    integer=_NUMERIC | {"multipleOf"},
    number=_NUMERIC | {"multipleOf"},
    formats=_FORMATS,
    max_properties=5_000,
    max_depth=10,
    max_enum=1_000,
)
_TUNED: Final = replace(  # the same, of fine-tuned models
    _OPENAI, array=frozenset({"items"}), string=frozenset(), integer=frozenset(), number=frozenset()
)
_AZURE: Final = replace(  # learn.microsoft.com/azure/ai-services/openai/how-to/structured-outputs
    _STRICT, max_properties=100, max_depth=5, max_enum=500
)
_GROQ: Final = replace(_STRICT, general=frozenset({"type", "enum", "anyOf", "$ref"}))
_CEREBRAS: Final = replace(  # inference-docs.cerebras.ai/capabilities/structured-outputs
    _STRICT,
    general=frozenset({"type", "enum", "anyOf", "$ref"}),
    type_lists=False,
    recursion=False,
    max_properties=500,
    max_depth=10,
    max_enum=500,
    max_branches=5,
    max_bytes=5_000,
)
_CLAUDE: Final = Dialect(  # platform.claude.com/docs/en/build-with-claude/structured-outputs
    general=_GENERAL,
    array=frozenset({"items", "minItems"}),
    string=frozenset({"format"}),
    formats=_FORMATS | {"uri"},
    most={"minItems": 1},
    closing="must",
    recursion=False,
    tells=True,
    max_optional=24,
    max_unions=16,
)
CLAUDE_TOOL: Final = Dialect(  # ditto/agents-and-tools/tool-use: an input_schema that is not strict, and so is a hint
    general=_GENERAL,
    object=frozenset({"properties", "required", "additionalProperties", "minProperties", "maxProperties"}),
    array=frozenset({"items", "prefixItems", *_COUNTS}),
    string=_LENGTHS | {"pattern", "format"},
    integer=_NUMERIC | {"multipleOf"},
    number=_NUMERIC | {"multipleOf"},
    formats=_FORMATS | {"uri"},
    object_root=True,
    one_of_string=False,
    schema_of_others=True,
)
_GEMINI: Final = Dialect(  # ai.google.dev/api/generate-content: responseJsonSchema
    array=frozenset({"items", "prefixItems", *_COUNTS}),
    string=frozenset({"format"}),
    integer=frozenset({"minimum", "maximum"}),
    number=frozenset({"minimum", "maximum"}),
    formats=frozenset({"date-time", "date", "time"}),
    enum_types=frozenset({"string", "number", "integer"}),
    recursion=False,
    schema_of_others=True,
)
_XGRAMMAR: Final = Dialect(  # of vLLM and SGLang, unless they were started with another: what both of theirs enforce
    general=_GENERAL,
    array=frozenset({"items", *_COUNTS}),
    string=_LENGTHS | {"pattern", "format"},
    integer=_NUMERIC,
    number=_NUMERIC,
    formats=_FORMATS,
    closing="silently",
    schema_of_others=True,
)
_LLAMACPP: Final = Dialect(  # github.com/ggml-org/llama.cpp/tree/master/grammars
    general=_GENERAL,
    array=frozenset({"items", *_COUNTS}),
    string=_LENGTHS | {"pattern", "format"},
    integer=_NUMERIC,
    formats=frozenset({"date", "time", "date-time", "uuid"}),
    closing="silently",
    schema_of_others=True,
)
_OUTLINES: Final = Dialect(  # huggingface.co/docs/text-generation-inference/conceptual/guidance
    general=_GENERAL,
    array=frozenset({"items", *_COUNTS}),
    string=_LENGTHS,
    closing="silently",
    recursion=False,
)
_XAI: Final = Dialect(  # docs.x.ai/developers/model-capabilities/text/structured-outputs
    general=_GENERAL,
    string=frozenset({"format"}),
    formats=frozenset({"date", "time", "date-time", "email", "uuid", "ipv4"}),
    closing="silently",
    recursion=False,
)
_FIREWORKS: Final = Dialect(  # docs.fireworks.ai/structured-responses/structured-response-formatting
    general=frozenset({"type", "anyOf", "$ref"}),
    closing="silently",
)
_ASSUMED: Final = Dialect(  # of providers that promise to enforce a schema, and don't say which keywords
    general=frozenset({"type", "enum", "$ref"}),
    sends_all=True,
)

OPENAI: Final = Server(dialect=_OPENAI, strict=True, unsuited="schema", json="enforced")
TUNED: Final = Server(dialect=_TUNED, strict=True, unsuited="schema", json="enforced")
AZURE: Final = Server(dialect=_AZURE, strict=True, unsuited="schema", json="enforced")
JSON_MODE: Final = Server(unsuited="json", json="enforced")
ANTHROPIC: Final = Server(dialect=_CLAUDE, json="sent")
GOOGLE: Final = Server(dialect=_GEMINI, unsuited="json", json="enforced", choice="enum")
MISTRAL: Final = Server(dialect=_ASSUMED, unsuited="json", json="enforced")
GROQ: Final = Server(dialect=_GROQ, strict=True, unsuited="schema", json="enforced")
BEST_EFFORT: Final = Server(unsuited="schema", json="enforced")
XAI: Final = Server(dialect=_XAI, unsuited="json", json="enforced")
TOGETHER: Final = Server(
    dialect=_ASSUMED, unsuited="json", json="enforced", pattern="regex_pattern", choice="regex_pattern"
)
FIREWORKS: Final = Server(
    dialect=_FIREWORKS, unsuited="json", json="enforced", pattern="gbnf_format", choice="gbnf_format"
)
CEREBRAS: Final = Server(dialect=_CEREBRAS, strict=True, unsuited="json", json="enforced")
LLAMACPP: Final = Server(dialect=_LLAMACPP, unsuited="json", json="enforced", pattern="gbnf_field", choice="gbnf_field")
OLLAMA: Final = Server(dialect=_LLAMACPP, unsuited="json", json="enforced")
VLLM: Final = Server(
    dialect=_XGRAMMAR,
    unsuited="json",
    json="enforced",
    pattern="structured_outputs",
    choice="structured_outputs",
    grammar="structured_outputs",
)
SGLANG: Final = Server(dialect=_XGRAMMAR, unsuited="json", json="enforced", pattern="regex", choice="regex")
TGI: Final = Server(dialect=_OUTLINES, pattern="regex_value", choice="regex_value", says_json="tgi")
