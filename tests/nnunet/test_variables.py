"""The variables that nnU-Net's commands get."""

from __future__ import annotations

import pytest

from nnunet_archs.nnunet.commands import for_training, variables

AUGMENTERS = "nnUNet_n_proc_DA"


@pytest.mark.parametrize(
    ("users", "device", "planning", "training"),
    [
        ("0", "cpu", "1", "0"),
        ("0", "cuda", "1", "0"),
        ("6", "cpu", "6", "0"),
        ("6", "cuda", "6", "6"),
        (None, "cuda", None, None),
        (None, "cpu", None, "0"),
    ],
)
def test_no_process_that_augments_is_for_training_alone(
    users: str | None, device: str, planning: str | None, training: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnU-Net's planning fails with 0: set_num_threads expects a positive integer."""
    monkeypatch.delenv(AUGMENTERS, raising=False)
    if users is not None:
        monkeypatch.setenv(AUGMENTERS, users)
    assert variables(device).get(AUGMENTERS) == planning
    assert (variables(device) | for_training(device)).get(AUGMENTERS) == training
