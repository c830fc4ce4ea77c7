"""The library's version: a part of what a checkpoint, an oracle and a run know of themselves."""

__version__ = "0.1.0"
