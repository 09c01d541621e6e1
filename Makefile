# `make help` lists the targets. Everything is installed into .venv; PYTHON=python3.12 names another Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(wildcard notebooks/*.py)

.DELETE_ON_ERROR:
.PHONY: help book test bench faults notebooks clean

help:
	@echo "make book       run the chapters that changed and build the HTML"
	@echo "make test       run all tests"
	@echo "make bench      time the library against other implementations"
	@echo "make faults     kill, fill and cut for real, and write the book's table of what a run survived"
	@echo "make notebooks  write every notebooks/*.ipynb anew from its .py"
	@echo "make clean      remove what was built; unfinished runs, records, data and .venv stay"

book: $(VENV)/.installed
	@$(BIN)/genclust book

test: $(VENV)/.installed
	@$(BIN)/python -m pytest

bench: $(VENV)/.installed-bench
	@$(BIN)/python tests/bench.py
	@$(BIN)/python tests/bench_transport.py

faults: $(VENV)/.installed
	@$(BIN)/python -m pytest -n 0 tests/test_survival.py --faults book/faults.json --deselect \
		tests/test_survival.py::test_the_book_lists_the_faults_that_are_tried_here

# --update keeps the cells' ids, so that only what changed shows in a diff; it would keep outputs too.
define CLEAR_OUTPUTS
import sys, nbformat
for path in sys.argv[1:]:
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    nbformat.write(notebook, path)
endef
export CLEAR_OUTPUTS

notebooks: $(VENV)/.installed
	@$(BIN)/jupytext --quiet --update --to ipynb $(SOURCES)
	@$(BIN)/python -c "$$CLEAR_OUTPUTS" $(SOURCES:.py=.ipynb)
	@echo "written: $(SOURCES:.py=.ipynb)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "genclust needs Python 3.11 or later, and '$(PYTHON)' is not that: name one with 'make PYTHON=python3.12 ...'"; \
		exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# Not the binary as such: its date is that of the system's Python.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing genclust and what the book and the tests need (once; some minutes)"
	@$(PIP) install -q -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "installing what the benchmark compares with"
	@$(PIP) install -q -c constraints.txt -e '.[bench]'
	@touch $@

clean:
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name runs -exec rm -rf {} +; fi
	@echo "removed what was built; unfinished runs, records, data and $(VENV) are kept"
