"""Are models after unlearning distributed like models that never saw the data? Logits in, typed numbers out."""

from ugclu_jax.evidence.energy import EnergyDistance, energy_distance, matched_energy_distance
from ugclu_jax.evidence.klom import gaussian_klom, klom, margins

__all__ = [
    "EnergyDistance",
    "energy_distance",
    "gaussian_klom",
    "klom",
    "margins",
    "matched_energy_distance",
]
