"""The gateway's part of `holdfast.toml`."""

from typing import Annotated

from msgspec import Meta

from holdfast.events import Store
from holdfast.http.base import Timeouts
from holdfast.settings import Duration, Settings, Size


class LastResort(Settings, frozen=True, kw_only=True):
    """What a feature answers when no model can."""

    message: str
    """Sent as the answer."""


class FeatureSettings(Settings, frozen=True, kw_only=True):
    """[features.NAME]: one job that an application gives to models."""

    models: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Tried in this order."""
    prompt: str | None = None
    """A file whose text becomes the system message."""
    deadline: Duration | None = None
    """For the whole call. Default: the gateway's."""
    last_resort: LastResort | None = None
    """What is answered when no model can. Default: an error."""
    rollout: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of sessions served by models; the others get the last resort."""
    enabled: bool = True
    """When false, every call gets the last resort."""
    store: Store = "all"
    """What the log keeps of its calls."""
    timeouts: Timeouts | None = None
    """Overrides the timeouts of the models."""


class GatewaySettings(Settings, frozen=True, kw_only=True):
    """[gateway]: what holds for every call."""

    deadline: Duration = Duration(120)
    """For calls whose feature and caller set none."""
    max_deadline: Duration = Duration(600)
    """The longest that a caller may ask for."""
    max_body: Size = Size(32 * 2**20)
    """The longest request body that is taken from a caller."""
    max_headers: Size = Size(64 * 2**10)
    """The longest request headers that are taken from a caller."""
    max_answer: Size = Size(32 * 2**20)
    """The longest answer that is taken from a provider."""
    store: Store = "all"
    """What the log keeps of calls to a model by its own name; a feature says it for its own calls."""
    drain: Duration = Duration(30)
    """How long a stopping gateway waits for its calls."""
