"""What a run's folder and its caches still hold of what was unlearned, and how to remove it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ugclu_jax.report.visible import copyable


class Remain(NamedTuple):
    """Files that may hold traces of unlearned examples."""

    what: str
    path: Path
    bytes: int

    @property
    def size(self) -> str:
        """As a person reads it.

        >>> Remain("oracle cache", Path("oracles"), 3_400_000).size, Remain("lock", Path("lock"), 12).size
        ('3.4 MB', '12 bytes')
        """
        for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
            if self.bytes >= 10**power:
                return f"{self.bytes / 10**power:.1f} {unit}"
        return f"{self.bytes} bytes"


def purge_command(run_folder: Path) -> str:
    """What removes all of it.

    >>> purge_command(Path("runs/my run"))
    "python -m experiments.purge 'runs/my run'"
    """
    return f"python -m experiments.purge {copyable([str(run_folder)])}"


def remaining(remains: Sequence[Remain], run_folder: Path) -> list[str]:
    """Two lines for a terminal: what remains, and how to remove it; one where nothing does.

    >>> left = [Remain("oracles", Path("a"), 2_000), Remain("oracles", Path("b"), 900), Remain("pixels", Path("c"), 9)]
    >>> print(*remaining(left, Path("runs/x")), sep="\\n")
    Remains of the unlearned: oracles (2.9 kB), pixels (9 bytes)
    To remove them:           python -m experiments.purge runs/x
    """
    if not remains:
        return ["Remains of the unlearned: none"]
    sizes: dict[str, int] = {}
    for each in remains:
        sizes[each.what] = sizes.get(each.what, 0) + each.bytes
    parts = ", ".join(f"{what} ({Remain(what, run_folder, size).size})" for what, size in sizes.items())
    return [f"Remains of the unlearned: {parts}", f"To remove them:           {purge_command(run_folder)}"]
