from multiprocessing.context import SpawnContext

import pytest
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from tiny_dataset import (
    CONFIGURATIONS,
    ID,
    PLANS,
    Home,
    pool_of_threads,
    write_raw_dataset,
    write_splits,
    write_tiny_plans,
)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Home:
    """nnU-Net's folders with a planned and preprocessed data set; one for all of pytest-xdist's processes."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent
    home = Home(folder / "nnunet_home")
    home.once("preprocessed", lambda: prepare(home))
    return home


@pytest.fixture
def in_process(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net's folders for what runs in this process, augmentation and pools too."""
    for name, value in home.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(SpawnContext, "Pool", pool_of_threads)
    # longer than a training here; nnU-Net's commands draw it in their own tests
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)


def prepare(home: Home) -> None:
    write_raw_dataset(home.raw)
    home.run("nnUNetv2_plan_and_preprocess", "-d", ID, "--verify_dataset_integrity", "--no_pp", "-npfp", 1)
    write_tiny_plans(home.preprocessed)
    write_splits(home.preprocessed)
    one_each = ["-np", *[1] * len(CONFIGURATIONS)]
    home.run("nnUNetv2_preprocess", "-d", ID, "-plans_name", PLANS, "-c", *CONFIGURATIONS, *one_each)
