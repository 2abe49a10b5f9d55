"""Attention U-Net in nnU-Net's training, which the paper's own resembles: Dice, deep supervision, a U-Net."""

from __future__ import annotations

from nnunet_archs.networks import AttentionUNet
from nnunet_archs.networks.released_attention_unet import ReleasedAttentionUNet

from .encoders import EncoderTrainer
from .improved_skip import ArchitectureTrainer
from .options import Option
from .recipes import FOCUSNET_RECIPE


class AttentionUNetTrainer(EncoderTrainer, ArchitectureTrainer):
    """Attention U-Net, supervised at X[i, L-i], i < L."""

    network_class = AttentionUNet
    recipe = FOCUSNET_RECIPE
    options = (
        *EncoderTrainer.options,
        Option(
            spelling="released",
            meaning="the Attention U-Net of FocusNet++'s authors' code, without convolutions in the decoder",
            group="network",
            attribute="network_class",
            value=ReleasedAttentionUNet,
            against=("encoder",),
        ),
    )
