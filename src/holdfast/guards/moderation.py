"""Models as judges: OpenAI's moderation endpoint, Llama Guard, Granite Guardian.

How they are asked and what their answers mean, nothing else: the call itself is given as a coroutine function, which
brings timeouts and errors of its own. An answer that is not understood is a failure of the guard, never a pass.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import ClassVar, Final, Literal

import msgspec

from holdfast.chat import Message, Reply, Request, Role, Text
from holdfast.guards.base import PASS, Context, Finding, Span, Verdict
from holdfast.guards.failures import GuardFailed

Dialect = Literal["llama-guard", "granite-guardian", "granite-guardian-3.2"]
"""How a judging model is spoken to; "granite-guardian-3.2" stands for 3.0 to 3.2, the other for 3.3 and later."""
Chat = Callable[[Request], Awaitable[Reply]]
Post = Callable[[bytes], Awaitable[bytes]]
"""Sends a JSON body to `/moderations` and returns that of the answer."""

HAZARDS: Final[Mapping[str, str]] = {
    "S1": "violent crimes",
    "S2": "non-violent crimes",
    "S3": "sex crimes",
    "S4": "child exploitation",
    "S5": "defamation",
    "S6": "specialized advice",
    "S7": "privacy",
    "S8": "intellectual property",
    "S9": "indiscriminate weapons",
    "S10": "hate",
    "S11": "self-harm",
    "S12": "sexual content",
    "S13": "elections",
    "S14": "code interpreter abuse",
}
"""What Llama Guard 3 and 4 call unsafe."""


class EndpointJudge:
    """Asks OpenAI's moderation endpoint, or one like it.

    `categories` are those that count, all where none is named. A category counts where the endpoint flags it, or where
    `threshold` is given, from that score on.
    """

    span: Span = "whole"

    def __init__(
        self,
        name: str,
        post: Post,
        *,
        model: str = "omni-moderation-latest",
        categories: Iterable[str] = (),
        threshold: float | None = None,
    ) -> None:
        self.name = name
        self._post = post
        self._model = model
        self._categories = frozenset(categories)
        self._threshold = threshold

    async def judge(self, text: str, context: Context, asked: str = "") -> Verdict:
        """Return a block or a pass.

        Raises:
            GuardFailed: the answer is not understood.
        """
        return self.verdict(text, await self._post(self.question(text)))

    def question(self, text: str) -> bytes:
        """Return the body to send."""
        return msgspec.json.encode({"model": self._model, "input": text.encode("utf-8", "replace").decode()})

    def verdict(self, text: str, body: bytes) -> Verdict:
        """Return what an answer means. Raises GuardFailed."""
        try:
            answer = msgspec.json.decode(body, type=_Moderations)
        except (ValueError, RecursionError):
            raise GuardFailed("The moderation endpoint's answer does not follow its format.") from None
        if not answer.results:
            raise GuardFailed("The moderation endpoint's answer has no result.")
        scores: dict[str, float] = {}
        for result in answer.results:
            for category in self._flagged(result):
                scores[category] = max(scores.get(category, 0.0), result.category_scores.get(category, 1.0))
        return _blocked(text, scores)

    def _flagged(self, result: "_Moderation") -> list[str]:
        if unknown := self._categories - result.categories.keys():
            raise GuardFailed(f"The moderation endpoint knows no category {', '.join(sorted(unknown))}.")
        if self._threshold is None:
            flagged = [category for category, is_flagged in result.categories.items() if is_flagged]
            if result.flagged and not flagged:
                return ["flagged"]
        else:
            flagged = [category for category, score in result.category_scores.items() if score >= self._threshold]
        return [category for category in flagged if not self._categories or category in self._categories]


class _Moderation(msgspec.Struct):
    flagged: bool
    categories: dict[str, bool | None]
    category_scores: dict[str, float] = {}


class _Moderations(msgspec.Struct):
    results: list[_Moderation]


class ModelJudge:
    """Asks a model that was trained to judge, through a server that applies its chat template.

    `categories` are hazards ("S10") for Llama Guard, all where none is named; criteria ("harm", "jailbreak") for
    Granite Guardian, which is asked for one after the other, "harm" where none is named.
    """

    span: Span = "whole"
    _MAX_TOKENS: ClassVar[int] = 64

    def __init__(self, name: str, chat: Chat, *, dialect: Dialect, model: str, categories: Iterable[str] = ()) -> None:
        """Raise ValueError if Llama Guard knows no such hazard."""
        self.name = name
        self._chat = chat
        self._dialect = dialect
        self._model = model
        self._categories = tuple(categories) or (() if dialect == "llama-guard" else ("harm",))
        unknown = set(self._categories) - HAZARDS.keys()
        if dialect == "llama-guard" and unknown:
            raise ValueError(f"Llama Guard knows no hazard {', '.join(sorted(unknown))}: expected S1 to S14")

    async def judge(self, text: str, context: Context, asked: str = "") -> Verdict:
        """Return a block or a pass. `asked` is the question that a judged answer was given to, if it is known.

        Raises:
            GuardFailed: the answer is not understood.
        """
        for question in self.questions(text, context, asked):
            verdict = self.verdict(text, (await self._chat(question)).text, question)
            if verdict.kind != "pass":
                return verdict
        return PASS

    def questions(self, text: str, context: Context, asked: str = "") -> list[Request]:
        """Return what to ask the model. An answer to no known question is judged as if a user had said it."""
        said: list[tuple[Role, str]] = [("user", text)]
        if context.direction == "output" and asked:
            said = [("user", asked), ("assistant", text)]
        plain = Request(
            model=self._model,
            messages=tuple(Message(role=role, parts=(Text(text=words),)) for role, words in said),
            temperature=0,
            max_tokens=self._MAX_TOKENS,
        )
        if self._dialect == "llama-guard":
            return [plain]
        key = "risk_name" if self._dialect == "granite-guardian-3.2" else "criteria_id"
        return [
            msgspec.structs.replace(plain, extra={"chat_template_kwargs": {"guardian_config": {key: category}}})
            for category in self._categories
        ]

    def verdict(self, text: str, answer: str, question: Request) -> Verdict:
        """Return what an answer to a question means. Raises GuardFailed."""
        if self._dialect == "llama-guard":
            return _blocked(text, dict.fromkeys(_hazards(answer, self._categories), 1.0))
        config = question.extra["chat_template_kwargs"]["guardian_config"]
        (criterion,) = config.values()
        is_met, score = _criterion(answer)
        return _blocked(text, {criterion: score} if is_met else {})


def _hazards(answer: str, counted: tuple[str, ...]) -> list[str]:
    """Read an answer of Llama Guard: "safe", or "unsafe" and a line of hazards."""
    first, *rest = answer.strip().split("\n", 1)
    if first.strip().lower() == "safe" and not "".join(rest).strip():
        return []
    if first.strip().lower() != "unsafe":
        raise GuardFailed("Llama Guard answered neither safe nor unsafe.")
    found = [word.strip() for word in "".join(rest).split(",") if word.strip()]
    if not all(word in HAZARDS for word in found) or not found:
        return ["unsafe"]
    return [HAZARDS[word] for word in found if not counted or word in counted]


_THOUGHT: Final = re.compile(r"(?s)<think>.*?</think>")
_SCORE: Final = re.compile(r"<score>\s*(yes|no)\s*</score>", re.IGNORECASE)
_FIRST: Final = re.compile(r"\s*(yes|no)\b(?:\s*<confidence>\s*(high|low)\s*</confidence>)?\s*$", re.IGNORECASE)
_JSON: Final = re.compile(r'\s*\{\s*"score"\s*:\s*"(yes|no)"\s*\}\s*$', re.IGNORECASE)


def _criterion(answer: str) -> tuple[bool, float]:
    """Read an answer of Granite Guardian: whether its criterion is met, and how sure that is."""
    answer = _THOUGHT.sub("", answer)
    if scores := _SCORE.findall(answer):
        return scores[-1].lower() == "yes", 1.0
    match = _FIRST.match(answer) or _JSON.match(answer)
    if not match:
        raise GuardFailed("Granite Guardian answered neither yes nor no.")
    unsure = match.re is _FIRST and (match[2] or "").lower() == "low"
    return match[1].lower() == "yes", 0.5 if unsure else 1.0


def _blocked(text: str, scores: dict[str, float]) -> Verdict:
    if not scores:
        return PASS
    findings = tuple(Finding(category, 0, len(text), score) for category, score in scores.items())
    return Verdict("block", f"judged as {', '.join(scores)}", max(scores.values()), findings=findings)
