"""The cells of the ablation, and what its answer says of rows made here."""

import json

import pytest
from test_compared import row_of

from experiments import ablation
from ugclu_jax.harness.budget import build
from ugclu_jax.harness.catalogue import Setup
from ugclu_jax.harness.config import from_dict
from ugclu_jax.harness.scenarios import SCENARIOS


def entries_of(cell):
    """The methods of a cell, made of nothing that could be run."""
    words = cell.arguments
    methods = list(words[words.index("--methods") + 1 :])
    settings = {**json.loads(json.dumps(cell.settings)), "methods": methods}
    config = from_dict(SCENARIOS[words[words.index("--scenario") + 1]].config, settings)
    setup = Setup(lambda *a, **k: None, lambda key: ({}, {}), 10, num_examples=5000, capacity=config.capacity)
    return build(config, setup), config


def test_every_part_has_a_cell_whose_methods_can_be_made():
    options = ablation.AblationConfig()
    cells = {cell.name: cell for cell in ablation.cells(options)}
    made = {name: entries_of(cell)[0] for name, cell in cells.items()}
    for regime, parts in options.parts.items():
        assert all(part.method in made[f"{regime}-{part.cell}"] for part in parts)
        names = [(part.of, part.name) for part in parts]
        assert len(set(names)) == len(names)
    needed = {(regime, part.cell, part.method) for regime, parts in options.parts.items() for part in parts}
    assert sum(map(len, made.values())) == len(needed) + 2, "each once, and doing nothing"


@pytest.mark.parametrize("regime", ablation.REGIMES)
def test_without_preserving_steps_the_paper_s_form_takes_as_many_outer_steps(regime):
    cells = {cell.name: cell for cell in ablation.cells(ablation.AblationConfig())}
    cost = []
    for name in ("named", "plain-no-preserving"):
        entries, config = entries_of(cells[f"{regime}-{name}"])
        method = entries[ablation.PLAIN_UNLEARNS].method
        cost.append(method.cost("unlearn", config.capacity, 64))
    saliency = 2 * 8  # batches of the statistic, an evaluation each
    # An outer step is one evaluation, and two more where it has inner steps.
    assert (cost[0] - saliency) / 3 == cost[1] - saliency > 10


def test_the_answer_sorts_parts_by_what_they_were_worth():
    rows = {
        ablation.WHOLE: row_of(0.2),
        "a": row_of(0.5),
        "b": row_of(0.1),
        "c": row_of(0.21),
        "d": row_of(0.2, unfinished=1),
    }
    text = ablation.needed(rows)
    assert text.startswith("matched E .200 ±.010 whole; “a” is farther by .300 ±.014; “b” is nearer by .100 ±.014; ")
    assert text.endswith("no difference beyond noise with “c”; seeds were lost with “d”")
    assert ablation.text_of_difference(rows["a"], rows[ablation.WHOLE], "matched") == ".300 ±.014"
    assert ablation.text_of_difference(rows["d"], rows[ablation.WHOLE], "KL") == "–"


def test_unknown_regimes_are_refused():
    with pytest.raises(ValueError, match=r"regimes must be different ones of memorised, classes, got \('tasks',\)"):
        ablation.AblationConfig(regimes=("tasks",))
