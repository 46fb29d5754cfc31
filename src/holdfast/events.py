"""Everything the log can hold: one tagged union, appended and never changed."""

from typing import Literal

import msgspec

from holdfast.chat import EmbeddingReply, EmbeddingRequest, Reply, Request, Usage

Outcome = Literal["answered", "last_resort", "error", "cancelled"]
Reason = Literal["first", "retry", "fallback", "hedge", "continue", "restart", "reask", "sample", "examples"]
"""Why an attempt was made: the call's first; the same model again; the next model; beside one that was late; to go on
with an answer that broke off, or to say it again from its start; to mend what fails its contract; to have another
answer to the same question; before all of them, to find the examples that are near to it by its vector."""
Store = Literal["all", "metadata", "none"]
"""What the log keeps of a call: all, neither bodies nor messages, or nothing but its place in the totals."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of the events. Times are microseconds since 1970 UTC; money is in billionths of a US dollar."""


class Repair(msgspec.Struct, frozen=True, gc=False):
    """One change that an answer needed to meet its contract (see `contracts.repairs.ledger` for the kinds).

    `offset` counts the characters of what the model wrote, in the choice number `choice`; `before` stood there, `after`
    replaced it. `tool` is the number of the tool call whose arguments were repaired, None for the text. `attempt` is
    the number of the attempt that wrote it: an answer may be mended by another one.
    """

    kind: str
    offset: int
    before: str
    after: str
    choice: int = 0
    tool: int | None = None
    attempt: int = 0


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request to one model, within a call. `started_us` counts from the start of the call.

    `error` is the code of a failed attempt; "cancelled" when the caller hung up or another answer made it needless.
    `cost_nanousd` is None where the price or the usage is unknown. `estimated` is a usage that was counted here,
    because the answer broke off before its provider told it.
    """

    model: str
    provider: str
    started_us: int
    duration_us: int
    first_token_us: int | None = None
    served_model: str | None = None
    provider_status: int | None = None
    error: str | None = None
    message: str | None = None
    usage: Usage | None = None
    cost_nanousd: int | None = None
    reason: Reason = "first"
    estimated: bool = False
    saved_tokens: int = 0
    """About how many tokens were not generated, because the answer was given up as soon as it could not be right."""
    ignored: bool = False
    """Whether the server broke a constraint that it had accepted."""


class Call(Event, tag="call", frozen=True, kw_only=True):
    """One request to a feature or a model, from its arrival to its last byte.

    `name` is the feature or model that the caller asked for, `feature` is None for a model called by its own name,
    and `model` is the one that answered. `subject` is a keyed hash. `usage` and `cost_nanousd` are the sums over
    the attempts: `cost_nanousd` is None as soon as one part of it is unknown. `config` is the hash of the snapshot
    that the call happened under.
    """

    id: str
    at_us: int
    kind: Literal["chat", "embeddings", "distribution"]
    wire: str
    name: str
    config: str
    outcome: Outcome
    status: int
    duration_us: int
    store: Store = "all"
    feature: str | None = None
    model: str | None = None
    provider: str | None = None
    served_model: str | None = None
    fingerprint: str | None = None
    stream: bool = False
    finish: str | None = None
    error: str | None = None
    message: str | None = None
    first_token_us: int | None = None
    session: str | None = None
    subject: str | None = None
    tags: dict[str, str] = {}
    usage: Usage | None = None
    cost_nanousd: int | None = None
    attempts: tuple[Attempt, ...] = ()
    request: Request | EmbeddingRequest | None = None
    reply: Reply | EmbeddingReply | None = None
    contract: str | None = None
    """The name of the contract that the answer had to meet; "request" for one that came with the call."""
    repairs: int = 0
    """How many changes the answer needed. The changes themselves are its `ledger`, which is kept like a body."""
    ledger: tuple[Repair, ...] = ()
    replayed: str | None = None
    """The call whose answer this is, where it was given again."""
    samples: int | None = None
    """How many answers voted, where they did, and the share of them that agreed with this one."""
    agreement: float | None = None
    tenant: str | None = None
    """Whose key made the call, and the name of that key; None where the gateway knows no keys."""
    key: str | None = None
    withheld: Literal["erased", "sealed"] | None = None
    """Why bodies that were recorded are missing: their key was destroyed, or is not at hand. The log says it."""


class Snapshot(Event, tag="snapshot", frozen=True, kw_only=True):
    """The configuration that calls happened under: the text of every file it names, by path. It holds no secrets."""

    hash: str
    at_us: int
    files: dict[str, str]


class Correction(Event, tag="correction", frozen=True, kw_only=True):
    """A call that ended otherwise than it was recorded: `call` takes the place of the event of the same id.

    Its bodies stay as they were, and so do the totals, which only grow.
    """

    call: Call


class FingerprintChanged(Event, tag="fingerprint_changed", frozen=True, kw_only=True):
    """A provider began to serve a model under another name or fingerprint: its answers may differ from now on."""

    at_us: int
    model: str
    provider: str
    before: str
    """"served name fingerprint", as far as the provider tells them."""
    after: str


AnyEvent = Call | Snapshot | Correction | FingerprintChanged
