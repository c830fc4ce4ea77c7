"""Whether arrays fit into this machine, asked before they are made."""

import os


def machine_bytes() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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
    there = machine_bytes()
    if needed > there:
        raise ValueError(f"{what} would take {needed / 1e9:,.0f} GB and this machine has {there / 1e9:,.0f}: {cure}")
