"""Tables that fit the terminal: columns are left out, broken or cut. Elsewhere, tabs separate the cells of a line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, TypeVar

from rich.console import Console
from rich.text import Text as Line

T = TypeVar("T")
GAP = "  "
_BREAK = ", "


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column. Its texts may be cut to `floor`, and to `enough` to make room for more columns; None never cuts.

    An `optional` one is left out of a terminal's table for as long as its cells are empty.
    """

    name: str
    cell: Callable[[T], str | Line]
    right: bool = False
    floor: int | None = None
    enough: int | None = None
    optional: bool = False
    breaks: bool = False
    """Where the table is too wide, its texts are broken after commas, a part a line, before columns are cut."""


class Table(Generic[T]):
    """Rows in the first of `layouts` that fits the terminal, richest first.

    The layout of the index `least` has what should be seen: it is broken, and then cut, before it gives way to those
    behind it. Widths only ever grow, so that rows printed later stand below the earlier ones.
    """

    def __init__(self, layouts: Sequence[Sequence[Column[T]]], least: int = 0) -> None:
        self._layouts = layouts
        self._least = least
        self._widths: dict[Column[T], int] = {}
        self._broken: dict[Column[T], int] = {}
        """The widths of the columns that break, when they are broken."""

    def print(self, console: Console, rows: Sequence[T], *, header: bool = True) -> None:
        """Print rows: for a terminal as wide as it is, else every column, as it is."""
        if not console.is_terminal:
            _print_tabs(self._layouts[0], rows, header=header)
            return
        for line in self.lines(console.width, rows, header=header):
            console.print(line)

    def lines(self, width: int, rows: Sequence[T], *, header: bool = True) -> Iterator[Line]:
        """Return the rows as lines of at most `width`, after the two lines of the head."""
        self.measure(rows)
        widths = self._fit(width)
        if header:
            yield _joined({column: Line(column.name, style="bold") for column in widths}, widths)
            yield Line("─" * min(_total(widths), width), style="dim", no_wrap=True)
        for row in rows:
            parts = [_parts(column, _line(column.cell(row)), size) for column, size in widths.items()]
            for cells in zip_longest(*parts, fillvalue=Line()):
                yield _joined(dict(zip(widths, cells, strict=True)), widths)

    def measure(self, rows: Sequence[T]) -> None:
        """Widen the columns to what the rows need."""
        for column in {column for layout in self._layouts for column in layout}:
            lines = [_line(column.cell(row)) for row in rows]
            found = max([line.cell_len for line in lines], default=0)
            least = len(column.name) if found or not column.optional else 0
            self._widths[column] = max(found, least, self._widths.get(column, 0))
            if column.breaks:
                longest = max([part.cell_len for line in lines for part in _broken(line)], default=0)
                self._broken[column] = max(longest, least, self._broken.get(column, 0))

    @property
    def width(self) -> int:
        """How wide the richest layout is."""
        return _total(self._filled(self._layouts[0]))

    def _filled(self, layout: Sequence[Column[T]]) -> dict[Column[T], int]:
        return {column: self._widths[column] for column in layout if self._widths[column]}

    def _fit(self, width: int) -> dict[Column[T], int]:
        """Return the columns that fit, with their widths."""
        whole = [self._filled(layout) for layout in self._layouts]
        broken = [{column: self._broken.get(column, size) for column, size in widths.items()} for widths in whole]
        for widths in (*whole[: self._least + 1], *broken[: self._least + 1]):
            if _total({column: min(size, column.enough or size) for column, size in widths.items()}) <= width:
                return _cut(widths, width)
        cut = [_cut(widths, width) for widths in broken[self._least :]]
        return next((widths for widths in cut if _total(widths) <= width), cut[-1])


def _cut(widths: dict[Column[T], int], width: int) -> dict[Column[T], int]:
    """Take from the widest column that may be cut until all fit, or none may be cut any more."""
    widths = dict(widths)
    while _total(widths) > width:
        left = {column: size for column, size in widths.items() if column.floor is not None and size > column.floor}
        if not left:
            break
        widths[max(left, key=lambda column: left[column])] -= 1
    return widths


def _total(widths: dict[Column[T], int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _line(cell: str | Line) -> Line:
    return Line(cell) if isinstance(cell, str) else cell


def _parts(column: Column[T], line: Line, width: int) -> list[Line]:
    return _broken(line) if column.breaks and line.cell_len > width else [line]


def _broken(line: Line) -> list[Line]:
    parts = list(line.split(_BREAK, include_separator=True)) or [line]
    for part in parts:
        part.rstrip()
    return parts


def _joined(cells: dict[Column[T], Line], widths: dict[Column[T], int]) -> Line:
    aligned = []
    for column, width in widths.items():
        cell = cells[column].copy()
        cell.truncate(width, overflow="ellipsis")
        cell.align("right" if column.right else "left", width)
        aligned.append(cell)
    line = Line(GAP, no_wrap=True, overflow="ellipsis").join(aligned)
    line.rstrip()
    return line


def _print_tabs(columns: Sequence[Column[T]], rows: Sequence[T], *, header: bool) -> None:
    lines = [[_line(column.cell(row)).plain for column in columns] for row in rows]
    if header:
        lines.insert(0, [column.name for column in columns])
    for line in lines:
        print("\t".join(line), flush=True)
