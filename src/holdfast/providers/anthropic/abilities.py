"""What a Claude model accepts, told from its name: the wire is one, but its models refuse each other's settings.

Models up to 4.5 think by a budget of tokens and continue an answer that they are given the beginning of; later ones
think adaptively and by a word for the effort, and refuse a last message from the assistant; from 4.7 on they refuse
sampling parameters; the newest can't be kept from thinking. Names that are not Claude's are servers that merely speak
this wire: they are sent everything.
"""

import re

import msgspec

from holdfast.chat import Effort

_NAME = re.compile(r"claude-(?:instant-)?(?:([a-z]+)-)?(\d)(?:[-.](\d)(?!\d))?")
_SCALE = ("low", "medium", "high", "xhigh", "max")
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768}


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """`thinking` are the accepted values of `thinking.type`, `efforts` those of `output_config.effort`, least first."""

    sampling: bool = False
    thinking: frozenset[str] = frozenset({"adaptive"})
    efforts: tuple[str, ...] = _SCALE
    system_turns: bool = True
    """Whether `messages` may hold system messages."""
    prefill: bool = False
    """Whether the model goes on with a last message that is the assistant's."""
    structured: bool = True
    """Whether the model can be held to a JSON Schema."""
    tools: bool = True

    def effort(self, wanted: str) -> str | None:
        """Return the highest accepted effort that is not above `wanted`, else the lowest there is."""
        limit = _SCALE.index("low" if wanted == "minimal" else wanted)
        fitting = [effort for effort in self.efforts if _SCALE.index(effort) <= limit]
        return fitting[-1] if fitting else next(iter(self.efforts), None)


def effort_of(budget: int) -> Effort:
    """Return the word for a budget of thinking tokens."""
    return next((effort for effort in ("low", "medium", "high") if budget <= _BUDGETS[effort]), "xhigh")


def budget_of(effort: Effort) -> int:
    """Return the budget of thinking tokens that an effort other than "none" stands for."""
    return _BUDGETS[effort]


def abilities(model: str) -> Abilities:
    """Return what a model accepts; a Claude model of an unknown name is taken for one of the newest."""
    if "claude" not in model:
        thinking = frozenset({"adaptive", "enabled", "disabled", "between_tools"})
        return Abilities(sampling=True, thinking=thinking, prefill=True)
    match = _NAME.search(model)
    if match is None:
        return Abilities()
    line, version = match[1], (int(match[2]), int(match[3] or 0))
    if version < (4, 6):
        thinks = version >= (3, 7)
        return Abilities(
            sampling=True,
            thinking=frozenset({"enabled", "disabled"} if thinks else ()),
            efforts=_SCALE[:3] if (line, version) == ("opus", (4, 5)) else (),
            structured=version >= (4, 5),
            tools=version >= (3, 0),
            system_turns=False,
            prefill=True,
        )
    if version == (4, 6):
        thinking = frozenset({"adaptive", "enabled", "disabled"})
        return Abilities(sampling=True, thinking=thinking, efforts=("low", "medium", "high", "max"), system_turns=False)
    off = (
        {"between_tools"}
        if (line, version) == ("sonnet", (5, 5))
        else {"disabled"}
        if _stoppable(line, version)
        else ()
    )
    return Abilities(thinking=frozenset({"adaptive", *off}), system_turns=version >= (4, 8))


def _stoppable(line: str | None, version: tuple[int, int]) -> bool:
    return (
        version < (5, 0) or (line in {"opus", "sonnet"} and version == (5, 0)) or (line, version) == ("haiku", (5, 5))
    )
