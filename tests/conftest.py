"""One thread for every test: sums keep their order, however wide or busy the machine is."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _from_the_first_fixture():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_every_test():
    torch.set_num_threads(1)  # what a test before this one ran may have changed it
