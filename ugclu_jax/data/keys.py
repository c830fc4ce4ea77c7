"""Keys: the names by which examples are known, whatever their place in the arrays at hand, and draws that follow them.

A key is the path of a file, an id that the source gives, the digest of the content where it gives none, or split and
position in a set that never changes. An example keeps its key when others come and go.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

Split = Literal["train", "test"]
KeyKind = Literal["position", "file", "id", "content"]
"""What keys are made of; only positions may be written as numbers and ranges."""
_HEX_DIGITS = 32


def position_keys(split: Split, examples: int) -> np.ndarray:
    """Keys of a split of a fixed set.

    Example:
        >>> position_keys("test", 2).tolist()
        ['test/0', 'test/1']
    """
    return np.array([f"{split}/{position}" for position in range(examples)], dtype=np.str_)


def content_keys(contents: Sequence[bytes]) -> np.ndarray:
    """Keys of examples that have no name: the first 32 hexadecimal digits of the SHA-256 of their content.

    Examples of equal content are told apart by their number, `#2`, `#3`, …: which of them has which is open, for they
    are equal.

    Args:
        contents: of each example, everything that makes it what it is, its label included.

    Example:
        >>> [key[-6:] for key in content_keys([b"a", b"b", b"a"]).tolist()]
        ['23dc4d', 'e1b134', 'dc4d#2']
    """
    seen: dict[str, int] = {}
    keys = []
    for content in contents:
        digest = hashlib.sha256(content).hexdigest()[:_HEX_DIGITS]
        seen[digest] = seen.get(digest, 0) + 1
        keys.append(digest if seen[digest] == 1 else f"{digest}#{seen[digest]}")
    return np.array(keys, dtype=np.str_)


def key_draws(keys: np.ndarray, purpose: str) -> np.ndarray:
    """A uniform draw in [0, 1) for each key, by its hash: no example moves another's.

    Args:
        keys: [N] strings.
        purpose: what the draw is for; another purpose is another draw.

    Returns:
        [N] float64.

    Example:
        >>> both, one = key_draws(np.array(["a", "b"]), "split"), key_draws(np.array(["b"]), "split")
        >>> bool(both[1] == one[0]), bool(one[0] == key_draws(np.array(["b"]), "other")[0])
        (True, False)
    """
    digests = (hashlib.sha256(f"{purpose}\0{key}".encode(errors="surrogatepass")).digest() for key in keys.tolist())
    return np.array([int.from_bytes(digest[:8], "big") >> 11 for digest in digests], np.float64) / 2**53


def rows_for_test(keys: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """Rows of the test split of a source that has none: those whose draw by the key's hash is below a share.

    So an example that comes or goes moves no other, but in two cases where a rule of the whole is stronger: of a class
    all of whose draws are below the share, the one with the largest stays in the training split; where no example is
    drawn, the one with the smallest draw is the test split, if its class has another.

    Args:
        keys: [N] strings.
        labels: [N] integers.
        share: of the test split, in (0, 1).

    Returns:
        Sorted int64 rows.

    Raises:
        ValueError: every class has a single example, so that none can be spared.

    Example:
        >>> keys, labels = np.array([f"cat/{i}.png" for i in range(1000)]), np.zeros(1000, int)
        >>> whole, without_one = rows_for_test(keys, labels, 0.2), rows_for_test(keys[1:], labels[1:], 0.2)
        >>> len(whole), set(without_one + 1) == set(whole) - {0}
        (190, True)
    """
    draws = key_draws(keys, "test split")
    chosen = draws < share
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if chosen[members].all():
            chosen[members[np.argmax(draws[members])]] = False
    if not chosen.any():
        counts = np.bincount(labels)
        spare = np.flatnonzero(counts[labels] > 1)
        if not spare.size:
            raise ValueError(
                f"there are {len(keys)} examples of {len(np.unique(labels))} classes, one of each: none can be spared "
                "for a test split; add examples, or give a test split"
            )
        chosen[spare[np.argmin(draws[spare])]] = True
    return np.flatnonzero(chosen)
