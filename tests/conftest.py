"""One thread and the same draws for every test: its sums keep their order, however wide or busy the machine is."""

import json
import os
import platform
import time
from datetime import date
from pathlib import Path

import pytest

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # for the processes that tests start, too: tests run side by side

import numpy as np
import torch


@pytest.fixture(autouse=True, scope="session")
def _from_the_first_fixture():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_every_test():
    torch.set_num_threads(1)  # what a test before this one ran may have changed it
    torch.manual_seed(0)  # a test that draws without a generator of its own draws the same, whatever ran before it
    np.random.seed(0)


@pytest.fixture
def save_always(monkeypatch):
    """Fits write their checkpoint after every epoch, and not twice a minute."""
    from genclust.base import Trainer
    monkeypatch.setitem(Trainer.__init__.__kwdefaults__, "save_every", 0.0)


def pytest_collection_modifyitems(items):
    """The files that take longest go first, so that no process is left alone with one at the end."""
    first = ["test_survival.py", "test_book.py", "test_chapters.py"]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their argument, not by what they hold: an archive holds the second that it was made in,
    and processes that collect in different seconds would then not agree on the tests."""
    return argname if isinstance(val, bytes) else None


# -- the table of faults: what tests/test_survival.py tried, in the words of its own runs ---------------


def pytest_addoption(parser):
    parser.addoption("--faults", type=Path, help="write what the fault tests found to this file (JSON)")


FAULTS = []


@pytest.fixture
def fault(request):
    """``fault(outcome)``, called at the end of a fault test, notes what happened."""
    began = time.monotonic()
    yield lambda outcome: FAULTS.append({
        "test": request.node.originalname, "fault": request.function.__doc__.strip(), "outcome": outcome,
        "seconds": round(time.monotonic() - began, 1)})


def pytest_sessionfinish(session, exitstatus):
    path = session.config.getoption("--faults")
    if path is None:
        return
    if exitstatus != 0 or not FAULTS:
        print(f"\n{path} is left as it was: not every fault test passed")
        return
    from genclust.lab.files import write_atomic
    from genclust.lab.provenance import git_state, processor
    head = {"tried": f"{date.today():%Y-%m-%d}", "commit": git_state()[0], "processor": processor(), "system": platform.system()}
    write_atomic(path, json.dumps({**head, "faults": FAULTS}, indent=1) + "\n")
