"""How notes name many things at once: how many, and the first few."""

from collections.abc import Iterable

_MOST = 5


def shown(name: str) -> str:
    r"""A name on one line and as it is, but for characters that cannot be seen, which are escaped.

    Example:
        >>> print(shown("café"), shown("a\n\x1b[31m"), shown("u\u200bp"))
        café a\n\x1b[31m u\u200bp
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def listed(names: Iterable[str], most: int = _MOST) -> str:
    """Names for a sentence, the first few of many.

    Example:
        >>> listed(["a", "b"]), listed("abcdefg", most=3)
        ('a, b', 'a, b, c and 4 more')
    """
    all_names = [shown(name) for name in names]
    rest = len(all_names) - most
    return ", ".join(all_names[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, one: str, many: str) -> str:
    """A count with its noun and verb.

    Example:
        >>> counted(1, "file is", "files are"), counted(1200, "file is", "files are")
        ('1 file is', '1,200 files are')
    """
    return f"{number:,} {one if number == 1 else many}"
