"""What is public says how it is used: an example that runs (the doctests), and every error that it raises itself."""

import inspect
import re

import pytest

import ugclu_jax
from ugclu_jax import data, models, tuning

FUNCTIONS = {
    function: f"{module.__name__}.{name}"
    for module in (ugclu_jax, tuning, models, data)
    for name, function in vars(module).items()
    if name in module.__all__ and inspect.isfunction(function)
}


def test_there_are_functions():
    assert {"ugclu_jax.apply_request", "ugclu_jax.tuning.sweep"} <= set(FUNCTIONS.values())


@pytest.mark.parametrize("function", FUNCTIONS, ids=FUNCTIONS.values())
def test_a_public_function_has_an_example_its_arguments_and_its_errors(function):
    text, source = inspect.getdoc(function) or "", inspect.getsource(function)
    assert ">>> " in text
    signature = inspect.signature(function)
    assert not {signature.return_annotation, *(p.annotation for p in signature.parameters.values())} & {inspect._empty}
    if len(signature.parameters) > 3:  # fewer are named in the first sentence
        assert re.search(r"^Args:|[Aa]rguments (and result )?(are|as)", text, re.MULTILINE)
    if re.search(r"^    raise \w|^        raise \w", source, re.MULTILINE):
        assert "Raises:" in text
