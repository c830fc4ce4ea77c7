"""The line of metrics of a request: what was asked, what the model is after it, what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from ugclu_jax import oracle
from ugclu_jax.evaluation import Before, Logits, ModelMetrics, as_dict, measure_before, measure_model, undefined
from ugclu_jax.harness.answers import answered, answers
from ugclu_jax.harness.catalogue import split_name
from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.oracles import Oracles
from ugclu_jax.harness.outputs import write_model
from ugclu_jax.harness.plan import Plan, Step
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.server import Served, SharedKey
from ugclu_jax.learner import CLUState


class Evaluator:
    """Measures models; what methods of one learner have in common is measured once."""

    def __init__(self, plan: Plan, predictions: Predictions, oracles: Oracles, clock: Clock) -> None:
        self.plan, self.predictions, self.oracles, self.clock = plan, predictions, oracles, clock
        self.measured: dict[SharedKey, ModelMetrics] = {}

    def outputs(self, method: str, step: Step, state: CLUState) -> Logits:
        """Outputs that count as a method's after a request: its network's, or what is made of them."""
        network, unlearner = state.method, split_name(method)[1]
        logits = self.predictions.measured_logits(step.index, network.params, network.model_state)
        if not answers(unlearner, step):
            return logits
        train_labels = self.plan.scenario.dataset.train_labels
        return answered(unlearner, logits, step, train_labels, self.oracles.of(step).logits)

    def measure(
        self, method: str, seed: int, step: Step, served: Served, found: CLUState, history: Sequence[ModelMetrics]
    ) -> tuple[ModelMetrics, Before | None]:
        """The model's own metrics after a request, or those of a method that learned it in the same way.

        And of the model that an unlearn request found: what the request has changed. Outputs of both are kept.
        """
        if served.shared is not None and served.shared in self.measured:
            return self.measured[served.shared], None
        record = self.oracles.after(step)
        oracles, accuracies = (record.logits, record.metrics.oracle) if record else (None, None)
        after, earlier, before = self.outputs(method, step, served.state), None, None
        labels, situation = step.view.labels, step.view.situation
        own = measure_model(after, labels, situation, history, step.index, oracles, accuracies)
        if step.request.kind == "unlearn":
            earlier = self.predictions.measured_logits(step.index, found.method.params, found.method.model_state)
            before = measure_before(earlier, labels, situation, step.index, oracles)
        write_model(self.plan, method, seed, step, after, earlier)
        if served.shared is not None:
            self.measured[served.shared] = own
        return own, before

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
            own, before = self.measure(method, seed, step, served, found, history)
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
