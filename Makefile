# make demo: from nothing to a submission on a sample. make test: the tests. Both set up .venv.
# Another Python (3.10 to 3.13): make PYTHON=python3.12 demo
# Libraries of more encoders (timm, open_clip, wordllama): make EXTRAS=encoders install
# What reads a features_file in .parquet: make EXTRAS=parquet install
# A faster decoder of PNGs, if a C++ compiler is there: make EXTRAS=fast_png install
# make docs: docs/config.md, and docs/api/ with a page for each module.
PYTHON ?= python3
EXTRAS ?=
BIN := .venv/bin
SAMPLE := data/sample
RUN := save/sample

.PHONY: demo test lint docs install
demo: install
	$(BIN)/hm_concat sample $(SAMPLE)
	$(BIN)/mmf_run config=projects/concat/sample.yaml run_type=train_val
	$(BIN)/mmf_predict config=projects/concat/sample.yaml
	@echo
	$(BIN)/hm_concat check $(RUN)/submission.csv --data $(SAMPLE) --truth $(SAMPLE)/test_truth.csv
	$(BIN)/hm_concat show $(RUN)/submission.csv $(RUN)/memes.png --data $(SAMPLE) --truth $(SAMPLE)/test_truth.csv --memes 12
	@echo
	@echo "The submission is $(RUN)/submission.csv, the log $(RUN)/train.log, the model $(RUN)/best.ckpt."
	@echo "What the model says of the first test memes is drawn in $(RUN)/memes.png."

test: EXTRAS := encoders,test_encoders
test: install
	@# A worker a core: more threads in each would only wait for each other, and what takes all
	@# cores nevertheless shall not keep them while it waits (benchmarks/busy_cores.py).
	OMP_NUM_THREADS=1 GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest -n auto --dist loadfile

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

docs: install
	$(BIN)/python tools/config_page.py
	$(BIN)/python tools/api_pages.py

install:
	@$(PYTHON) tools/install.py --extras "$(EXTRAS)"
