"""A table that no width tears: whole on a wide terminal, in blocks below each other on a narrow one, plain in a pipe.

Rich wraps or cuts the cells of a table that does not fit. Here a column is whole, or stands in a further block beside
the names of the rows again; a name that would take more than its share of the width is cut, and told in full below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

NAME_SHARE = 3
"""A name takes at most this part of the width: a third."""
SHORTEST_NAME = 12
GAP = 1
PLAIN_GAP = "  "
"""Between the columns of a plain table, which has at most one space inside a cell: any program can tell them apart."""


class Cell(NamedTuple):
    """A number of a table."""

    text: str
    dim: str = ""  # what it is read against, behind it
    below: str = ""  # its deviation, in a line of its own on a terminal

    @property
    def whole(self) -> str:
        """Everything in one line."""
        return f"{self.text}{self.below}{self.dim}"

    @property
    def width(self) -> int:
        """Columns of a terminal."""
        return max(cell_len(self.text + self.dim), cell_len(self.below))


class Row(NamedTuple):
    """A name and its numbers; one without numbers is the heading of the rows below it."""

    name: str
    cells: Sequence[Cell] = ()
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """Rows under headings.

    Attributes:
        name: of the first column.
        heads: of the others, each a list of words that stand one below the other.
        rows: as many cells each as there are heads, or none.
        right: whether numbers stand at the right of their columns.
    """

    name: str
    heads: Sequence[Sequence[str]]
    rows: Sequence[Row]
    right: bool = False

    def blocks(self, width: int) -> list[list[int]]:
        """The columns that stand side by side, block by block, so that none is wider than `width` where that can be.

        >>> [grid.blocks(width) for grid in [Grid("n", [["a"], ["b"]], [Row("x", [Cell("12345"), Cell("12345")])])]
        ...  for width in (13, 9)]
        [[[0, 1]], [[0], [1]]]
        """
        found: list[list[int]] = []
        room = 0
        for column, wide in enumerate(self._widths()):
            if not found or GAP + wide > room:
                found.append([])
                room = width - self.name_width(width)
            found[-1].append(column)
            room -= GAP + wide
        return found

    def name_width(self, width: int) -> int:
        """Columns that the names take."""
        longest = max(cell_len(name) for name in (self.name, *(row.name for row in self.rows if row.cells)))
        return min(longest, max(SHORTEST_NAME, width // NAME_SHARE))

    def cut(self, width: int) -> list[str]:
        """The names that do not fit, in the order of their rows."""
        limit = self.name_width(width)
        long = (row.name for row in self.rows if cell_len(row.name) > (limit if row.cells else width))
        return list(dict.fromkeys(long))

    def _widths(self) -> list[int]:
        return [
            max(*(cell_len(word) for word in head), *(row.cells[column].width for row in self.rows if row.cells), 0)
            for column, head in enumerate(self.heads)
        ]

    def lines(self, width: int) -> Iterator[Text]:
        """The lines of the table on a terminal of a width, the names that were cut last."""
        widths, names = self._widths(), self.name_width(width)
        for number, columns in enumerate(self.blocks(width)):
            if number:
                yield Text()
            tall = max(len(self.heads[column]) for column in columns)
            for line in range(tall):
                words = []
                for column in columns:
                    head = [""] * (tall - len(self.heads[column])) + list(self.heads[column])
                    words.append(self._placed(Text(head[line]), widths[column]))
                yield _joined(_fitted(self.name if line == tall - 1 else "", names), words, "bold")
            yield Text("─" * (names + sum(GAP + widths[column] for column in columns)))
            for row in self.rows:
                if row.cells:
                    yield from self._row(row, columns, widths, names)
                else:
                    yield Text(_fitted(row.name, width).rstrip(), style=row.style)
        for name in self.cut(width):
            yield Text(f"{_fitted(name, names)} = {name}", style="dim")

    def _row(self, row: Row, columns: list[int], widths: list[int], names: int) -> Iterator[Text]:
        cells = [row.cells[column] for column in columns]
        sized = [
            self._placed(Text.assemble(cell.text, (cell.dim, "dim")), widths[column])
            for column, cell in zip(columns, cells, strict=True)
        ]
        yield _joined(_fitted(row.name, names), sized, row.style)
        if any(cell.below for cell in cells):
            below = [self._placed(Text(c.below, "dim"), widths[at]) for at, c in zip(columns, cells, strict=True)]
            yield _joined(" " * names, below, "")

    def _placed(self, text: Text, width: int) -> Text:
        room = " " * (width - cell_len(text.plain))
        return Text.assemble(room, text) if self.right else Text.assemble(text, room)

    def plain(self) -> list[str]:
        """The lines of the table in a pipe: one a row, columns by spaces alone, nothing cut and nothing drawn.

        >>> print(*Grid("n", [["KL", "test"], ["b"]], [Row("one x", [Cell("1.0", "|2.0", "±.1"), Cell("3")])]).plain(),
        ...       sep="\\n")
        n      KL_test     b
        one x  1.0±.1|2.0  3
        """
        body, heading = [], ""
        for row in self.rows:
            if row.cells:
                name = f"{heading}: {row.name}" if heading else row.name
                body.append([name, *(cell.whole for cell in row.cells)])
            else:
                heading = row.name
        table = [[self.name, *("_".join(head) for head in self.heads)], *body]
        widths = [max(cell_len(cell) for cell in column) for column in zip_longest(*table, fillvalue="")]
        return [
            PLAIN_GAP.join(set_cell_size(cell, wide) for cell, wide in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich prints it: for a terminal at its width, and plainly elsewhere."""
        for line in self.lines(options.max_width) if console.is_terminal else map(Text, self.plain()):
            line.no_wrap, line.overflow = True, "ignore"
            yield line


def _fitted(name: str, width: int) -> str:
    """A name in so many columns, its cut end marked.

    >>> _fitted("unlearn everything", 9), _fitted("er", 4)
    ('unlearn …', 'er  ')
    """
    return set_cell_size(name, width) if cell_len(name) <= width else set_cell_size(name, width - 1) + "…"


def _joined(name: str, cells: Sequence[Text], style: str) -> Text:
    line = Text(name, style=style)
    for cell in cells:
        line.append(" " * GAP)
        line.append_text(cell)
    line.rstrip()
    return line
