"""Finds the lines of keys. It loads a parser of its own, so it is imported when there is a mistake to report."""

import tomllib
from collections.abc import Iterator

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from holdfast.config.collect import Place


class Lines:
    """The lines of a TOML document that `tomllib` accepts, counted from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {(): 0}
        self._again: list[tuple[Place, int, int]] = []
        """The places that had a line already when they came again: from which line to which."""
        self._last_items: dict[Place, int] = {}
        """The index of the last item of each array of tables."""
        for node in (
            Parser(Language(tree_sitter_toml.language())).parse(text.encode("utf-8", "replace")).root_node.children
        ):
            if node.type in ("table", "table_array_element"):
                self._table(node)
            else:
                self._pair(node, ())

    def of(self, place: Place) -> int:
        """Return the line of a key or an array's item; where there is none, of what should hold it. 0: of no line."""
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def repeated(self, line: int) -> tuple[Place, int, int] | None:
        """Return the key that stands twice where a parser stumbled over it, with its second and its first line."""
        at = [(place, start) for place, start, end in self._again if start <= line <= end]
        return (*at[-1], self._lines[at[-1][0]]) if at else None

    def _table(self, node: Node) -> None:
        *heading, place = self._header(node)
        for outer in heading:
            self._mark(outer, node)
        if node.type == "table_array_element":
            self._mark(place, node)
            self._last_items[place] = self._last_items.get(place, -1) + 1
            place = (*place, self._last_items[place])
        self._mark(place, node)
        for child in node.children:
            self._pair(child, place)

    def _header(self, node: Node) -> list[Place]:
        """Return the places of `[a.b.c]`: of a, a.b and a.b.c, within the last item where one is an array of tables."""
        places: list[Place] = []
        for key in _keys(node.named_children[0]):
            outer = places[-1] if places else ()
            if outer in self._last_items:
                outer = (*outer, self._last_items[outer])
            places.append((*outer, key))
        return places

    def _pair(self, node: Node, at: Place) -> None:
        if node.type == "pair":
            key, *_, value = node.named_children
            for name in _keys(key):
                at = (*at, name)
                self._mark(at, node)
            self._value(value, at)

    def _value(self, node: Node, at: Place) -> None:
        if node.type == "inline_table":
            for child in node.children:
                self._pair(child, at)
        elif node.type == "array":
            for index, child in enumerate(child for child in node.named_children if child.type != "comment"):
                self._mark((*at, index), child)
                self._value(child, (*at, index))

    def _mark(self, place: Place, node: Node) -> None:
        line = node.start_point.row + 1
        if place in self._lines:
            last = node.end_point.row + 1 if node.type == "pair" else line
            self._again.append((place, line, last))
        self._lines.setdefault(place, line)


def _keys(node: Node) -> Iterator[str]:
    if node.type == "dotted_key":
        for child in node.named_children:
            yield from _keys(child)
    else:
        text = (node.text or b"").decode()
        yield tomllib.loads(f"key = {text}")["key"] if node.type == "quoted_key" else text
