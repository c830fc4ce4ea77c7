"""Experiments: one module each, run as `python -m experiments.NAME --help`.

Installed, without a checkout, they are `python -m ugclu_jax.experiments.NAME`.
"""

import sys

from ugclu_jax import extras

try:
    extras.require("run")
except extras.MissingExtraError as error:
    sys.exit(f"Error: {error}")  # nothing here is imported but to be run: a program says what is wrong in one line
