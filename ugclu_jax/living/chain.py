"""Rows that cannot change unseen: each carries the hash of the one before; what was personal in one can be erased.

    c_i = SHA-256(c_{i−1} ‖ SHA-256(row i)),   c_0 = 0

Of an example the row holds a commitment alone, `SHA-256(salt ‖ example)` with a salt of its own. Once example and salt
are erased the commitment says nothing of either, and the chain still holds.
"""

import hashlib
import hmac
import json
from typing import Any, Literal

START = bytes(32)
"""c_0."""


def canonical(value: Any) -> bytes:
    """JSON of which there is one form: keys sorted, nothing between, UTF-8.

    Raises:
        ValueError: NaN or an infinity, which JSON has not.

    >>> canonical({"b": [1, "é"], "a": None})
    b'{"a":null,"b":[1,"\\xc3\\xa9"]}'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="surrogatepass")


def link(before: bytes, row: bytes) -> bytes:
    """c_i from c_{i−1} and the content of row i.

    >>> link(START, b"a") != link(link(START, b"a"), b"a")
    True
    """
    return hashlib.sha256(before + hashlib.sha256(row).digest()).digest()


def commitment(salt: bytes, example: Any) -> bytes:
    """What stands for an example in its row: the hash of a salt and of its content.

    Args:
        salt: 16 random bytes, of this example alone.
        example: JSON values.

    >>> commitment(bytes(16), ["a"]) == commitment(bytes(16), ["a"]), commitment(bytes(15) + b"1", ["a"])[:2].hex()
    (True, '30e0')
    """
    return hashlib.sha256(salt + canonical(example)).digest()


def tombstone(secret: bytes, what: Literal["key", "content"], value: bytes) -> bytes:
    """What is left of an unlearned example: by it, and the folder's secret, the example is known when it comes again.

    `HMAC-SHA-256(secret, what ‖ value)`. Who has the secret can try out keys; who has not learns nothing.

    >>> tombstone(b"s", "key", b"cat/1.png") == tombstone(b"s", "content", b"cat/1.png")
    False
    """
    return hmac.new(secret, what.encode() + b"\0" + value, hashlib.sha256).digest()
