"""A model in a folder: it learns, unlearns, is audited and proves what was done, from Python or the command line."""
