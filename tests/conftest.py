"""Settings that must stand before torch and nnU-Net are imported, for the tests and the commands they start."""

import os

import pytest

os.environ.update(
    # nnU-Net's worker processes import torch anew, 0.9 GB each
    nnUNet_def_n_proc="1",
    nnUNet_npp="0",
    nnUNet_nps="0",
    # two test processes on two cores: threads that spin while they wait would only be in each other's way
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, so that at the end one process does not wait long for the other."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
