"""A plan at work: its data on the devices and the four that use them."""

from typing import NamedTuple

from ugclu_jax.harness.clock import Clock
from ugclu_jax.harness.device_data import DeviceData
from ugclu_jax.harness.evaluator import Evaluator
from ugclu_jax.harness.oracles import Oracles
from ugclu_jax.harness.plan import Plan
from ugclu_jax.harness.predictions import Predictions
from ugclu_jax.harness.server import Server


class Run(NamedTuple):
    """What all methods and seeds of a plan share."""

    plan: Plan
    clock: Clock
    data: DeviceData
    predictions: Predictions
    oracles: Oracles
    server: Server
    evaluator: Evaluator


def start(plan: Plan, clock: Clock) -> Run:
    """Place the data of a plan and make its programs; nothing is compiled yet.

    Raises:
        RunFailed: the data do not fit on the devices.
    """
    data = DeviceData(plan)
    predictions = Predictions(plan, data)
    oracles = Oracles(plan, data, predictions, clock)
    server = Server(plan, data, oracles, clock)
    return Run(plan, clock, data, predictions, oracles, server, Evaluator(plan, predictions, oracles, clock))
