"""Whether arrays fit into this machine, asked before they are made."""

import os
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """What this process may have: of the machine, or of the container that it runs in.

    >>> memory_bytes() > 2**20
    True
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in map(Path, _LIMITS):
        if path.is_file() and (text := path.read_text(encoding="ascii").strip()).isdigit():
            found.append(int(text))
    return min(found)


def check_fits(what: str, needed: int, cure: str) -> None:
    """Refuse what is larger than the machine's memory.

    Args:
        what: what would be made, with which the message begins.
        needed: bytes of it.
        cure: what to do instead.

    Raises:
        ValueError: it is larger.

    Example:
        >>> check_fits("x", 8, "make it smaller")
        >>> check_fits("x", 1 << 60, "make it smaller")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: x would take 1,152,921,505 GB and this machine has ...: make it smaller
    """
    there = memory_bytes()
    if needed > there:
        raise ValueError(f"{what} would take {needed / 1e9:,.0f} GB and this machine has {there / 1e9:,.0f}: {cure}")
