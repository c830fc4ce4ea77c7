"""Numbers of an audit against closed forms and loops; what it says, keeps and cannot say."""

import shutil

import jax
import numpy as np
import pytest
from living_cases import root

from benchmarks import ledger
from ugclu_jax.living import audit, measures
from ugclu_jax.living.model import LivingModel


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "model"
    shutil.copytree(root() / "model", folder)
    model = LivingModel.open(folder)
    model.learn(str(root() / "second.npz"), method="finetune")
    model.unlearn(where="user <= 1", method="finetune_remain")
    return model, model.audit(references=3, oracle=True)


def test_area_is_the_share_of_pairs_and_its_error_the_formula():
    draw = np.random.default_rng(0)
    members, others = draw.normal(1, 1, 30), draw.normal(0, 1, 40)
    found = measures.area(members, others)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in members for b in others])
    q1, q2 = wins / (2 - wins), 2 * wins**2 / (1 + wins)
    error = np.sqrt((wins * (1 - wins) + 29 * (q1 - wins**2) + 39 * (q2 - wins**2)) / 1200)
    assert found.value == pytest.approx(wins) and found.high - found.value == pytest.approx(1.96 * error, rel=1e-4)


def test_intervals_cover():
    """Of 400 samples the 95 % intervals hold the true value about as often."""
    draw = np.random.default_rng(1)
    shares = [measures.share(draw.random(40) < 0.3) for _ in range(400)]
    means = [measures.mean(draw.normal(2, 1, 40)) for _ in range(400)]
    areas = [measures.area(draw.normal(0, 1, 40), draw.normal(0, 1, 40)) for _ in range(400)]
    for found, true in ((shares, 0.3), (means, 2.0), (areas, 0.5)):
        assert 0.9 < np.mean([each.low <= true <= each.high for each in found]) <= 1


def test_an_audit_finds_the_examples_again_and_says_what_it_is(audited):
    model, found = audited
    assert found["request"] == 3 and found["now"]["unlearned"]["count"] == model.request(3).body["trained"]
    assert found["rmia"]["references"] == 3 and 0 <= found["rmia"]["area"][0] <= 1
    assert set(found["oracle"]) == {"held_out", "unlearned"}
    assert found["sentences"][-1] == audit.EVIDENCE
    entry = model.history()[-1]
    assert entry.kind == "audit" and entry.body["found"] == found and len(entry.body["references"]) == 3
    assert model.verify().problems == ()


def test_references_are_kept_until_purged(audited):
    model, found = audited
    files = sorted((model.store.path / "references").rglob("*.npz"))
    before = [path.stat().st_mtime_ns for path in files]
    assert model.audit(references=3)["rmia"] == found["rmia"], "the same networks"
    assert [path.stat().st_mtime_ns for path in files] == before
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    assert any("is not the network that an audit trained" in each for each in model.verify().problems)
    listed = model.purge(dry_run=True)
    assert listed.removed and files[0].exists()
    assert model.purge().removed == listed.removed and not files[0].exists() and model.verify().problems == ()


def test_distances_are_the_formula(audited):
    """By loops over inputs and networks."""
    model, _ = audited
    held = model.held()
    inputs = np.load(root() / "first.npz")["x"][:12]
    draws = np.random.default_rng(2)
    shaken = [
        jax.tree.map(lambda x: x + draws.normal(0, 0.05, x.shape).astype(np.float32), held.params) for _ in range(3)
    ]
    networks = [(params, held.model_state) for params in shaken]
    found = audit.distances(held, networks, inputs)

    def roots(params):
        logits = held._replace(params=params).logits(inputs).astype(float)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return np.sqrt(shares / shares.sum(1, keepdims=True))

    own, theirs = roots(held.params), [roots(params) for params in shaken]

    def distance(a, b):
        return np.sqrt(((a - b) ** 2).sum(1) / 2)

    across = np.mean([distance(own, each) for each in theirs], axis=0)
    among = np.mean([distance(a, b) for i, a in enumerate(theirs) for j, b in enumerate(theirs) if i != j], axis=0)
    assert found["hellinger"] == pytest.approx(across.mean(), abs=1e-5)
    assert found["hellinger_floor"] == pytest.approx(among.mean(), abs=1e-5)
    assert found["excess"][0] == pytest.approx((across - among).mean(), abs=1e-5)


def test_what_cannot_be_audited_is_refused(audited, tmp_path):
    model, _ = audited
    for number, message in ((1, "entry 1 is of kind init"), (99, "there is no entry 99")):
        with pytest.raises(ValueError, match=message):
            model.audit(number)
    with pytest.raises(ValueError, match="references is 1"):
        model.audit(references=1)
    fresh = LivingModel.open(root() / "model")
    shutil.copytree(fresh.store.path, tmp_path / "model")
    with pytest.raises(ValueError, match="nothing was unlearned yet"):
        LivingModel.open(tmp_path / "model").audit()


def test_without_the_examples_the_request_s_own_numbers_stand(tmp_path):
    shutil.copytree(root() / "model", tmp_path / "model")
    model = LivingModel.open(tmp_path / "model")
    shutil.copy(root() / "second.npz", tmp_path / "gone.npz")
    model.learn(str(tmp_path / "gone.npz"), method="finetune")
    keys = tuple(f"e{n}" for n in range(150, 180))
    model.unlearn(files=keys, method="finetune_remain")
    (tmp_path / "gone.npz").unlink()
    found = model.audit(references=2)
    assert "now" not in found and found["rmia"] is None
    assert any("None of them is at hand any more" in each for each in found["sentences"])
    assert any("it says nothing" in each for each in found["sentences"])


def test_the_benchmark_of_ledgers_runs(capsys):
    assert ledger.main((300,)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| 300 |")
