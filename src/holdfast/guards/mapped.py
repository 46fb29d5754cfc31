"""A text that was rewritten in places, which knows where each of its characters came from."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Self

from msgspec import Struct


class Layer(Struct, frozen=True, gc=False):
    """What one pass rewrote: the runs `[new_starts[i], new_ends[i])` stand where `[old_starts[i], old_ends[i])` did."""

    new_starts: list[int]
    new_ends: list[int]
    old_starts: list[int]
    old_ends: list[int]

    def start(self, at: int) -> int:
        """Return where what stands at `at` begins in the text before."""
        i = bisect_right(self.new_starts, at) - 1
        if i < 0:
            return at
        if at < self.new_ends[i]:
            return self.old_starts[i]
        return self.old_ends[i] + at - self.new_ends[i]

    def end(self, at: int) -> int:
        """Return where what stands before `at` ends in the text before."""
        i = bisect_right(self.new_starts, at - 1) - 1
        if i < 0:
            return at
        if at <= self.new_ends[i]:
            return self.old_ends[i]
        return self.old_ends[i] + at - self.new_ends[i]


class Mapped(Struct, frozen=True, gc=False):
    """A text and the layers of what was rewritten in it, first to last."""

    text: str
    layers: tuple[Layer, ...] = ()

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return what of the original text `text[start:end]` stands for: all of a run that was rewritten, or none."""
        if start >= end:
            return self._point(start)
        for layer in reversed(self.layers):
            start, end = layer.start(start), layer.end(end)
        return start, end

    def _point(self, at: int) -> tuple[int, int]:
        for layer in reversed(self.layers):
            at = layer.start(at)
        return at, at

    def rewritten(self, runs: Iterable[tuple[int, int, str]]) -> Self:
        """Replace runs of the text, which are in order and apart: start, end, and what stands there instead."""
        layer, done, grown = Layer([], [], [], []), 0, 0
        parts: list[str] = []
        for start, end, new in runs:
            parts += (self.text[done:start], new)
            if end - start != 1 or len(new) != 1:  # of one character for one, the places stay as they are
                layer.new_starts.append(start + grown)
                layer.new_ends.append(start + grown + len(new))
                layer.old_starts.append(start)
                layer.old_ends.append(end)
                grown += len(new) - (end - start)
            done = end
        if not parts:
            return self
        parts.append(self.text[done:])
        return type(self)("".join(parts), (*self.layers, layer) if layer.old_ends else self.layers)
