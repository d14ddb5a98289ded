# make demo: Neuron Shapley on drawn portraits, no data needed. make test: lint and tests.
# The other studies: demo-shortcut (a planted shortcut, on the same portraits), demo-cdep (training
# not to use a decoy, on small digits), demo-fairwashing (a false explanation, on small digits),
# demo-income (relevance and fairness, on a drawn table). All set up .venv/ first.

PYTHON = .venv/bin/python
DEMO = --DATA_DIR=demo/data --RECORDS_DIR=demo --IMAGE_SIZE=64

.PHONY: demo demo-shortcut demo-cdep demo-fairwashing demo-income test lint format

demo: .venv/installed
	test -d demo/data || $(PYTHON) datasets.py --DRAW=demo/data --IMAGE_SIZE=64 --SEED=2
	test -f demo/squeezenet.pth || $(PYTHON) train_squeeze.py $(DEMO) --WEIGHTS=none --EPOCHS=8 --LEARNING_RATE=0.001
	$(PYTHON) mab.py $(DEMO) --IMAGES_PER_ROUND=64 --TRUNCATION=0.7 --MAX_ROUNDS=160
	$(PYTHON) eval.py $(DEMO) --MAX_REMOVED=20 --RANDOM_ORDERS=5

demo-shortcut: .venv/installed
	test -d demo/data || $(PYTHON) datasets.py --DRAW=demo/data --IMAGE_SIZE=64 --SEED=2
	$(PYTHON) shortcut.py --DATA_DIR=demo/data --RECORDS_DIR=demo/shortcut --IMAGE_SIZE=64 --WEIGHTS=none --EPOCHS=6 --LEARNING_RATE=0.001 --STRENGTH=0.99 --CHOOSING=100 --IMAGES=300 --FOLDS=2 --MAX_REMOVED=40 --REPAIR_NAMES="gradient anew;last-layer retraining;threshold shift;random filters"

demo-income: .venv/installed
	test -d demo/table || $(PYTHON) datasets.py --TASK=adult --DRAW=demo/table
	$(PYTHON) income.py --DATA_DIR=demo/table --RECORDS_DIR=demo/income --SEEDS=3 --DROPPED_SEEDS=3 --PENALISED_SEEDS=3 --ARCH=D64-RELU-D32-BN-RELU-D16-BN-RELU-D2-SIGMOID

demo-cdep: .venv/installed
	$(PYTHON) cdep.py --RECORDS_DIR=demo/cdep --SEEDS=3 --SEARCH_SEEDS=3

demo-fairwashing: .venv/installed
	$(PYTHON) fairwashing.py --RECORDS_DIR=demo/fairwashing --EPOCHS=40,40,20,20 --BATCH_SIZE=32 --TEACHER_EPOCHS=8

test: lint
	$(PYTHON) -m pytest -q -n auto --dist loadfile --durations=5

lint: .venv/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

format: .venv/installed-dev
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

.venv/installed: requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
