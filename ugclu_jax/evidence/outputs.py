"""What every measure asks of outputs before it works: sets of models on the same inputs, all of it finite."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


def checked_models(name: str, logits: ArrayLike, at_least: int = 2) -> Numbers:
    """Logits of a set of models as float64 [models, inputs, classes], or a ValueError that names the rule it breaks."""
    found = np.asarray(logits, np.float64)
    if found.ndim != 3 or len(found) < at_least or 0 in found.shape:
        number = {1: "one model", 2: "two models", 3: "three models", 4: "four models"}[at_least]
        raise ValueError(
            f"{name} is of shape {list(found.shape)}: it must be [models, inputs, classes], {number} or more"
        )
    if not np.isfinite(found).all():
        raise ValueError(f"{name}[{np.argwhere(~np.isfinite(found))[0][0]}] has logits that are not finite")
    return found


def check_same_inputs(**sets: Numbers) -> None:
    """Refuse sets of models whose inputs or classes are not as many."""
    (first, logits), *others = sets.items()
    for name, other in others:
        if other.shape[1:] != logits.shape[1:]:
            raise ValueError(
                f"{first} are {list(logits.shape)} and {name} {list(other.shape)}: both must have logits of the same "
                "classes on the same inputs"
            )
