"""The document: every route, with what it takes and what it answers."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, get_args

import msgspec

from holdfast.gateway.access import COOKIE
from holdfast.gateway.hints import Hints, OnBreak, Priority
from holdfast.gateway.serving.pages.openapi import anthropic, openai, pages
from holdfast.gateway.serving.pages.openapi.shapes import (
    BOOLEAN,
    INTEGER,
    OBJECT,
    STRING,
    Json,
    described,
    either,
    enum,
    generated,
    ref,
)
from holdfast.gateway.serving.pages.query import (
    AuditQuery,
    Bodies,
    CallsQuery,
    KeysQuery,
    OneQuery,
    SearchQuery,
    SpendQuery,
)
from holdfast.gateway.serving.routes import PUBLIC, TABLE, Method, Roles

ABOUT = """\
Send what you send to OpenAI or Anthropic; `model` names a feature or a model of this gateway. Request schemas hold
what every model can be told; other fields reach a model of the same wire unchanged."""
_METHODS: Mapping[str, Method] = {"get": "GET", "post": "POST", "delete": "DELETE"}
_CREDENTIALS: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key: `Authorization: Bearer hf_...`."},
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "A key, as Anthropic sends it.",
    },
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The session of an account."},
}
_LABEL = STRING | {"pattern": "^[!-~]([\\t -~]{0,254}[!-~])?$"}
_TAG = "[^=,]{1,64}=[^,]{0,64}"
_TAGS = STRING | {"pattern": f"^({_TAG}(,{_TAG}){{0,9}})?$", "example": "plan=free, team=blue"}
_MILLISECONDS = INTEGER | {"minimum": 1, "maximum": 10**15 - 1}
_MOMENT = either(STRING | {"pattern": r"^\d{1,6}(\.\d{1,6})?(ms|s|m|h|d)$"}, STRING | {"format": "date-time"})
_REQUEST_HEADERS = {
    "x-holdfast-session": described(_LABEL, "The session that the call belongs to."),
    "x-holdfast-subject": described(_LABEL, "Whose data it is. The log keeps only a keyed hash."),
    "x-holdfast-deadline-ms": described(_MILLISECONDS, "How long the call may take, in milliseconds."),
    "x-holdfast-tags": described(_TAGS, "What to file the call under: `name=value, name=value`."),
    "x-holdfast-priority": described(enum(get_args(Priority)), "Batch calls wait for live ones. Default: live."),
    "x-holdfast-on-break": described(
        enum(get_args(OnBreak)), "What a stream does that can't be continued: fail (default), or reset and begin anew."
    ),
}
_RESPONSE_HEADERS = {
    "x-holdfast-call": described(STRING, "The call's id in the log."),
    "x-holdfast-outcome": described(enum(("answered", "last_resort", "error", "cancelled")), "How the call ended."),
    "x-holdfast-model": described(STRING, "The model that answered."),
    "x-holdfast-attempts": described(INTEGER, "How often a model was asked."),
    "x-holdfast-cost": described(STRING | {"pattern": r"^\d+\.\d{9}$"}, "US dollars; absent when it is unknown."),
}
_QUERY = {
    "tag": described(STRING | {"pattern": "="}, "`name=value`"),
    "since": described(_MOMENT, "From this time on: ISO 8601, or a duration before now such as `1h`."),
    "until": described(_MOMENT, "Up to this time."),
    "before": described(STRING, "The cursor: `next` of the page before."),
    "repaired": described(BOOLEAN, "Whether the answer needed repairs to meet its contract."),
    "replayed": described(BOOLEAN, "Whether the answer is that of another call, given again."),
    "subject": described(STRING, "The subject as the caller named it. Those of keys belong to a tenant: name it too."),
    "tenant": described(STRING, "The tenant whose key it was. Default: all that this caller may see."),
    "key": described(STRING, "The id of the key."),
    "bodies": described(
        enum(get_args(Bodies)), "As they are, which takes a reviewer and is recorded, or masked, which is the default."
    ),
}


def document(names: Sequence[str] | None) -> Json:
    """Return the OpenAPI 3.1 document of a gateway where `names` can be called; None doesn't tell what can."""
    components = openai.schemas() | anthropic.schemas() | generated(Hints) | pages.schemas(names)
    paths = _calls() | _views()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": version("holdfast"), "description": ABOUT},
        "paths": {path: _authorized(path, operations, open=names is not None) for path, operations in paths.items()},
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": _CREDENTIALS},
    }


def _authorized(path: str, operations: Json, *, open: bool) -> Json:
    """Say of each operation whom it is for. While there are no keys, none is needed."""

    def security(roles: Roles | None) -> Json:
        if roles is PUBLIC:
            return {"security": []}
        schemes: list[Json] = [{name: []} for name in _CREDENTIALS]
        return {"security": [{}, *schemes] if open else schemes, "x-holdfast-roles": sorted(roles)}

    return {method: operation | security(TABLE[_METHODS[method], path]) for method, operation in operations.items()}


# --- calls ------------------------------------------------------------------------------------------------------------


