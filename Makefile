# Everything happens in .venv, made from a bare Python >= 3.11; nothing else needs to be installed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := runs/demo
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

.PHONY: install
install: $(STAMP)  ## .venv with medseg and its tools; nothing anew if it is there

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: $(PYTHON) is older than 3.11; try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: demo
demo: $(STAMP)  ## train the default, predict a held-out volume, write the report
	rm -rf $(DEMO)
	$(BIN)/python scripts/train.py runs=$(DEMO)
	$(BIN)/python scripts/predict.py --model $(DEMO)/mni152/* \
	  --input data/MNI152/imagesTr/$$($(BIN)/python -c "import glob, json; \
	    print(json.load(open(glob.glob('$(DEMO)/mni152/*/split.json')[0]))['validation'][0])").nii.gz \
	  --output $(DEMO)/prediction --overwrite
	$(BIN)/python scripts/report.py $(DEMO) --output $(DEMO)/report.html
	@echo
	@echo "Look at  $(DEMO)/report.html            (in a browser)"
	@echo "         $(DEMO)/mni152/*/pictures/     (validation slices as training went)"
	@echo "         $(DEMO)/prediction/            (a label map on its image's grid)"

# one process a core; an idle one takes over tests of a busy one, whatever files they stand in
PARALLEL := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: check
check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

.PHONY: tests
tests: $(STAMP)
	$(PARALLEL) -m "not slow and not gpu"

.PHONY: test
test: $(STAMP)  ## lint, types and all tests but the long ones
	$(MAKE) --jobs=2 check tests

.PHONY: test-all
test-all: test  ## the long tests too (trainings that must reach a Dice)
	$(BIN)/python -m pytest -m "slow and not gpu"

.PHONY: coverage
coverage: $(STAMP)  ## share of the code that the tests run
	$(PARALLEL) -m "not slow and not gpu" --cov --cov-report=term:skip-covered

.PHONY: ablation
ablation: $(STAMP)  ## convolution x upsampling on the default, then the report
	$(BIN)/medseg ablate conv_upsample
	$(BIN)/python scripts/report.py runs/conv_upsample --output runs/conv_upsample/report.html

.PHONY: bench
bench: $(STAMP)  ## every operator and network measured beside its reference, into bench/
	$(BIN)/python -m benchmarks --output bench

.PHONY: levels
levels: $(STAMP)  ## the simulations behind the docs' tables of levels, power and cover; HIPPOCAMPUS=FOLDER for real images
	$(BIN)/python docs/error_rates.py
	$(BIN)/python docs/checkerboard_levels.py $(HIPPOCAMPUS)

.PHONY: house
house: $(STAMP)  ## how large the package is; CHECKOUT=FOLDER for another
	$(BIN)/python benchmarks/house.py $(CHECKOUT)

.PHONY: course
course: $(STAMP)  ## the lectures as pages, into docs/course/build
	cd docs && $(CURDIR)/$(BIN)/python -m course $(if $(FOLDER),$(abspath $(FOLDER)))

.PHONY: clean
clean:  ## remove what make has made, but not runs/ and data/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage*
