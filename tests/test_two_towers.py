"""Two towers: logits are cosines, a request's gradient reaches both, and retrieval both ways against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.multimodal import among, answer, average_precision, retrieval
from ugclu_jax.evidence import Estimate
from ugclu_jax.models.two_towers import EMOJI, TwoTowers, tokens_of


@pytest.fixture(scope="module")
def made():
    module, pictures = TwoTowers(num_classes=10), jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    params = jax.jit(lambda key: module.init(key, pictures, train=False))(jax.random.key(0))["params"]
    return module, params, pictures


def test_logits_are_scaled_cosines(made):
    module, params, pictures = made
    logits = np.array(module.apply({"params": params}, pictures, train=False))
    assert logits.shape == (4, 10) and np.abs(logits).max() <= 10.001
    doubled = jax.tree.map(lambda x: x, params)
    doubled["log_scale"] = doubled["log_scale"] + np.log(2.0)
    np.testing.assert_allclose(module.apply({"params": doubled}, pictures, train=False), 2 * logits, rtol=1e-4)


def test_a_gradient_of_one_category_reaches_both_towers(made):
    module, params, pictures = made
    moved = jax.grad(lambda p: module.apply({"params": p}, pictures, train=False)[:, 3].sum())(params)
    for tower in ("picture", "text"):
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(moved[tower])), tower


def test_names_are_words():
    ids, words = tokens_of(EMOJI)
    back = [" ".join(words[i - 1] for i in row if i) for row in ids]
    assert back[EMOJI.index("sky & weather")] == "sky weather" and back[1] == "animal bird" and ids.max() == len(words)
    assert list(EMOJI) == sorted(EMOJI) and len(EMOJI) == 38


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes is 7: names are known of 38, 10 classes"):
        TwoTowers(num_classes=7).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)


def test_retrieval_against_loops():
    rng = np.random.default_rng(0)
    sets = {"test": rng.normal(size=(1, 12, 4)), "unlearned_test": rng.normal(size=(1, 6, 4))}
    labels = {"test": np.arange(12) % 3, "unlearned_test": np.full(6, 3)}
    found = [each.mean for each in retrieval(sets, labels)]
    both, which = (
        np.concatenate([sets["test"][0], sets["unlearned_test"][0]]),
        [*labels["test"], *labels["unlearned_test"]],
    )

    def precision(name):
        order = sorted(range(18), key=lambda row: -both[row, name])
        at = [place for place, row in enumerate(order, start=1) if which[row] == name]
        return np.mean([(n + 1) / place for n, place in enumerate(at)])

    assert found[2] == pytest.approx(precision(3)) and found[4] == pytest.approx(
        np.mean([precision(c) for c in range(3)])
    )
    first = [max(range(4), key=lambda c: z[c]) for z in both]
    assert found[0] == np.mean([first[row] == 3 for row in range(12, 18)])
    assert found[3] == np.mean([first[row] == which[row] for row in range(12)])
    assert found[1] == 1.0 and among(both, np.array(which), 1) == np.mean(
        [a == b for a, b in zip(first, which, strict=True)]
    )
    assert average_precision(np.zeros(4), np.array([0, 0, 0, 1], bool)) == 0.25


def test_the_answer_has_both_ways_with_their_noise():
    from ugclu_jax.report.summaries import Statistic

    oracle, near, far = (Statistic(mean, 0.05, 3) for mean in (0.1, 0.12, 0.6))
    said = answer({"oracles": [oracle] * 5, "before": [far] * 5, "ug_clu": [near] * 5}, Estimate(0.3, 0.1))
    assert said.count("before 0.600, above the oracles; ug_clu 0.120, not told from the oracles") == 2
    assert said.endswith("less that of ug_clu: .300 ±.100, a difference beyond noise.")
