# The whole tool belt: make demo, make test, make lint, make bench, make gpu, make coverage, make torture, make cluster, make docs.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test lint bench gpu coverage torture cluster docs

demo: .venv/ready
	$(BIN)/topwork demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The folder of a checkout may have any name, and mypy wants that of the package: check through a link outside the tree.
lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	link=$$(mktemp -d) && ln -s "$(CURDIR)" "$$link/topwork" && cd "$$link" && trap 'rm -rf "$$link"' EXIT && \
	"$(CURDIR)/$(BIN)/mypy" --config-file topwork/pyproject.toml -p topwork && \
	PYTHONPATH="$$link" "$(CURDIR)/$(BIN)/lint-imports" --config topwork/pyproject.toml --no-cache && \
	"$(CURDIR)/$(BIN)/numpydoc" lint --config topwork $$(cd topwork && git ls-files 'extract/*.py' 'heads/*.py' 'models/*.py' 'pipelines/*.py' | sed 's|^|topwork/|')

# Hours; leave the machine to it. Each script replaces its own section of docs/benchmarks.md.
bench: .venv/bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/large_networks.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/familiar.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/texts.py
	$(BIN)/python benchmarks/images.py
	$(BIN)/python benchmarks/any_size.py
	$(BIN)/python benchmarks/fidelity.py
	$(BIN)/python benchmarks/fastest.py
	$(BIN)/python benchmarks/finetuning.py
	$(BIN)/python benchmarks/banking77.py
	if $(BIN)/python -c 'import torch; raise SystemExit(not torch.cuda.is_available())'; then $(MAKE) gpu; fi

# Eight minutes on a machine with a GPU; elsewhere a test of the script, which writes no figures into the page.
gpu: .venv/ready
	$(BIN)/python benchmarks/gpu.py

# About half an hour: workers, nodes and drivers of a local Ray cluster die, and Spark and Dask run the examples.
cluster: .venv/cluster
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python -m pytest tests/pipelines/test_frames.py tests/examples/test_cluster_examples.py

.venv/cluster: .venv/ready
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint requirements.lock --editable '.[cluster]'
	touch $@

# The peers, without another version of anything that is pinned.
.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint requirements.lock --editable '.[bench]'
	touch $@

# Hours: the tests that the suite leaves out, and every architecture in a process of its own, which is exported, and of
# some of which the upper part is compared with the network. An interrupted run resumes.
coverage: .venv/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m coverage
	$(BIN)/python benchmarks/image_processors.py
	$(BIN)/python benchmarks/upper_parts.py
	$(BIN)/python benchmarks/coverage.py

# About two hours: 80 jobs are interrupted, 200 bits of stores flipped, bundles loaded 2,000 times, predictions killed;
# images, tables, archives, ONNX files and bundles are damaged, 2,000 of each.
torture: .venv/ready
	$(BIN)/python benchmarks/torture.py
	$(BIN)/python benchmarks/bit_flips.py
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/predictions.py
	$(BIN)/python benchmarks/fuzz.py --count 2000

docs: .venv/ready
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
