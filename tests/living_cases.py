"""Small models in folders, for the tests of `ugclu_jax.living`: arrays with users, and a folder made once."""

import functools
import tempfile
from pathlib import Path

import numpy as np

from ugclu_jax.living.model import LivingModel

SHAPE = (6, 6, 1)
QUICK = {
    "capacity": 60,
    "oracle": {"epochs": 4, "batch_size": 32},
    "learn": {"settings": {"outer_steps": 4, "inner_steps": 4}},
    "unlearn": {"settings": {"outer_steps": 4, "inner_steps": 4}},
}


def arrays(number: int, classes: int, seed: int, first: int = 0) -> dict[str, np.ndarray]:
    """Pictures that a small network can tell apart, ids, and whose they are; classes are c0, c1, …"""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    bright = np.random.default_rng(99).integers(40, 216, (8, *SHAPE))
    pictures = np.clip(bright[labels] + rng.normal(0, 25, (number, *SHAPE)), 0, 255).astype(np.uint8)
    ids = np.array([f"e{first + n}" for n in range(number)])
    names = np.array([f"c{n}" for n in range(classes)])
    return {"x": pictures, "y": labels, "id": ids, "user": np.arange(number) % 9, "class_names": names}


@functools.cache
def _made() -> Path:
    root = Path(tempfile.mkdtemp(prefix="living-"))
    np.savez(root / "first.npz", **arrays(150, 3, 0))
    np.savez(root / "second.npz", **arrays(60, 3, 1, first=150))
    np.savez(root / "third.npz", **arrays(60, 4, 2, first=210))
    LivingModel.init(root / "model", str(root / "first.npz"), settings=QUICK, held_out=40, by="tests")
    return root


def root() -> Path:
    """A folder with three sources and a model that has learned the first of them; never written to again."""
    return _made()
