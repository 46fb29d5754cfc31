"""What the routes answer that only show something: the models, the log and the gateway itself."""

from collections.abc import Sequence
from typing import get_args

from holdfast.events import Reason
from holdfast.gateway.serving.pages.openapi.shapes import (
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
from holdfast.state.keys import ROLES, Standing

_ROLE = enum(ROLES)


def schemas(names: Sequence[str] | None) -> dict[str, Json]:
    """Return the components: `Model`, which is one of `names` where they are told, and the pages."""
    return {
        "Model": described(
            STRING if names is None else enum(names), "A feature or a model that can be called at the moment."
        ),
        "ModelObject": record(
            "id object created owned_by", id=STRING, object=const("model"), created=INTEGER, owned_by=STRING
        ),
        "ModelList": record("object data", object=const("list"), data=array(ref("ModelObject")), has_more=BOOLEAN),
        "Status": record("status", status=STRING),
        "Call": _call(),
        "Search": _search(),
        "SignIn": record("name password", name=STRING, password=STRING) | {"additionalProperties": False},
        "Who": record(
            "account key tenant role features",
            account=maybe(STRING),
            key=maybe(STRING),
            tenant=maybe(STRING),
            role=_ROLE,
            features=maybe(array(STRING)),
        ),
        "Keys": record("keys", keys=array(_key())),
        "SpendList": record("spend", spend=array(_spend())),
        "AuditPage": record("entries next", entries=array(_entry()), next=maybe(INTEGER)),
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
        tenant=maybe(STRING),
        key=maybe(STRING),
        withheld=maybe(enum(("erased", "sealed"))),
        samples=maybe(INTEGER),
        agreement=maybe(NUMBER),
        ledger=array(record("kind offset before after", kind=STRING, offset=INTEGER, before=STRING, after=STRING)),
        attempts=array(_attempt()),
    )


def _search() -> Json:
    found = record("places", places=array(record("pointer excerpt", pointer=STRING, excerpt=STRING)))
    return record(
        "calls looked withheld next",
        calls=array({"allOf": [ref("Call"), found]}),
        looked=INTEGER,
        withheld=INTEGER,
        next=maybe(STRING),
    )


def _key() -> Json:
    moment = STRING | {"format": "date-time"}
    return record(
        "id tenant role features limits created expires revoked successor standing",
        id=STRING,
        tenant=STRING,
        role=_ROLE,
        features=array(STRING),
        limits=array(STRING),
        created=moment,
        expires=maybe(moment),
        revoked=maybe(moment),
        successor=maybe(STRING),
        standing=enum(get_args(Standing)),
    )


def _spend() -> Json:
    names, counts = ("tenant", "key", "name", "model"), ("attempts", "input_tokens", "output_tokens", "unpriced")
    fields = dict.fromkeys(names, STRING) | dict.fromkeys(counts, INTEGER)
    day = STRING | {"format": "date"}
    return record(" ".join(("day", *fields, "cost_usd")), day=day, **fields, cost_usd=maybe(STRING))


def _entry() -> Json:
    texts = dict.fromkeys(("at", "actor", "action", "prev", "hash"), STRING)
    return record(" ".join(("n", *texts, "details")), n=INTEGER, **texts, details=OBJECT)


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
