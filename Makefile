# Every command of the project. PYTHON picks another interpreter: `make test PYTHON=python3.13`.
PYTHON ?= python3
VENV := $(if $(filter python3,$(PYTHON)),.venv,.venv-$(notdir $(PYTHON)))
BIN := $(VENV)/bin

.PHONY: demo test test-all test-torch bench docs lint clean data-openclipart data-emoji data-r8 data-mails weights-lite0 weights-minilm test-gpu

demo: $(VENV)/installed-run
	$(BIN)/python -m experiments.task_aware

# In the order of the list: the doctests, short ones all, come last and even out what is left.
test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# And what is long by nature.
test-all: test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

test-torch: $(VENV)/installed-torch
	$(BIN)/python -m pytest tests/test_torch_parity.py tests/test_torch_encoders.py tests/test_benchmarks.py -k torch

# What another device may break: how products round, how convolutions are lowered, how arrays are placed and kept. For a
# machine with a GPU; JAX takes it by itself.
GPU_TESTS := conv head norm resnet transformers analytic components fast_slow output_budget saliency optimizer decay \
    losses membership oracle ensemble ugclu streaming kept_arrays
test-gpu: $(VENV)/installed-test
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(BIN)/python -m pytest -n 0 -m "not slow" $(GPU_TESTS:%=tests/test_%.py)

# The site, with the API from the docstrings and the notebooks run; opens from disk: docs/_build/html/index.html.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Rewrites docs/benchmarks.md; for an idle machine.
bench: $(VENV)/installed-torch
	$(BIN)/python -m benchmarks

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Colour pictures for image_folder, and texts for text; none of them is in the repository.
data-openclipart: data/openclipart
data-emoji: data/emoji
data-r8: data/r8
data-mails: data/mails

data/openclipart: | $(VENV)/installed-run
	$(BIN)/python -m ugclu_jax.data.openclipart $@

data/emoji: | $(VENV)/installed-run
	$(BIN)/python -m ugclu_jax.data.emoji $@

data/r8: | $(VENV)/installed-text
	$(BIN)/python -m ugclu_jax.data.reuters $@

data/mails: | $(VENV)/installed-text
	$(BIN)/python -m ugclu_jax.data.mails $@

# Pretrained weights of others, Apache License 2.0; none of them is in the repository.
weights-lite0: weights/lite0.safetensors
weights-minilm: weights/minilm

weights/lite0.safetensors: | $(VENV)/installed-run
	$(BIN)/python -m ugclu_jax.models.lite0_weights $@

weights/minilm: | $(VENV)/installed-text
	$(BIN)/python -m ugclu_jax.models.minilm_weights $@

# One environment that grows: what the demo needs, then the tests', then PyTorch; and the site's.
$(VENV)/installed-run: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[run]'
	touch $@

$(VENV)/installed-text: $(VENV)/installed-run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[run,text]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed-run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/installed-torch: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,torch]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed-run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-* .pytest_cache .ruff_cache .mypy_cache .hypothesis docs/_build
