"""The simulator's own addresses, under `/_simulator/`: what it recorded, and which script it follows."""

from collections.abc import Callable, Mapping

import msgspec

from holdfast.errors import ConfigError
from holdfast.providers.simulated.behaviour import PRESETS, write_value
from holdfast.providers.simulated.plan import Piece, Plan
from holdfast.providers.simulated.providers import Incoming, Providers
from holdfast.providers.simulated.script import from_table, parse

PREFIX = "/_simulator/"


def control(incoming: Incoming, providers: Providers) -> Plan:
    """Answer a request to the simulator itself."""
    name = incoming.address.path.removeprefix(PREFIX)
    if name not in _PLACES:
        return _json({"error": f"There is nothing at {PREFIX}{name}; there are {', '.join(sorted(_PLACES))}."}, 404)
    methods = _PLACES[name]
    if incoming.method not in methods:
        return _json({"error": f"{PREFIX}{name} takes {', '.join(methods)}, not {incoming.method}."}, 405)
    return methods[incoming.method](incoming, providers)


def _requests(incoming: Incoming, providers: Providers) -> Plan:
    model = incoming.address.query.get("model")
    records = [record.table() for record in list(providers.recorder.records) if model in (None, record.model)]
    return _json({"requests": records})


def _forget(_: Incoming, providers: Providers) -> Plan:
    providers.recorder.records.clear()
    return _json({"requests": []})


def _script(_: Incoming, providers: Providers) -> Plan:
    return _json(msgspec.to_builtins(providers.script, enc_hook=write_value))


def _follow(incoming: Incoming, providers: Providers) -> Plan:
    """Follow another script: JSON, or TOML where the content type says so."""
    try:
        text = incoming.body.decode()
        table = parse(text, "toml" not in incoming.headers.get("content-type", ""))
        providers.follow(from_table(table))
    except UnicodeDecodeError as error:
        return _json({"error": f"The script is not UTF-8: {error}"}, 400)
    except ConfigError as error:
        return _json({"error": error.message}, 400)
    return _script(incoming, providers)


def _models(_: Incoming, providers: Providers) -> Plan:
    return _json({"models": providers.models(), "presets": PRESETS})


_PLACES: Mapping[str, Mapping[str, Callable[[Incoming, Providers], Plan]]] = {
    "requests": {"GET": _requests, "DELETE": _forget},
    "script": {"GET": _script, "PUT": _follow},
    "models": {"GET": _models},
}


def _json(value: object, status: int = 200) -> Plan:
    headers = [("content-type", "application/json")]
    body = msgspec.json.encode(value, enc_hook=write_value)
    return Plan(wire="openai", status=status, headers=headers, pieces=[Piece(body)])
