"""Which arrays of a `.npz` file are inputs, labels, ids and metadata; what cannot be used is refused by its header."""

from collections.abc import Mapping
from typing import NamedTuple

from ugclu_jax.data.npz_members import Member
from ugclu_jax.data.wording import listed

_WHOLE = ("x", "y")
_SPLIT = ("x_train", "y_train", "x_test", "y_test")
RULE = f"{', '.join(_WHOLE)} or {', '.join(_SPLIT)}, and class_names if wanted"
ID = "id"
CLASS_NAMES = "class_names"
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "U": "strings", "S": "strings"}


class Roles(NamedTuple):
    """What the arrays are for.

    Attributes:
        endings: of the names of arrays: one array of the whole, `""`, or one for each split, `_train` and `_test`.
        has_ids: whether examples have ids.
        columns: names of the metadata, without endings.
    """

    endings: tuple[str, ...]
    has_ids: bool
    columns: list[str]


def roles(there: Mapping[str, Member]) -> Roles:
    """Tell what each array is for.

    Raises:
        ValueError: one is missing, or of another shape or type than its role asks for.

    Example:
        >>> import numpy as np
        >>> x, y = Member((6, 2), np.dtype(np.uint8)), Member((6,), np.dtype(int))
        >>> roles({"x": x, "y": y, "user": y})
        Roles(endings=('',), has_ids=False, columns=['user'])
    """
    endings = ("_train", "_test") if set(_SPLIT) <= set(there) else ("",)
    required = _SPLIT if len(endings) > 1 else _WHOLE
    if not set(required) <= set(there) or (required == _SPLIT and set(_WHOLE) & set(there)):
        raise ValueError(f"it holds {listed(sorted(there), most=20) or 'nothing'} and must hold {RULE}: rename them")
    lengths = [_pair(f"x{ending}", f"y{ending}", there) for ending in endings]
    kinds = {_KINDS[there[f"y{ending}"].dtype.kind] for ending in endings}
    if len(kinds) > 1:
        raise ValueError(f"y_train and y_test are {' and '.join(sorted(kinds))}: labels must be of one kind")
    if CLASS_NAMES in there:
        _class_names(there[CLASS_NAMES], *kinds)
    others = [name for name in there if name not in (*required, CLASS_NAMES)]
    stems = list(dict.fromkeys(_stem(name, endings) for name in others))
    for stem in stems:
        for ending, length in zip(endings, lengths, strict=True):
            _column(f"{stem}{ending}", length, there)
    for ending in endings:
        if ID in stems and there[f"{ID}{ending}"].dtype.kind not in "iuUS":
            kind = there[f"{ID}{ending}"].dtype
            raise ValueError(f"{ID}{ending} has type {kind}: ids must be strings or integers; use .astype(str)")
    return Roles(endings, ID in stems, [stem for stem in stems if stem != ID])


def _stem(name: str, endings: tuple[str, ...]) -> str:
    return next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)


def _column(name: str, length: int, there: Mapping[str, Member]) -> None:
    if name not in there:
        raise ValueError(
            f"it lacks {name}, and holds others of that kind or {name.removesuffix('_train')} alone: arrays beside "
            f"{RULE} are metadata, needed of every example; give them of both splits, ending in _train and _test"
        )
    if there[name].shape != (length,):
        raise ValueError(
            f"{name} has shape {list(there[name].shape)}: arrays beside {RULE} are metadata, of one value an example, "
            f"[{length}]; take it out, or give that"
        )


def _class_names(names: Member, labels: str) -> None:
    if names.dtype.kind not in "US" or len(names.shape) != 1:
        raise ValueError(
            f"{CLASS_NAMES} is {names.dtype}{list(names.shape)}: it must be flat and of strings, one a class"
        )
    if labels != "integers":
        raise ValueError(f"y is of {labels}: with class_names labels must be class numbers 0..C-1; leave those out")


def _pair(x: str, y: str, there: Mapping[str, Member]) -> int:
    """Refuse inputs and labels that do not belong together; how many examples there are."""
    inputs, labels = there[x], there[y]
    if inputs.dtype.kind not in "biuf":
        raise ValueError(f"{x} has type {inputs.dtype}: inputs must be numbers; convert them with .astype")
    if labels.dtype.kind not in _KINDS:
        raise ValueError(
            f"{y} is {labels.dtype}{list(labels.shape)}: labels must be class numbers, booleans or strings; use "
            ".astype(int) if they are whole"
        )
    if len(labels.shape) != 1 or labels.shape[0] == 0:
        cure = f"; use np.ravel({y})" if labels.shape[1:] == (1,) else ""
        cure = f"; use np.argmax({y}, axis=1)" if len(labels.shape) == 2 and not cure else cure
        raise ValueError(
            f"{y} is {labels.dtype}{list(labels.shape)}: it must be one flat array of class numbers or strings, one an "
            f"example{cure}"
        )
    if not inputs.shape or inputs.shape[0] != labels.shape[0]:
        last = bool(inputs.shape) and inputs.shape[-1] == labels.shape[0]
        raise ValueError(
            f"{x} has shape {inputs.shape} and {y} {labels.shape}: they must have equally many examples"
            + (f"; use np.moveaxis({x}, -1, 0)" if last else "")
        )
    return labels.shape[0]
