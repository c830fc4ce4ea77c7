"""Requests as data: streams of them, what a stream may ask, its JSON, and what is retained and unlearned when."""

from ugclu_jax.requests.json import continued, from_json, to_json
from ugclu_jax.requests.names import Names
from ugclu_jax.requests.request import Request, Stream
from ugclu_jax.requests.situations import Groups, Situation, drawn, rows_of, situations
from ugclu_jax.requests.stream import class_wise, random_sample, split_classes, task_aware
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
    "random_sample",
    "rows_of",
    "situations",
    "split_classes",
    "task_aware",
    "to_json",
    "validate",
]
