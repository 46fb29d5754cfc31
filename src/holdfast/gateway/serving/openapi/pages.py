"""What the routes answer that only show something: the models, the log and the gateway itself."""

from collections.abc import Sequence
from typing import get_args

from holdfast.events import Reason
from holdfast.gateway.serving.openapi.shapes import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    Json,
    array,
    const,
    described,
    enum,
    maybe,
    record,
    ref,
)


def schemas(names: Sequence[str]) -> dict[str, Json]:
    """Return the components: `Model`, which is one of `names`, and the pages with what they are made of."""
    return {
        "Model": described(enum(names), "A feature or a model that can be called at the moment."),
        "ModelObject": record(
            "id object created owned_by", id=STRING, object=const("model"), created=INTEGER, owned_by=STRING
        ),
        "ModelList": record("object data", object=const("list"), data=array(ref("ModelObject")), has_more=BOOLEAN),
        "Status": record("status", status=STRING),
        "Call": _call(),
        "CallPage": record("calls next", calls=array(ref("Call")), next=maybe(STRING)),
        "Index": record("name version routes", name=const("holdfast"), version=STRING, routes=array(STRING)),
    }


def _call() -> Json:
    return record(
        "id at at_us kind wire name config outcome status duration_us attempts tags",
        id=STRING,
        at=STRING | {"format": "date-time"},
        at_us=INTEGER,
        kind=enum(("chat", "embeddings", "distribution")),
        wire=STRING,
        name=STRING,
        config=STRING,
        outcome=enum(("answered", "last_resort", "error", "cancelled")),
        status=INTEGER,
        duration_us=INTEGER,
        model=maybe(STRING),
        error=maybe(STRING),
        message=maybe(STRING),
        stream=BOOLEAN,
        session=maybe(STRING),
        subject=maybe(STRING),
        tags=OBJECT | {"additionalProperties": STRING},
        usage=maybe(OBJECT),
        cost_usd=maybe(STRING),
        contract=maybe(STRING),
        repairs=INTEGER,
        replayed=maybe(STRING),
        samples=maybe(INTEGER),
        agreement=maybe(NUMBER),
        ledger=array(record("kind offset before after", kind=STRING, offset=INTEGER, before=STRING, after=STRING)),
        attempts=array(_attempt()),
    )


def _attempt() -> Json:
    return record(
        "model provider started_us duration_us",
        model=STRING,
        provider=STRING,
        started_us=INTEGER,
        duration_us=INTEGER,
        reason=enum(get_args(Reason)),
        error=maybe(STRING),
        saved_tokens=INTEGER,
        ignored=BOOLEAN,
    )
