"""Crosslink-Net with its attention loss, and the networks of its ablation with cross-entropy alone (Table III)."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn
from typing_extensions import Unpack, override

from nnunet_archs.losses import AttentionLoss, AuxiliaryLoss, CrossEntropyLoss, CrosslinkLoss, SegmentationLoss
from nnunet_archs.losses.attention import AttentionMode
from nnunet_archs.losses.base import LabelKwargs
from nnunet_archs.networks import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink
from nnunet_archs.networks.crosslink import PAPER_BLOCK, AttentionBlock

from .base import PaperTrainer
from .memory import LossSetting
from .options import Option
from .recipes import CROSSLINK_RECIPE


class BranchedTrainer(PaperTrainer):
    """A network of one branch or more, without deep supervision."""

    paper_loss: ClassVar[type[SegmentationLoss] | None] = CrossEntropyLoss  # Table III
    recipe = CROSSLINK_RECIPE
    options: ClassVar[tuple[Option, ...]] = (
        Option(
            spelling="1x1decoder",
            meaning="kernels of 1 in the decoder, as in Table I",
            group="decoder",
            attribute="decoder_kernel",
            value=1,
        ),
    )
    # where the name does not say so, a plan may
    decoder_kernel: ClassVar[int | None] = None
    branches: ClassVar[int | None] = None

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        own = {"decoder_kernel": cls.decoder_kernel, "branches": cls.branches}
        told = {option: value for option, value in own.items() if value is not None}
        return super().architecture_options(configuration) | told


class CrosslinkNetTrainer(BranchedTrainer):
    """Crosslink-Net, its output and two attention maps supervised; without an attention loss, the output alone.

    `tenths` are the weights of cross-entropy, Dice and attention: three digits, whose sum is 10.
    """

    network_class = CrosslinkNet
    options = (
        *BranchedTrainer.options,
        Option(
            spelling="lambda<ABC>",
            meaning="the loss weighs cross-entropy, Dice and attention with A, B and C tenths (Table II)",
            group="weights of the loss",
            attribute="tenths",
            of_paper_loss=True,
        ),
        Option(
            spelling="attention<N>",
            meaning="attention is taken from block N (Figure 7)",
            group="attention's block",
            attribute="attention_block",
            of_paper_loss=True,
        ),
        Option(
            spelling="attentionAll",
            meaning="attention is taken from every block, and its loss is their mean",
            group="attention's block",
            attribute="attention_block",
            value="all",
            of_paper_loss=True,
        ),
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
    tenths: ClassVar[int] = 415
    attention_mode: ClassVar[AttentionMode] = "triple"
    attention_block: ClassVar[AttentionBlock] = PAPER_BLOCK
    branches: ClassVar[int] = 2
    released: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        digits = f"{cls.tenths:03}"
        if (total := sum(map(int, digits))) != 10:
            raise ValueError(
                f"{cls.__name__}: the digits of _lambda{digits} add up to {total}; give three that add up to 10"
            )
        if cls.weights()[2] == 0 and (cls.attention_mode, cls.attention_block) != ("triple", PAPER_BLOCK):
            raise ValueError(
                f"{cls.__name__}: _lambda{digits} leaves attention out, and another option is about it; drop one"
            )

    @classmethod
    def weights(cls) -> list[float]:
        """Weights of cross-entropy, Dice and attention (Eq. 2)."""
        return [int(digit) / 10 for digit in f"{cls.tenths:03}"]

    @classmethod
    def attends(cls) -> bool:
        """Whether the loss has a term of attention."""
        return cls.objective == "paper" and cls.weights()[2] > 0

    @classmethod
    @override
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        own = {"attention": cls.attends(), "attention_block": cls.attention_block}
        return {**super().network_options(configuration), **own}

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {**super().architecture_options(configuration), "released": cls.released}

    @classmethod
    @override
    def new_loss(cls, **labels: Unpack[LabelKwargs]) -> SegmentationLoss:
        cross_entropy, dice, _ = cls.weights()
        return CrosslinkLoss(cross_entropy=cross_entropy, dice=dice, **labels)

    @classmethod
    @override
    def make_loss(cls, setting: LossSetting) -> nn.Module:
        loss = super().make_loss(setting)
        if not cls.attends():
            return loss
        n_blocks = len(setting.target_strides) - 1
        attention = AttentionLoss(
            mode="pairwise" if cls.branches > 2 else cls.attention_mode,
            blocks=n_blocks if cls.attention_block == "all" else 1,
            regions=setting.label_manager.has_regions,
            ignore_label=setting.label_manager.ignore_label,
        )
        return AuxiliaryLoss(loss, attention, weight=cls.weights()[2], n_branches=len(setting.branch_stages))


class VerCrosslinkTrainer(BranchedTrainer):
    """VerCrosslink, of Crosslink-Net's ablation: the vertical branch alone."""

    network_class = VerCrosslink


class HorCrosslinkTrainer(BranchedTrainer):
    """HorCrosslink, of Crosslink-Net's ablation: the horizontal branch alone."""

    network_class = HorCrosslink


class SquareCrosslinkTrainer(BranchedTrainer):
    """SquareCrosslink, of Crosslink-Net's ablation: two branches of square kernels."""

    network_class = SquareCrosslink
    options = (
        *BranchedTrainer.options,
        Option(
            spelling="1branch",
            meaning="one branch, whose three paths have kernels of 3 (Figure 5)",
            group="branches",
            attribute="branches",
            value=1,
        ),
    )


class Double2SingleNetTrainer(BranchedTrainer):
    """Double2SingleNet, of Crosslink-Net's ablation: one branch of all kernels."""

    network_class = Double2SingleNet
