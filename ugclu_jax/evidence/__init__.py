"""Are models after unlearning distributed like models that never saw the data? Logits in, typed numbers out."""

from ugclu_jax.evidence.baselines import NoTemperatureError, cool, mask_logits, mean_of_oracles
from ugclu_jax.evidence.challenge import ForgettingQuality, challenge_score, forgetting_quality
from ugclu_jax.evidence.energy import EnergyDistance, energy_distance, fresh_standard_error, matched_energy_distance
from ugclu_jax.evidence.gaps import Rates, average_gap, tow, tow_mia
from ugclu_jax.evidence.klom import gaussian_klom, klom, margins
from ugclu_jax.evidence.lira import Attack, u_lira
from ugclu_jax.evidence.operating import ROC, TruePositives, roc, true_positives_at
from ugclu_jax.evidence.relative import RelativeTest, relative_test
from ugclu_jax.evidence.rmia import rmia
from ugclu_jax.evidence.stream import erosion, plasticity, reversal
from ugclu_jax.evidence.trend import Estimate, PairDistances, pair_distances, slope_weights, weighted_energy

__all__ = [
    "ROC",
    "Attack",
    "EnergyDistance",
    "Estimate",
    "ForgettingQuality",
    "NoTemperatureError",
    "PairDistances",
    "Rates",
    "RelativeTest",
    "TruePositives",
    "average_gap",
    "challenge_score",
    "cool",
    "energy_distance",
    "erosion",
    "forgetting_quality",
    "fresh_standard_error",
    "gaussian_klom",
    "klom",
    "margins",
    "mask_logits",
    "matched_energy_distance",
    "mean_of_oracles",
    "pair_distances",
    "plasticity",
    "relative_test",
    "reversal",
    "rmia",
    "roc",
    "slope_weights",
    "tow",
    "tow_mia",
    "true_positives_at",
    "u_lira",
    "weighted_energy",
]
