"""Crosslink-Net with its attention loss, and the networks of its ablation with cross-entropy alone (Table III)."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn
from typing_extensions import override

from nnunet_archs.losses import AttentionLoss, AuxiliaryLoss, CrosslinkLoss
from nnunet_archs.losses.attention import AttentionMode
from nnunet_archs.losses.crosslink import ATTENTION
from nnunet_archs.networks import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink

from .base import PaperTrainer
from .memory import LossSetting
from .options import Option


class CrosslinkNetTrainer(PaperTrainer):
    """Crosslink-Net, without deep supervision; the attention is there where the paper's loss asks for it."""

    network_class = CrosslinkNet
    paper_loss = CrosslinkLoss
    options = (
        Option(
            spelling="pairwise",
            meaning="the attention's loss is the mean correlation of maps and mask, in place of Eq. 1",
            group="attention's loss",
            attribute="attention_mode",
            value="pairwise",
            of_paper_loss=True,
        ),
        Option(
            spelling="3branches",
            meaning="a third branch along the first axis (3D), and _pairwise's loss",
            group="attention's loss",
            attribute="branches",
            value=3,
        ),
        Option(
            spelling="released",
            meaning="the horizontal branch as in the authors' code",
            group="branches",
            attribute="released",
            value=True,
        ),
    )
    attention_mode: ClassVar[AttentionMode] = "triple"
    branches: ClassVar[int] = 2
    released: ClassVar[bool] = False

    @classmethod
    @override
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {**super().network_options(configuration), "attention": cls.recipe == "paper"}

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        own = {"branches": cls.branches, "released": cls.released}
        return {**super().architecture_options(configuration), **own}

    @classmethod
    @override
    def make_loss(cls, setting: LossSetting) -> nn.Module:
        loss = super().make_loss(setting)
        if cls.recipe != "paper":
            return loss
        attention = AttentionLoss(
            mode="pairwise" if cls.branches > 2 else cls.attention_mode,
            regions=setting.label_manager.has_regions,
            ignore_label=setting.label_manager.ignore_label,
        )
        return AuxiliaryLoss(loss, attention, weight=ATTENTION, n_branches=len(setting.branch_stages))


class VerCrosslinkTrainer(PaperTrainer):
    """The vertical branch alone."""

    network_class = VerCrosslink


class HorCrosslinkTrainer(PaperTrainer):
    """The horizontal branch alone."""

    network_class = HorCrosslink


class SquareCrosslinkTrainer(PaperTrainer):
    """Two branches of square kernels."""

    network_class = SquareCrosslink


class Double2SingleNetTrainer(PaperTrainer):
    """One branch of all kernels."""

    network_class = Double2SingleNet
