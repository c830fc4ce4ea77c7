"""The line of metrics of a request: what was asked, what the model is after it, what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ugclu_jax import oracle
from ugclu_jax.evaluation import Before, ModelMetrics, as_dict, measure_before, measure_model, undefined
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.oracles import OracleRecord, Oracles
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.server import Served, SharedKey
from ugclu_jax.learner import CLUState


class Evaluator:
    """Measures models; what methods of one learner have in common is measured once."""

    def __init__(self, plan: Plan, predictions: Predictions, oracles: Oracles, clock: Clock) -> None:
        self.plan, self.predictions, self.oracles, self.clock = plan, predictions, oracles, clock
        self.measured: dict[SharedKey, ModelMetrics] = {}

    def measure(
        self, step: Step, served: Served, record: OracleRecord | None, history: Sequence[ModelMetrics]
    ) -> ModelMetrics:
        """The model's own metrics after a request, or those of a method that learned it in the same way."""
        if served.shared is not None and served.shared in self.measured:
            return self.measured[served.shared]
        network = served.state.method
        logits = self.predictions.measured_logits(step.index, network.params, network.model_state)
        view = self.predictions.views[step.index]
        oracles, accuracies = (record.logits, record.metrics.oracle) if record else (None, None)
        own = measure_model(logits, view.labels, view.situation, history, step.index, oracles, accuracies)
        if served.shared is not None:
            self.measured[served.shared] = own
        return own

    def before(self, step: Step, found: CLUState, record: OracleRecord | None) -> Before:
        """The model that an unlearn request found, as it is measured after it: what the request has changed."""
        logits = self.predictions.measured_logits(step.index, found.method.params, found.method.model_state)
        view, oracles = self.predictions.views[step.index], record.logits if record else None
        return measure_before(logits, view.labels, view.situation, step.index, oracles)

    def line(
        self,
        method: str,
        seed: int,
        step: Step,
        served: Served,
        found: CLUState,
        earlier: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """The line of metrics of a request that found a state, after the lines of those before it."""
        request, retained, info = step.request, len(step.situation.retained), served.info
        record = self.oracles.after(step)
        begun = self.clock.spent.get("evaluation", 0.0)
        with self.clock.spending("evaluation"):
            history = [ModelMetrics.from_dict(line["model"]) for line in earlier]
            own = self.measure(step, served, record, history)
            before = self.before(step, found, record) if request.kind == "unlearn" else None
        unmeasured = undefined(step.measured)
        return {
            "method": method,
            "seed": seed,
            "request": step.index,
            "kind": request.kind,
            "name": request.name,
            "examples": len(request.ids),
            "retained": retained,
            "buffer": int(served.state.buffer.count),
            **({"before": as_dict(before)} if before else {}),
            "model": own.to_dict(),
            **({"undefined": unmeasured} if unmeasured else {}),
            **(as_dict(record.metrics) if record else {"oracle": None, "noise_floor": None}),
            "cost": {
                "gradient_evaluations": float(info.gradient_evaluations),
                "oracle_gradient_evaluations": oracle.gradient_evaluations(retained, self.plan.config.oracle),
            },
            "mask_density": {
                jax.tree_util.keystr(path, simple=True, separator="/"): float(value)
                for path, value in jax.tree_util.tree_leaves_with_path(info.mask_density)
            },
            "timing": {
                "RTE": served.cost.seconds,
                "compile_seconds": served.cost.compile_seconds,
                "evaluation_seconds": self.clock.spent["evaluation"] - begun,
                "oracle_seconds": record.seconds if record else None,
            },
        }
