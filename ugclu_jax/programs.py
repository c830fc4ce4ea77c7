"""A program is compiled once: for one device here, for several of them by the layouts of `ugclu_jax.devices`."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax

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


class Layout(NamedTuple):
    """How a program lies on devices. The default is one device; `devices.layout` and `devices.spread` make others."""

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
