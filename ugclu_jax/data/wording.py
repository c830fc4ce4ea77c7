"""How notes name many things at once: how many, and the first few."""

from collections.abc import Iterable

_SHOWN = 5


def listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    """Names for a sentence, the first few of many.

    Example:
        >>> listed(["a", "b"]), listed("abcdefg", shown=3)
        ('a, b', 'a, b, c and 4 more')
    """
    all_names = list(names)
    rest = len(all_names) - shown
    return ", ".join(all_names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, one: str, many: str) -> str:
    """A count with its noun and verb.

    Example:
        >>> counted(1, "file is", "files are"), counted(1200, "file is", "files are")
        ('1 file is', '1,200 files are')
    """
    return f"{number:,} {one if number == 1 else many}"