def _calls() -> dict[str, Json]:
    return {
        "/v1/chat/completions": _post("Chat, as OpenAI speaks it", "ChatRequest", "ChatCompletion", stream=True),
        "/v1/distribution": _post("How likely each of a few answers is", "DistributionRequest", "Distribution"),
        "/v1/embeddings": _post("Vectors of texts", "EmbeddingRequest", "Embeddings"),
        "/v1/messages": _post(
            "Chat, as Anthropic speaks it", "MessagesRequest", "MessagesAnswer", "MessagesError", stream=True
        ),
    }


def _post(summary: str, request: str, answer: str, error: str = "Error", *, stream: bool = False) -> Json:
    content = _json(ref(answer))
    if stream:
        content["text/event-stream"] = {}  # the events of the same wire
    answered = {"description": "A complete answer, or a last resort that says it is one.", "content": content}
    operation = {
        "summary": summary,
        "operationId": request,
        "parameters": [_parameter("header", name, schema) for name, schema in _REQUEST_HEADERS.items()],
        "requestBody": {"required": True, "content": _json(ref(request))},
        "responses": {"200": answered | {"headers": _headers(_RESPONSE_HEADERS)}} | _errors(error),
    }
    return {"post": operation}


def _errors(schema: str) -> dict[str, Json]:
    wait = {"retry-after": described(INTEGER | {"minimum": 1}, "Seconds after which the same call may succeed.")}
    causes = {"4XX": "What was sent can't be served.", "5XX": "No model could answer, or the gateway could not."}
    return {
        status: {"description": cause, "content": _json(ref(schema)), "headers": _headers(wait)}
        for status, cause in causes.items()
    }


# --- pages ------------------------------------------------------------------------------------------------------------


def _views() -> dict[str, Json]:
    return {
        "/": _get("What this is", ref("Index")),
        "/healthz": _get("Liveness", ref("Status")),
        "/readyz": _get("Readiness", ref("Status"), {"503": _page("Not ready.", ref("Status"))}),
        "/metrics": _get("Totals, for Prometheus", STRING, content_type="text/plain"),
        "/openapi.json": _get("This document", OBJECT),
        "/v1/models": _get("What can be called", ref("ModelList")),
        "/v1/models/{id}": _get("One of them", ref("ModelObject"), parameters=[_parameter("path", "id", ref("Model"))]),
        "/api/calls": _get("The log, newest first", ref("CallPage"), parameters=_query(CallsQuery)),
        "/api/calls/search": _get("Calls in whose bodies a text occurs", ref("Search"), parameters=_query(SearchQuery)),
        "/api/calls/{id}": _get(
            "One call with its bodies",
            ref("Call"),
            parameters=[_parameter("path", "id", STRING), *_query(OneQuery)],
        ),
        "/api/session": _session(),
        "/api/keys": _get("Who may call", ref("Keys"), parameters=_query(KeysQuery)),
        "/api/spend": _get("What was spent", ref("SpendList"), parameters=_query(SpendQuery)),
        "/api/audit": _get("What was done, newest first", ref("AuditPage"), parameters=_query(AuditQuery)),
    }


def _session() -> Json:
    cookie = {"set-cookie": described(STRING, "The cookie of the session.")}
    opened = _page("Signed in.", ref("Who")) | {"headers": _headers(cookie)}
    return _get("On whose authority this request comes", ref("Who")) | {
        "post": {
            "summary": "Sign in",
            "requestBody": {"required": True, "content": _json(ref("SignIn"))},
            "responses": {"200": opened, **_errors("Error")},
        },
        "delete": {
            "summary": "Sign out",
            "responses": {"200": _page("Signed out.", OBJECT), **_errors("Error")},
        },
    }


def _get(
    summary: str,
    schema: Json,
    more: Mapping[str, Json] = {},
    *,
    parameters: Sequence[Json] = (),
    content_type: str = "application/json",
) -> Json:
    responses = {"200": _page(summary, schema, content_type), **_errors("Error"), **more}
    operation: Json = {"summary": summary, "responses": responses}
    return {"get": operation | ({"parameters": list(parameters)} if parameters else {})}


def _page(description: str, schema: Json, content_type: str = "application/json") -> Json:
    return {"description": description, "content": {content_type: {"schema": schema}}}


def _query(type: type[msgspec.Struct]) -> list[Json]:
    schema = generated(type)[type.__name__]
    required = schema.get("required", ())
    return [
        _parameter("query", name, _told(name, _set(field))) | ({"required": True} if name in required else {})
        for name, field in schema["properties"].items()
    ]


def _told(name: str, schema: Json) -> Json:
    """Return what is said of a parameter of this name; a number says enough."""
    return schema if schema.get("type") == "integer" else _QUERY.get(name, schema)


def _set(schema: Json) -> Json:
    """Leave out the null of a field that is absent when it is not set."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema


# --- words ------------------------------------------------------------------------------------------------------------


def _parameter(place: str, name: str, schema: Json) -> Json:
    about = {"description": schema["description"]} if "description" in schema else {}
    rest = {key: value for key, value in schema.items() if key != "description"}
    return {"in": place, "name": name, "required": place == "path", "schema": rest} | about


def _headers(schemas: Mapping[str, Json]) -> Json:
    return {
        name: {"description": schema["description"], "schema": {k: v for k, v in schema.items() if k != "description"}}
        for name, schema in schemas.items()
    }


def _json(schema: Json) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
