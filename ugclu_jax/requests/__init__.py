"""Requests as data: streams of them, what a stream may ask, its JSON, and what is retained and unlearned when."""

from ugclu_jax.requests.json import continued, from_json, to_json, unlearn_named
from ugclu_jax.requests.names import Names
from ugclu_jax.requests.request import Request, Stream
from ugclu_jax.requests.situations import Groups, Situation, drawn, renumbered, rows_of, sides, situations, without
from ugclu_jax.requests.stream import class_wise, learn_tasks, random_sample, split_classes, task_aware
from ugclu_jax.requests.validate import Ledger, validate

__all__ = [
    "Groups",
    "Ledger",
    "Names",
    "Request",
    "Situation",
    "Stream",
    "class_wise",
    "continued",
    "drawn",
    "from_json",
    "learn_tasks",
    "random_sample",
    "renumbered",
    "rows_of",
    "sides",
    "situations",
    "split_classes",
    "task_aware",
    "to_json",
    "unlearn_named",
    "validate",
    "without",
]
