"""[guards.NAME] of `holdfast.toml`."""

from typing import Annotated, Final, Literal

from msgspec import Meta, structs

from holdfast.references import misnamed
from holdfast.settings import Duration, Secret, Settings

Kind = Literal["injection", "pii", "secrets", "topics", "leaks", "moderation", "function"]
Count = Annotated[int, Meta(ge=1)]


class GuardSettings(Settings, frozen=True, kw_only=True):
    """[guards.NAME]: a check on what goes into models or comes out of them. Features name it in `guards`."""

    kind: Kind
    """What it looks for."""
    mode: Literal["enforce", "observe"] = "enforce"
    """Whether it acts, or only logs what it would have done."""
    on_error: Literal["block", "pass"] = "block"
    """What happens to a text when the guard fails or takes too long. Either is logged."""
    time_budget: Duration | None = None
    """How long it may take for one text. Default: "50ms", or "5s" for `moderation`."""
    action: Literal["rewrite", "block"] | None = None
    """What happens to what it finds, for `secrets` (default: rewrite) and `topics` (default: block). The other kinds
    decide that themselves."""
    span: Count | Literal["sentence", "whole"] | None = None
    """How much of a stream a `function` must see before it lets a character go: so many characters to either side, a
    sentence, or the whole answer. Default: "whole"."""
    ignore: tuple[str, ...] = ()
    """Of `secrets`: kinds that may pass, as findings name them, such as "JWT"."""
    deny: tuple[str, ...] = ()
    """Of `topics`: words and phrases that may not occur, whatever the case and the punctuation."""
    spare: tuple[str, ...] = ()
    """Of `topics`: phrases within which a denied one is allowed, such as "photo shoot" where "shoot" is denied."""
    allow: tuple[str, ...] = ()
    """Of `topics`: phrases of which one must occur. Default: none must."""
    patterns: tuple[str, ...] = ()
    """Of `topics`: regular expressions that may match nowhere, without look-around and back-references."""
    prompt_words: Annotated[int, Meta(ge=6)] | None = None
    """Of `leaks`: how many words of the system prompt, nearly in a row, are too many. Default: 12."""
    secrets: tuple[Secret, ...] = ()
    """Of `leaks`: texts that may stand in no answer, however they are written."""
    judge: Literal["openai", "llama-guard", "granite-guardian", "granite-guardian-3.2"] | None = None
    """Of `moderation`: how the model is asked. "granite-guardian-3.2" stands for 3.0 to 3.2."""
    model: str | None = None
    """Of `moderation`: the model that judges, a name of `[models]`."""
    categories: tuple[str, ...] = ()
    """Of `moderation`: what counts. Default: all that the judge knows, "harm" for Granite Guardian."""
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Of `moderation` by "openai": the score from which a category counts. Default: what the endpoint flags."""
    function: str | None = None
    """Of `function`: "package.module:name", installed or beside this file. It gets a text and where it comes from, and
    returns None to let it pass, False to block it, or the text to put in its place."""

    def __post_init__(self) -> None:
        wrong = [key for key in self._written() if key in _OF and self.kind not in _OF[key]]
        if wrong:
            kinds = " or ".join(f'"{kind}"' for kind in _OF[wrong[0]])
            raise ValueError(f'`{wrong[0]}` belongs to guards of the kind {kinds}, and this one is "{self.kind}"')
        missing = [key for key in _NEEDED.get(self.kind, ()) if getattr(self, key) is None]
        if missing:
            raise ValueError(f'a guard of the kind "{self.kind}" needs `{missing[0]}`')
        self._check_kind()

    def _check_kind(self) -> None:
        if self.kind == "topics" and not (self.deny or self.allow or self.patterns):
            raise ValueError('a guard of the kind "topics" needs `deny`, `allow` or `patterns`')
        if self.kind == "topics" and self.action == "rewrite" and (self.allow or self.patterns):
            raise ValueError('action = "rewrite" masks what is in `deny` only: `allow` and `patterns` can only block')
        if self.threshold is not None and self.judge != "openai":
            raise ValueError('`threshold` belongs to judge = "openai": the other judges give no scores')
        if self.function is not None and (reason := misnamed(self.function)):
            raise ValueError(f"function: {reason}")

    def _written(self) -> list[str]:
        """Return the keys whose values are not the default ones."""
        return [
            field.name
            for field in structs.fields(type(self))
            if not field.required and getattr(self, field.name) != field.default
        ]

    @property
    def seconds(self) -> float:
        """The time budget for one text."""
        return self.time_budget or (5.0 if self.kind == "moderation" else 0.05)


_OF: Final[dict[str, tuple[Kind, ...]]] = {
    "action": ("secrets", "topics"),
    "span": ("function",),
    "ignore": ("secrets",),
    **dict.fromkeys(("deny", "spare", "allow", "patterns"), ("topics",)),
    **dict.fromkeys(("prompt_words", "secrets"), ("leaks",)),
    **dict.fromkeys(("judge", "model", "categories", "threshold"), ("moderation",)),
    "function": ("function",),
}
"""The kinds of guards that a key belongs to."""
_NEEDED: Final[dict[Kind, tuple[str, ...]]] = {"moderation": ("judge", "model"), "function": ("function",)}
