"""The columns of all tables and the curves of all figures: a number, and what it is to be read against."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ugclu_jax.report.metrics import Numbers


def _nothing(numbers: Numbers[Any]) -> None:
    return None


class Column(NamedTuple):
    """A number of a line, or of a summary."""

    title: str
    value: Callable[[Numbers[Any]], Any]
    reference: Callable[[Numbers[Any]], Any] = _nothing  # the oracle's, or the noise floor
    integer: bool = False
    before: Callable[[Numbers[Any]], Any] = _nothing  # what it was before an unlearn request


LA = Column("LA", lambda numbers: numbers.model.LA, lambda numbers: numbers.oracle.LA)
UA = Column(
    "UA",
    lambda numbers: numbers.model.UA,
    lambda numbers: numbers.oracle.UA,
    before=lambda numbers: numbers.before.UA,
)
FM = Column("FM", lambda numbers: numbers.model.FM)
MIA = Column(
    "MIA",
    lambda numbers: numbers.model.MIA.get("loss"),
    lambda numbers: numbers.oracle.MIA.get("loss"),
    before=lambda numbers: numbers.before.MIA.get("loss"),
)
KL_RETAINED = Column(
    "KL retained",
    lambda numbers: numbers.model.KL.retained,
    lambda numbers: numbers.noise_floor.KL.retained,
    before=lambda numbers: numbers.before.KL.retained,
)
KL_UNLEARNED = Column(
    "KL unlearned",
    lambda numbers: numbers.model.KL.unlearned,
    lambda numbers: numbers.noise_floor.KL.unlearned,
    before=lambda numbers: numbers.before.KL.unlearned,
)
KL_TEST = Column(
    "KL test",
    lambda numbers: numbers.model.KL.test,
    lambda numbers: numbers.noise_floor.KL.test,
    before=lambda numbers: numbers.before.KL.test,
)
JS_TEST = Column("JS test", lambda numbers: numbers.model.JS.test, lambda numbers: numbers.noise_floor.JS.test)
TOW = Column("ToW", lambda numbers: numbers.model.ToW)
RELAPSE = Column("relapse", lambda numbers: numbers.model.relapse)
RTE = Column("RTE s", lambda numbers: numbers.timing.RTE)
COMPILATION = Column("compile s", lambda numbers: numbers.timing.compile_seconds)
GRADIENT_EVALUATIONS = Column(
    "gradient evaluations",
    lambda numbers: numbers.cost.gradient_evaluations,
    lambda numbers: numbers.cost.oracle_gradient_evaluations,
    integer=True,
)
