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


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        config.addinivalue_line("markers", "xdist_group(name): tests that one process runs, with pytest-xdist")
    elif hasattr(config, "workerinput"):
        config.option.loadgroup = True
    elif config.getoption("dist") == "load":
        # `-n 2` alone: tests that depend on one another stay together
        config.option.dist = "loadgroup"
