"""nnU-Net's own networks, loss and optimiser, unchanged: the baselines that the grammar gives equal lengths."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_archs.networks.parts.backbones import preset_blocks
from nnunet_archs.networks.parts.contract import Supervision

from .base import Objective, PaperTrainer


class BaselineTrainer(PaperTrainer):
    """A network of dynamic_network_architectures, supervised at X[i, L-i] for i < L."""

    objective: ClassVar[Objective] = "nnunet"
    supervision: ClassVar[Supervision | None] = "nnunet"

    @classmethod
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """None: a plan that names the network decides all of it."""
        return {}

    @classmethod
    @abstractmethod
    def blocks(cls, n_stages: int) -> dict[str, Any]:
        """Blocks a stage, as nnU-Net's planner for the network sets them."""

    @classmethod
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """The blocks a stage."""
        return cls.blocks(len(cls.stage_strides(configuration)))

    @classmethod
    def freeze_unused(cls, network: Any) -> None:
        """Freeze the heads that the network has, but does not use without deep supervision."""
        if cls.supervision == "none":
            network.decoder.seg_layers[:-1].requires_grad_(False)

    @classmethod
    def supervised_stages(cls, network: nn.Module, n_stages: int) -> tuple[int, ...]:
        """Every stage but the deepest; the full resolution alone without deep supervision."""
        return tuple(range(1 if cls.supervision == "none" else n_stages - 1))


class PlainConvUNetTrainer(BaselineTrainer):
    """nnU-Net's PlainConvUNet: two convolutions a stage where the plan was made for another network."""

    network_class = PlainConvUNet

    @classmethod
    def blocks(cls, n_stages: int) -> dict[str, Any]:
        """Convolutions a stage, as nnU-Net's ExperimentPlanner sets them."""
        return {"n_conv_per_stage": [2] * n_stages, "n_conv_per_stage_decoder": [2] * (n_stages - 1)}


class ResidualEncoderUNetTrainer(BaselineTrainer):
    """nnU-Net's ResidualEncoderUNet: the ResEnc presets' blocks where the plan was made for another network."""

    network_class = ResidualEncoderUNet

    @classmethod
    def blocks(cls, n_stages: int) -> dict[str, Any]:
        """Blocks a stage, as nnU-Net's ResEncUNetPlanner sets them."""
        return {"n_blocks_per_stage": preset_blocks(n_stages), "n_conv_per_stage_decoder": [1] * (n_stages - 1)}
