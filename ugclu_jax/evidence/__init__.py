"""Are models after unlearning distributed like models that never saw the data? Logits in, typed numbers out."""

from ugclu_jax.evidence.baselines import cool, mask_logits, mean_of_oracles
from ugclu_jax.evidence.energy import (
    EnergyDistance,
    energy_distance,
    fresh_standard_error,
    matched_energy_distance,
    matching_temperatures,
)
from ugclu_jax.evidence.klom import gaussian_klom, klom, margins

__all__ = [
    "EnergyDistance",
    "cool",
    "energy_distance",
    "fresh_standard_error",
    "gaussian_klom",
    "klom",
    "margins",
    "mask_logits",
    "matched_energy_distance",
    "matching_temperatures",
    "mean_of_oracles",
]
