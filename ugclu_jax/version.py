"""The version of this library: a run, each of its checkpoints and each oracle on file know which one made them."""

VERSION = "0.1.0"
