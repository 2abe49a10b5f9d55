"""UNet# (arXiv:2205.11759) and the networks that it is measured against, with its hybrid loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from typing_extensions import override

from nnunet_archs.losses import AuxiliaryLoss, HybridLoss, PresenceLoss
from nnunet_archs.networks import (
    CanonicalUNet3Plus,
    CanonicalVNet3Plus,
    UNet,
    UNet3Plus,
    UNetPlusPlus,
    UNetSharp,
    VNet,
    VNet3Plus,
    VNetPlusPlus,
    VNetSharp,
)
from nnunet_archs.networks.guidance import ClassificationGuidedModule
from nnunet_archs.networks.parts.contract import Supervision

from .base import PaperTrainer, end_command
from .encoders import EncoderTrainer
from .memory import LossSetting
from .options import Option
from .recipes import UNET_SHARP_RECIPE


class HybridTrainer(PaperTrainer):
    """The paper's loss, the mean over all supervised branches (section 2.2)."""

    paper_loss = HybridLoss
    recipe = UNET_SHARP_RECIPE


class PrunableTrainer(HybridTrainer):
    """A network with the outputs X[0, 1..L], any of which can be its last: the levels of section 2.4.

    Options of the name set them: `level` is trained on its own (the paper's isolated training), `pruned_to` is cut out
    of a trained network by `nnunet-archs prune` (embedded training), and cannot be trained.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option(
            spelling="L<N>",
            meaning="the network pruned to level N, trained on its own",
            group="level",
            attribute="level",
        ),
        Option(
            spelling="pruned<N>",
            meaning="level N cut out of a trained network by nnunet-archs prune",
            group="level",
            attribute="pruned_to",
        ),
    )
    level: ClassVar[int | None] = None
    pruned_to: ClassVar[int | None] = None

    @classmethod
    @override
    def check_fold(cls, plans: dict[str, Any], configuration: str, fold: int) -> None:
        # nnU-Net's --val takes a pruned network, which has to be there already
        if cls.pruned_to is None:
            return
        manager = PlansManager(plans)
        model = (manager.dataset_name, cls.__name__, manager.plans_name, configuration)
        if not Path(get_output_folder(*model, fold), "checkpoint_final.pth").is_file():
            raise cls.cannot_be_trained()

    @classmethod
    def cannot_be_trained(cls) -> ValueError:
        """What is wrong with training a pruned network."""
        return ValueError(
            f"{cls.__name__} cannot be trained: train the name without _pruned{cls.pruned_to}, then cut it out with "
            f"nnunet-archs prune, or train _L{cls.pruned_to} on its own"
        )

    @classmethod
    @override
    def check_plans(cls, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> tuple[int, ...]:
        stages = super().check_plans(plans, configuration, dataset_json)
        n_stages = len(cls.stage_strides(PlansManager(plans).get_configuration(configuration)))
        level = cls.pruned_to or cls.level
        if level == n_stages - 1:
            raise ValueError(
                f"{cls.__name__}: level {level} is the whole network of {n_stages} stages; name a level below it, "
                "or none"
            )
        return stages

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        level = cls.pruned_to or cls.level
        return super().architecture_options(configuration) | ({} if level is None else {"level": level})

    @classmethod
    @override
    def chosen_supervision(cls) -> Supervision:
        return super().chosen_supervision() if cls.pruned_to is None else "none"

    @override
    def run_training(self) -> None:
        if self.pruned_to is not None:
            end_command(self.cannot_be_trained())
        super().run_training()


class GuidedTrainer(PrunableTrainer):
    """A network whose supervised nodes can have classification-guided modules (section 2.3): `cgm`.

    Their loss is added to the objective's, whichever it is, with weight 1: the paper gives none.
    """

    options = (
        *PrunableTrainer.options,
        Option(
            spelling="CGM",
            meaning="classification-guided modules: what a patch is judged not to show is not predicted there",
            group="guidance",
            attribute="cgm",
            value=True,
        ),
        Option(
            spelling="table",
            meaning="the network of the size in the paper's Table 1, with fewer links of full scale (5 stages)",
            group="wiring",
            attribute="wiring",
            value="table",
        ),
    )
    cgm: ClassVar[bool] = False
    passed = ("wiring",)
    wiring: ClassVar[str | None] = None  # where the name does not say so, a plan may

    @classmethod
    @override
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {**super().network_options(configuration), "cgm": cls.cgm}

    @override
    def initialize(self) -> None:
        super().initialize()
        if self.label_manager.has_regions:
            for module in self.network.modules():
                if isinstance(module, ClassificationGuidedModule):
                    module.foreground.fill_(True)

    @classmethod
    @override
    def make_loss(cls, setting: LossSetting) -> nn.Module:
        loss = super().make_loss(setting)
        if not cls.cgm:
            return loss
        labels = setting.label_manager
        presence = PresenceLoss(regions=labels.has_regions, ignore_label=labels.ignore_label)
        return AuxiliaryLoss(loss, presence, weight=1.0, n_branches=len(setting.branch_stages))


class UNetTrainer(EncoderTrainer, HybridTrainer):
    """U-Net, without deep supervision."""

    network_class = UNet


class UNetPlusPlusTrainer(EncoderTrainer, PrunableTrainer):
    """UNet++, supervised at X[0, 1..L]."""

    network_class = UNetPlusPlus
    options = (
        *PrunableTrainer.options,
        *EncoderTrainer.options,
        Option(
            spelling="transposed",
            meaning="nodes brought up by transposed convolutions, as FocusNet++ counts UNet++",
            group="upsampling",
            attribute="upsampling",
            value="transposed",
        ),
    )
    passed = ("upsampling",)
    upsampling: ClassVar[str | None] = None  # where the name does not say so, a plan may


class UNetSharpTrainer(EncoderTrainer, GuidedTrainer):
    """UNet#, supervised at X[i, L-i] and X[0, 1..L]."""

    options = (*GuidedTrainer.options, *EncoderTrainer.options)
    network_class = UNetSharp


class VNetTrainer(HybridTrainer):
    """V-Net's encoder with U-Net's decoder, without deep supervision."""

    network_class = VNet


class VNetPlusPlusTrainer(PrunableTrainer):
    """V-Net's encoder with UNet++'s decoder, supervised at X[0, 1..L]."""

    network_class = VNetPlusPlus


class VNetSharpTrainer(GuidedTrainer):
    """V-Net's encoder with UNet#'s decoder, supervised at X[i, L-i] and X[0, 1..L]."""

    network_class = VNetSharp


class UNet3PlusTrainer(EncoderTrainer, HybridTrainer):
    """UNet 3+ as Table 1 counts it, supervised at X[i, L-i]."""

    network_class = UNet3Plus


class VNet3PlusTrainer(HybridTrainer):
    """V-Net's encoder with UNet 3+'s decoder, supervised at X[i, L-i]."""

    network_class = VNet3Plus


class CanonicalUNet3PlusTrainer(HybridTrainer):
    """UNet 3+ as its own paper has it, supervised at X[i, L-i]."""

    network_class = CanonicalUNet3Plus


class CanonicalVNet3PlusTrainer(HybridTrainer):
    """V-Net's encoder with the decoder of UNet 3+'s own paper, supervised at X[i, L-i]."""

    network_class = CanonicalVNet3Plus
