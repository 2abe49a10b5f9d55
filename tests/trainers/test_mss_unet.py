"""MSS U-Net's weights of outputs, and the size of its network."""

from __future__ import annotations

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from hand_made import make_plans, make_trainer
from torch import nn

from nnunet_archs.losses import DeepSupervisionLoss, ExponentialLogLoss
from nnunet_archs.trainers.registry import resolve_paper


def test_weights_of_the_outputs() -> None:
    trainer = resolve_paper("MSSUNetTrainer")
    assert trainer.branch_weights(range(5)) == pytest.approx([0.6, 0.1, 0.1, 0.1, 0.1])
    assert trainer.branch_weights(range(3)) == pytest.approx([0.6, 0.2, 0.2])
    assert trainer.branch_weights(range(1)) == [1]


def test_its_loss_is_of_every_output_but_with_the_options_that_say_otherwise() -> None:
    loss = make_trainer("MSSUNetTrainer", make_plans(3)).loss
    assert isinstance(loss, DeepSupervisionLoss)
    assert isinstance(loss.loss, ExponentialLogLoss)
    assert loss.weights == pytest.approx([0.6, 0.4])
    assert isinstance(make_trainer("MSSUNetTrainer_noDS", make_plans(2)).loss, ExponentialLogLoss)


def test_its_network_is_the_authors_but_for_one_kernel_and_some_biases() -> None:
    """Their first stage has kernels of 3 x 3 x 1 in the encoder alone, and no biases in `up` and heads."""
    widths = (30, 60, 120, 240, 320, 320)
    strides = [1, (1, 2, 2), (1, 2, 2), 2, 2, 2]
    with torch.device("meta"):
        network = PlainConvUNet(
            *(1, 6, widths, nn.Conv3d, 3, strides, 2, 3, 2),
            conv_bias=True,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"affine": True},
            deep_supervision=True,
        )
    built = sum(parameter.numel() for parameter in network.parameters())
    flat = (27 - 9) * widths[0] * (1 + widths[0])
    biases = sum(widths[:5]) + 5 * 3
    assert built - flat - biases == 29_642_540
