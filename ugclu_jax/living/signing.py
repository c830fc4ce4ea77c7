"""Ed25519 keys: the folder's own, made with it, and the public one that others check it by.

References: RFC 8032.
"""

import os
from pathlib import Path

from ugclu_jax import files
from ugclu_jax.extras import installed_by

with installed_by("living"):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = "private.pem", "public.pem"


class Signer:
    """A private key.

    >>> signer = Signer(Ed25519PrivateKey.generate())
    >>> verified(signer.public, b"text", signer.sign(b"text")), verified(signer.public, b"other", signer.sign(b"text"))
    (True, False)
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()
        """In hexadecimal, 64 digits."""

    def sign(self, content: bytes) -> str:
        """The signature, in hexadecimal."""
        return self._key.sign(content).hex()


def create(folder: Path) -> Signer:
    """Make both keys in a folder; the private one is its owner's alone to read.

    Raises:
        OSError: they cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    with files.replacing(folder / PRIVATE) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(_private_text(key))
    files.write(folder / PUBLIC, _public_text(key.public_key()).decode())
    return Signer(key)


def _private_text(key: Ed25519PrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _public_text(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load(folder: Path) -> Signer:
    """The private key of a folder.

    Raises:
        ValueError: it is damaged.
        OSError: it is not there or cannot be read.
    """
    path = folder / PRIVATE
    with files.open_plain(path) as file:
        content = file.read()
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no private key, or damaged: put it back") from error
    if not isinstance(key, Ed25519PrivateKey) or _private_text(key) != content:
        raise ValueError(f"{path} is no Ed25519 key as it was written: put the folder's own back")
    return Signer(key)


def read_public(path: Path) -> str:
    """A public key, in hexadecimal, from its PEM file.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    with files.open_plain(path) as file:
        content = file.read()
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no public key, or damaged: give the one that the model was made with") from error
    if not isinstance(key, Ed25519PublicKey) or _public_text(key) != content:
        raise ValueError(f"{path} is no Ed25519 key as it was written: give the model's own")
    return key.public_bytes_raw().hex()


def verified(public: str, content: bytes, signature: str) -> bool:
    """Whether a signature is of a content, by a public key in hexadecimal."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True
