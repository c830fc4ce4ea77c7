"""A program is compiled once: for one device here, for several of them by the layouts of `ugclu_jax.devices`."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from ugclu_jax.types import PyTree

Program = Callable[..., PyTree]
Compile = Callable[..., Program]
"""`(function, *arguments) -> program`: the function compiled for arguments like these."""


def compiled(function: Callable[..., PyTree], *arguments: PyTree) -> Program:
    """The function compiled for arguments like these, on one device.

    >>> import jax.numpy as jnp
    >>> compiled(lambda x: 2 * x, jnp.arange(3))(jnp.arange(3)).tolist()
    [0, 2, 4]
    """
    return jax.jit(function).lower(*arguments).compile()


def compiled_once(compile_for: Compile) -> Callable[..., Program]:
    """`find(name, function, *arguments) -> program`: compiled when it is asked for the first time.

    There is one program for each name and for arguments of the same structure, shapes and types.

    >>> import jax.numpy as jnp
    >>> find = compiled_once(compiled)
    >>> find("double", lambda x: 2 * x, jnp.arange(3)) is find("double", lambda x: 2 * x, jnp.ones(3, int))
    True
    """
    programs: dict[tuple[Hashable, ...], Program] = {}

    def find(name: Hashable, function: Callable[..., PyTree], *arguments: PyTree) -> Program:
        leaves, structure = jax.tree.flatten(arguments)
        key = name, structure, *((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in programs:
            programs[key] = compile_for(function, *arguments)
        return programs[key]

    return find


def group_size(number: int, most: int) -> int:
    """Into how large groups a number is divided, as few and as even as can be, so that one program serves them all.

    The last group may be smaller; then less than one place a group is filled up.

    Args:
        number: to divide, 0 or more.
        most: that a group may have.

    Raises:
        ValueError: groups of nothing.

    >>> [group_size(number, 8) for number in (0, 3, 8, 9, 20)]
    [1, 3, 8, 5, 7]
    """
    if most < 1:
        raise ValueError(f"most is {most}: a group must have at least 1")
    return -(-number // -(-number // most)) if number else 1


def filled_to(size: int, tree: PyTree) -> PyTree:
    """A tree with leading axis S, filled up to a size of it with copies of the last entry.

    >>> filled_to(4, np.array([3, 5])).tolist()
    [3, 5, 5, 5]
    """
    rows = np.minimum(np.arange(size), len(jax.tree.leaves(tree)[0]) - 1)
    return jax.tree.map(lambda x: x[rows], tree)


def over_first(function: Callable[..., PyTree], mapped: int, at_once: int | None) -> Callable[..., PyTree]:
    """A function of one entry as a function of S of them: by `vmap`, by `lax.map`, or by `lax.map` of a `vmap`.

    Args:
        function: of arguments without the axis S.
        mapped: the first so many arguments have it, all leaves of them; the others are shared.
        at_once: entries under one `vmap`, the others one after another; None = all.

    >>> times = over_first(lambda x, y: x * y, 1, at_once=1)
    >>> times(np.arange(3), np.array(2)).tolist()
    [0, 2, 4]
    """
    if at_once is None:
        return lambda *arguments: jax.vmap(function, (0,) * mapped + (None,) * (len(arguments) - mapped))(*arguments)

    size = None if at_once == 1 else at_once  # a `vmap` of one would still be another program

    def within(*arguments: PyTree) -> PyTree:
        shared = arguments[mapped:]
        return lax.map(lambda own: function(*own, *shared), arguments[:mapped], batch_size=size)

    return within


class Layout(NamedTuple):
    """How a program lies on devices. The default is one device; `mapped` and `devices` make others."""

    compile: Compile = compiled  # for arguments that `place` has placed
    place: Callable[[PyTree], PyTree] = lambda tree: tree  # before the call
    collect: Callable[[PyTree], PyTree] = lambda tree: tree  # after it
    axis_name: str | None = None  # that the compiled function sees

    def program(self, function: Callable[..., PyTree]) -> Program:
        """`function` laid out so, compiled once for arguments of the same structure, shapes and types."""
        find = compiled_once(self.compile)

        def run(*arguments: PyTree) -> PyTree:
            placed = self.place(arguments)
            return self.collect(find(function, function, *placed)(*placed))

        return run


ONE_DEVICE = Layout()


def mapped(mapped: int = 1, at_once: int | None = None) -> Layout:
    """How one device serves several entries by one program, see `over_first`.

    >>> mapped().program(lambda x, y: x * y)(np.arange(3), np.array(2)).tolist()
    [0, 2, 4]
    """

    def compile_for(function: Callable[..., PyTree], *arguments: PyTree) -> Program:
        return compiled(over_first(function, mapped, at_once), *arguments)

    return Layout(compile_for)
