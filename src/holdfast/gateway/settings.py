"""The gateway's part of `holdfast.toml`."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from holdfast.events import Store
from holdfast.http.base import Timeouts
from holdfast.log.base import check_keep
from holdfast.settings import Duration, Settings, Size
from holdfast.state.limits import BudgetSettings, Limit

Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class LastResort(Settings, frozen=True, kw_only=True):
    """What a feature answers when no model can: exactly one of these."""

    message: str | None = None
    """Sent as the answer."""
    file: str | None = None
    """A file whose text is the answer as it stands. One named `.json` must hold JSON."""
    object: dict[str, Any] | None = None
    """Sent as a JSON object."""
    function: str | None = None
    """A Python function, "package.module:name", installed or beside this file. It gets the request and the code of
    what went wrong, and returns a text, or what is sent as JSON."""

    def __post_init__(self) -> None:
        if sum(form is not None for form in (self.message, self.file, self.object, self.function)) != 1:
            raise ValueError("expected exactly one of message, file, object and function")


class Examples(Settings, frozen=True, kw_only=True):
    """Answered examples that a model is shown before the question."""

    file: str
    """One JSON object a line: `{"input": "...", "output": ...}`, or `{"messages": [...]}` that end with the answer."""
    select: Literal["all", "first", "nearest"] = "all"
    """Which of them: all, the first `k`, or the `k` that are nearest to the input."""
    k: Count = 4
    """How many, where not all of them."""
    tokens: Count | None = None
    """The most tokens that they may take together. Default: no limit."""
    embeddings: str | None = None
    """The model whose vectors tell what is near. Default: the words that texts have in common."""


class Vote(Settings, frozen=True, kw_only=True):
    """Ask the same question several times, and take what most answers say."""

    samples: Annotated[int, Meta(ge=2, le=50)] = 5
    """How many answers are asked for."""
    agree: Share = 0.6
    """The share of the answers that must agree, or the next model is asked, or the last resort."""
    tolerance: Annotated[float, Meta(ge=0)] = 1e-9
    """The relative difference up to which two numbers are the same."""
    fields: bool = False
    """Whether each field of an object is voted on by itself."""
    on: tuple[Annotated[str, Meta(pattern="^(/|$)")], ...] = ()
    """JSON pointers of what the vote is about, such as "/answer": the rest may differ. Default: the whole answer."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Overrides the request's, where answers would all be the same."""

    def __post_init__(self) -> None:
        if self.fields and self.on:
            raise ValueError("expected `fields` or `on`, not both")


class FeatureSettings(Settings, frozen=True, kw_only=True):
    """[features.NAME]: one job that an application gives to models."""

    models: Annotated[tuple[str | Annotated[tuple[str, ...], Meta(min_length=1)], ...], Meta(min_length=1)]
    """Tried in this order. An array in it is a group of equal models, which share the calls."""
    retries: Annotated[int, Meta(ge=0, le=10)] = 2
    """The most tries again on one model in one call."""
    hedge: bool | Duration = False
    """When the first token is late, start the next model too, and take the answer of the one that speaks first. Late is
    after this time, or with `true` beyond what 95 % of the model's recent first tokens took, or thrice the median."""
    on_refusal: Literal["fail", "next"] = "fail"
    """What happens when a model refuses the content: its reason goes to the caller, or the next model is asked."""
    prompt: str | None = None
    """A file whose text becomes the system message."""
    deadline: Duration | None = None
    """For the whole call. Default: the gateway's."""
    last_resort: LastResort | None = None
    """What is answered when no model can. Default: an error."""
    rollout: Share = 1.0
    """The share of sessions served by models; the others get the last resort."""
    enabled: bool = True
    """When false, every call gets the last resort."""
    store: Store = "all"
    """What the log keeps of its calls."""
    timeouts: Timeouts | None = None
    """Overrides the timeouts of the models."""
    contract: str | None = None
    """What the answer must look like: a `.json`, `.toml` or `.lark` file, or a reference such as
    "app.contracts:Answer"."""
    reask_tokens: Annotated[int, Meta(ge=0)] = 8192
    """The output tokens of one call for mending wrong answers. Once they are used up, none is mended any more."""
    stream: Literal["hold", "pass", "object"] = "hold"
    """How an answer under a contract is streamed: held back until it is known to meet it, passed on as it comes, or as
    `holdfast.object` events, each with all that is known of the object so far. A caller may choose otherwise."""
    examples: str | Examples | None = None
    """Answered examples that are shown to the models: a file, or a table."""
    reproducible: bool = False
    """Whether the same question gets the same answer: temperature 0, a fixed seed, and answers given again."""
    replay_ttl: Duration = Duration(3600)
    """How long an answer is given again, where the feature is `reproducible`."""
    vote: Vote | None = None
    """Ask several times, and take what most answers say."""
    budget: str | None = None
    """What its calls may cost together, such as "50usd/day"; the window is min, h, day, month, or for once and all."""
    requests: str | None = None
    """How many requests they may send to providers, such as "600/min"."""
    tokens: str | None = None
    """How many tokens they may use, input and output together, such as "200k/min"."""
    keep: Duration | None = None
    """How long the log keeps its calls. Default: what `[log] keep` says."""

    def __post_init__(self) -> None:
        self.limits("")
        check_keep(self.keep)

    def limits(self, name: str) -> tuple[Limit, ...]:
        """Return what the feature of this name may spend."""
        return BudgetSettings(budget=self.budget, requests=self.requests, tokens=self.tokens).limits("feature", name)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The names of the models, a group of equals at a time, in their order."""
        return tuple((entry,) if isinstance(entry, str) else entry for entry in self.models)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models in their order, without the groups."""
        return tuple(name for group in self.groups for name in group)


class TlsSettings(Settings, frozen=True, kw_only=True):
    """The certificate that the gateway shows, in files of PEM that are read anew when they change."""

    certificate: str
    """The certificate, followed by those that signed it."""
    key: str
    """Its key, without a passphrase."""


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
    concurrency: Count | None = 4096
    """The most calls that one worker carries at once."""
    queue: Annotated[int, Meta(ge=0)] = 1024
    """The most calls that wait for a place in one worker. What is beyond is turned away at once, with Retry-After."""
    retry_share: Share = 0.2
    """The most tries again, as a share of recent calls, so that an outage is not amplified."""
    hedge_share: Share = 0.05
    """The most models that are started by `hedge`, as a share of recent calls."""
    replay_size: Size = Size(64 * 2**20)
    """How much memory the answers may take that a worker keeps to give them again."""
    caller_idle: Duration = Duration(30)
    """How long a caller may take nothing of an answer that is ready for it."""
    tls: TlsSettings | None = None
    """Serve HTTPS. Default: HTTP."""
