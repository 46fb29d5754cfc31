"""Answered examples that a model is shown before the question, chosen for each call."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final

from holdfast.chat import Message, Request
from holdfast.contracts.base import Contract
from holdfast.embed.near import Near, Source
from holdfast.embed.words import normal
from holdfast.errors import ConfigError, Problem
from holdfast.gateway.questions.answered import Example, last_of_user, read_examples
from holdfast.gateway.settings import Examples

TAG: Final = "example"
"""The tag by which a call names the example that it replays."""
SHARE_OF_DEADLINE: Final = 0.1
"""How much of the time left may be spent on finding what is near."""


class Shots:
    """The examples of a feature, ready to be shown."""

    def __init__(self, examples: Iterable[Example], settings: Examples, near: Near | None = None) -> None:
        """Take the examples in their order; `near` knows their inputs, in that order too, where it is to choose."""
        self.examples = tuple(examples)
        self._messages = [example.messages for example in self.examples]
        self._tokens = [example.tokens for example in self.examples]
        self._settings = settings
        self._near = near
        self._longest = 0
        self._same: dict[str, set[int]] = {}
        self._named: dict[str, int] = {}
        for number, example in enumerate(self.examples):
            for message in example.messages:
                if message.role == "user":
                    self._longest = max(self._longest, len(message.text))
                    self._same.setdefault(normal(message.text), set()).add(number)
            if example.id is not None:
                self._named[example.id] = number
        self._most = len(self.examples) if settings.select == "all" else min(settings.k, len(self.examples))
        self._usual = self._shown(self._within_budget(range(self._most)))

    async def messages(
        self,
        request: Request,
        tags: Mapping[str, str] | None = None,
        *,
        seconds: float = 60.0,
        source: Source | None = None,
    ) -> tuple[Message, ...]:
        """Return what to put between the prompt and the messages of the caller, the nearest example last.

        An example is left out where the caller's last message is a question in it (but for case, white space and ways
        to write a character), or where the tag `example` names its id, so that a replayed dataset is not shown its own
        answers. `seconds` are left of the deadline. The nearest are found by the vectors of `source`, or by words.
        Never raises, and waits for nothing but vectors.
        """
        text = last_of_user(request.messages)
        without = self._itself(text, tags)
        if self._near is not None:
            wait = seconds * SHARE_OF_DEADLINE
            found = await self._near.find(text, self._most, without, seconds=wait, source=source)
            return self._shown(reversed(self._within_budget(found)))
        if not without:
            return self._usual
        others = [number for number in range(len(self.examples)) if number not in without]
        return self._shown(self._within_budget(others[: self._most]))

    def close(self) -> None:
        """Ask for no more vectors: there are other examples now."""
        if self._near is not None:
            self._near.close()

    def _itself(self, text: str, tags: Mapping[str, str] | None) -> Set[int]:
        """Return the examples that the call itself is."""
        found: Set[int] = frozenset()
        if len(text) <= 4 * self._longest + 1024:  # beyond, it can't be the same but for white space
            found = self._same.get(normal(text), found)
        named = self._named.get(tags[TAG]) if tags and TAG in tags else None
        return found if named is None else found | {named}

    def _within_budget(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return the first of some examples, as many as fit into the budget together."""
        left = self._settings.tokens
        if left is None:
            return numbers
        for place, number in enumerate(numbers):
            left -= self._tokens[number]
            if left < 0:
                return numbers[:place]
        return numbers

    def _shown(self, numbers: Iterable[int]) -> tuple[Message, ...]:
        return tuple([message for number in numbers for message in self._messages[number]])


def ready(settings: str | Examples, text: Callable[[str], str], contract: Contract | None = None) -> Shots:
    """Return the examples of a feature. `text` gives the text of a file.

    Raises:
        ConfigError: with every mistake in the file, and every answer in it that does not meet the contract.
    """
    settings = settings if isinstance(settings, Examples) else Examples(file=settings)
    examples, faults = read_examples(text(settings.file), contract)
    if faults:
        raise ConfigError([Problem(settings.file, line, "", message) for line, message in faults])
    limit = settings.tokens
    fitting = [example for example in examples if limit is None or example.tokens <= limit]
    if not fitting:
        least = min(example.tokens for example in examples)
        raise ConfigError(
            [Problem(settings.file, 0, "", f"no example fits into {limit} tokens: the shortest has {least}")]
        )
    near = None
    if settings.select == "nearest":
        near = Near([example.input for example in fitting], name=settings.file)
    return Shots(fitting, settings, near)
