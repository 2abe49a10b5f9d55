"""Reading nnU-Net's targets."""

from __future__ import annotations

import pytest
import torch

from nnunet_archs.losses import compare


def test_label_map_becomes_one_channel_a_logit() -> None:
    labels = torch.tensor([[[[0, 1, 2, 1]]]], dtype=torch.int16)
    batch = compare(torch.zeros(1, 3, 1, 4), labels)
    assert batch.valid is None
    assert batch.truth[0, :, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    assert batch.foreground[0, :, 0].int().tolist() == [[0, 1, 0, 1], [0, 0, 1, 0]]
    assert batch.is_foreground[0, :, 0].int().tolist() == [[0, 1, 1, 1]]


def test_ignore_label_leaves_truth_and_logits() -> None:
    labels = torch.tensor([[[[1, 3, 2, 3]]]], dtype=torch.int16)
    batch = compare(torch.full((1, 3, 1, 4), 5.0), labels, ignore_label=3)
    assert batch.valid is not None
    assert batch.valid.flatten().tolist() == [True, False, True, False]
    assert batch.foreground[0, :, 0].int().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert batch.logits[0, 0, 0].tolist() == [5.0, 0.0, 5.0, 0.0]


def test_regions_leave_their_ignore_channel() -> None:
    regions = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=torch.bool).view(1, 3, 1, 3)
    batch = compare(torch.zeros(1, 2, 1, 3), regions, regions=True, ignore_label=7)
    assert batch.valid is not None
    assert batch.valid.flatten().tolist() == [True, False, True]
    assert batch.foreground[0, :, 0].int().tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_foreground_logit_is_the_logit_of_the_probability(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = compare(torch.randn(2, channels, 4, 4, generator=generator), torch.zeros(2, 1, 4, 4, dtype=torch.int16))
    torch.testing.assert_close(batch.foreground_logit.sigmoid(), batch.foreground_probability)


def test_foreground_logit_survives_saturation() -> None:
    logits = torch.tensor([200.0, -200.0, 100.0, -50.0]).view(1, 4, 1, 1).requires_grad_()
    batch = compare(logits, torch.zeros(1, 1, 1, 1, dtype=torch.int16))
    assert batch.foreground_logit.flatten().tolist() == [-400.0, -100.0, -250.0]
    batch.foreground_logit.sum().backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [-3.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("shape", "regions", "ignore_label"),
    [
        ((2, 3, 4, 4), False, None),  # channels of one-hot labels
        ((2, 4, 4), False, None),  # no channel axis
        ((2, 1, 4, 3), False, None),  # another grid
        ((1, 1, 4, 4), False, None),  # another batch
        ((2, 1, 4, 4), True, None),  # a label map for regions
        ((2, 4, 4, 4), True, None),  # an ignore channel that nobody announced
        ((2, 3, 4, 4), True, 7),  # none, where one was announced
    ],
)
def test_a_target_that_does_not_fit_is_refused(shape: tuple[int, ...], regions: bool, ignore_label: int | None) -> None:
    with pytest.raises(ValueError, match="does not fit logits of shape"):
        compare(torch.zeros(2, 3, 4, 4), torch.zeros(shape).bool(), regions=regions, ignore_label=ignore_label)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_without_logit_is_refused(label: int) -> None:
    labels = torch.full((1, 1, 2, 2), label, dtype=torch.int16)
    with pytest.raises(RuntimeError, match="out of bounds"):
        compare(torch.zeros(1, 3, 2, 2), labels)
