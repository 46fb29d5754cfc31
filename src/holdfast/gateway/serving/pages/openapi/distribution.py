"""What `/v1/distribution` takes and answers."""

from holdfast.gateway.answers.distribution import DECIDED, SWITCHES, Asked
from holdfast.gateway.answers.likelihood import Estimate
from holdfast.gateway.serving.pages.openapi.shapes import (
    INTEGER,
    OBJECT,
    STRING,
    Json,
    array,
    const,
    either,
    generated,
    maybe,
    record,
    ref,
    refine,
)

_NULL: Json = {"type": "null"}
_ONE_LIMIT = either(record(max_tokens=_NULL), record(max_completion_tokens=_NULL))


def schemas(chat: Json) -> dict[str, Json]:
    """Return the components: `DistributionRequest`, which is a `chat` with choices, and `Distribution`."""
    own, found = generated(Asked)["Asked"]["properties"], generated(Estimate)
    unset = {name: {"enum": [None, False]} if name in SWITCHES else _NULL for name in DECIDED}
    fields = chat["properties"] | own | unset
    fields["model"], fields["messages"] = ref("Model"), array(ref("Message"), 1)
    fields["choices"], fields["holdfast"] = own["choices"] | {"uniqueItems": True}, maybe(ref("Hints"))
    answer = {name: schema for name, schema in found.pop("Estimate").items() if name != "description"}
    about = {"id": STRING, "object": const("distribution"), "created": INTEGER, "model": STRING}
    return found | {
        "DistributionRequest": record("model messages choices", **fields) | {"allOf": [_ONE_LIMIT]},
        "Distribution": refine(answer, " ".join(about), **about, usage=maybe(OBJECT), holdfast=OBJECT),
    }
