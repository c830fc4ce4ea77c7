"""What the report says of each unlearn request, from a folder of known networks; what is gone leaves a sentence."""

import re
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from audited_run import AGAIN, METHODS, NOTHING, PNG, UNLEARNING, write_run

from ugclu_jax import data
from ugclu_jax.harness.remains import shown_examples
from ugclu_jax.harness.shown import shown_of, thumbnail
from ugclu_jax.report import evidence, outputs, shown
from ugclu_jax.report.metrics import read_metrics
from ugclu_jax.report.page import write_html
from ugclu_jax.report.ranking import energy_text


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("page") / "run")
    found = evidence.gather(folder, read_metrics(folder), dict.fromkeys(METHODS, "ug_clu"))
    evidence.write(folder, found)
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def page_of(run, **options):
    return write_html(run, **options).read_text(encoding="utf-8")


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_a_request_has_distances_distributions_attacks_and_examples(run):
    page = page_of(run)
    text = text_of(page)
    assert "What request 2 unlearned (request &lt;1&gt;)" in text and "What request 1 unlearned" not in text
    energy = evidence.read(run)[0].energy
    assert energy_text(energy.unlearned) in text and "evidence, not proof" in text
    figures = [
        f for f in re.findall(r"<svg .*?</svg>", page, re.DOTALL) if 'aria-label="margins-2"' in f or "attacks-2" in f
    ]
    assert len(figures) == 2
    for figure in figures:
        ElementTree.fromstring(figure.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        assert all(method in figure for method in METHODS)
    assert all(
        name in figures[0] for name in ("unlearned, models before", "never seen, models after", "unlearned, oracles")
    )
    assert "an oracle held out" in figures[1] and "guessing" in figures[1]


def test_each_example_stands_with_its_loss_before_after_and_the_oracles(run):
    page = page_of(run)
    (table,) = re.findall(r"<table class=\"strip\".*?</table>", page, re.DOTALL)
    oracles = np.load(run / outputs.oracle_file(UNLEARNING))
    models = [np.load(run / outputs.model_file(AGAIN, seed, UNLEARNING)) for seed in range(5)]

    def losses(stack):
        """Of rows 0 and 6, places 0 and 2 in their set, over networks."""
        return [np.mean([np.log(np.exp(z[p]).sum()) - z[p][p % 4] for z in stack]) for p in (0, 2)]

    def row(name):
        (cells,) = re.findall(rf">{re.escape(name)}</th>(.*?)</tr>", table, re.DOTALL)
        return [float(cell) for cell in re.findall(r"<td>(.*?)</td>", cells)]

    assert row("oracles") == pytest.approx(losses(oracles["unlearned"]), abs=0.006)
    assert row(f"after {AGAIN}") == pytest.approx(losses([m["unlearned"] for m in models]), abs=0.006)
    before = pytest.approx(losses([m["before_unlearned"] for m in models]), abs=0.006)
    assert row("before") == before and row(f"after {NOTHING}") == before
    assert f'src="data:image/png;base64,{PNG}"' in table and "a &lt;b&gt;" in table
    assert "a \\x1b[2J&lt;i&gt;text&lt;/i&gt;" in table and "\x1b" not in page


def test_the_page_loads_nothing_and_says_that_it_is_a_trace_itself(run):
    page = page_of(run)
    assert all(each.startswith("data:image/png;base64,") for each in re.findall(r'src="([^"]*)"', page))
    assert not re.findall(r"https?:|@import|<link|<script", page)
    assert shown.is_in(run / "report.html") and "This page therefore holds traces" in page
    assert [each.path.name for each in shown_examples(run)] == [f"{UNLEARNING}.json", "report.html"]


def test_without_the_flag_no_example_is_in_the_page(run):
    page = page_of(run, show_unlearned=False)
    assert PNG not in page and not shown.is_in(run / "report.html") and "data:image" not in page
    assert "left out, as --no-show-unlearned asks" in text_of(page)


def test_what_is_gone_leaves_a_sentence(run):
    (run / shown.name_of(UNLEARNING)).unlink()
    (run / outputs.model_file(NOTHING, 3, UNLEARNING)).unlink()
    text = text_of(page_of(run))
    assert "No unlearned examples are shown" in text
    assert f"{NOTHING}: outputs of seed 3 are not in the run&#39;s folder." in text
    (run / outputs.oracle_file(UNLEARNING)).unlink()
    page = page_of(run)
    assert "the outputs of the oracles (oracles/1.npz) are not in the run&#39;s folder" in text_of(page)
    assert "margins-2" not in page and "E counterfactual" in page, "distances were kept"


@pytest.mark.parametrize("content", ["[", "[{}]", "3", '[{"row": 0, "label": "a", "kind": "picture", "content": "<"}]'])
def test_damaged_examples_are_named(run, content):
    (run / shown.name_of(UNLEARNING)).write_text(content)
    with pytest.raises(ValueError, match=r"unlearned/1\.json' is damaged .* delete it to go on without it"):
        write_html(run)


def test_examples_of_data_are_pictures_or_texts_or_nothing(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (20, 9, 100, 3), dtype=np.uint8)
    made = data.from_arrays("toy", pictures, np.arange(20) % 2, pictures[:2] // 2, [0, 1])
    (one, two) = shown_of(made, np.array([3, 4]))
    assert (one.row, two.row, one.kind, one.label) == (3, 4, shown.PICTURE, "1")
    assert one.content == thumbnail(pictures[3]) and len(one.content) < 3000
    vectors = data.from_arrays("toy", pictures[:, 0, :, 0], np.arange(20) % 2, pictures[:2, 0, :, 1], [0, 1])
    assert shown_of(vectors, np.array([3])) == []
    pytest.importorskip("tokenizers")
    for split, texts in (("train", ["good film", "bad film"]), ("test", ["film one", "film two"])):
        lines = "".join(f"{text},{label}\n" for text, label in zip(texts, "ud", strict=True))
        (tmp_path / f"{split}.csv").write_text("text,label\n" + lines)
    from ugclu_jax.data import text as texts_of_files

    loaded = texts_of_files.load(tmp_path, text_length=8, vocabulary_size=300, cache_dir=tmp_path / "cache")
    assert [each.content for each in shown_of(loaded, np.array([0, 1]))] == ["good film", "bad film"]
    loaded.tokenizer.unlink()
    assert shown_of(loaded, np.array([0])) == []
