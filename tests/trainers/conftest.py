from pathlib import Path

import pytest
from hand_made import make_affordable, make_folders


@pytest.fixture(autouse=True)
def _nnunet_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, folder in make_folders(tmp_path).items():
        monkeypatch.setenv(name, folder)
    make_affordable(monkeypatch)
