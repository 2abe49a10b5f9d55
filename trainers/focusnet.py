"""FocusNet++ (ISBI 2021) with its loss ALL-HL, in the sizes of the paper and of the authors' code."""

from __future__ import annotations

import pydoc
from dataclasses import dataclass
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from typing_extensions import override

from nnunet_archs.losses import AdaptiveLogHybridLoss
from nnunet_archs.networks import FocusNetPlusPlus
from nnunet_archs.networks.focusnet import Block

from .base import PaperTrainer
from .options import Option


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Features of the first stages, the last of them for all deeper stages too, and the block."""

    features: tuple[int, ...]
    block: Block
    meaning: str

    def features_per_stage(self, n_stages: int, dim: int) -> list[int]:
        """Features of `n_stages` stages, at most 320 in 3D, as nnU-Net's planner has them."""
        features = [*self.features, *[self.features[-1]] * n_stages][:n_stages]
        return [min(f, 320) for f in features] if dim == 3 else features


PRESETS = {
    "text": Preset(features=(32, 64, 128, 192, 256), block="text", meaning="the network of the paper's text"),
    "L": Preset(
        features=(48, 96, 156, 256, 512),
        block="text",
        meaning="the features of the authors' code, 48 to 512, with the text's block",
    ),
    "S": Preset(
        features=(16, 32, 64, 128, 256),
        block="released",
        meaning="the light network, features 16 to 256, with the block of the authors' code",
    ),
    "released": Preset(
        features=(48, 96, 156, 256, 512), block="released", meaning="features and block of the authors' code"
    ),
}


class FocusNetPlusPlusTrainer(PaperTrainer):
    """FocusNet++, F alone supervised, with the features of the paper's text.

    A preset in the name decides features and block whatever the plan says. Without one, a plan that names the network
    decides them.
    """

    network_class = FocusNetPlusPlus
    paper_loss = AdaptiveLogHybridLoss
    options = tuple(
        Option(spelling=name, meaning=preset.meaning, group="preset", attribute="preset", value=name)
        for name, preset in PRESETS.items()
        if name != "text"
    )
    preset: ClassVar[str | None] = None

    @classmethod
    @override
    def network_options(cls) -> dict[str, Any]:
        options = super().network_options()
        if cls.preset is None:
            return options
        return {**options, "block": PRESETS[cls.preset].block, "stem": 32}

    @classmethod
    @override
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        planned = pydoc.locate(configuration_manager.network_arch_class_name) is cls.network_class
        if cls.preset is not None or not planned:
            configuration_manager = with_features(configuration_manager, PRESETS[cls.preset or "text"])
        return super().build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )


def with_features(configuration: ConfigurationManager, preset: Preset) -> ConfigurationManager:
    """A copy of a plan's configuration with the features of a preset."""
    architecture = configuration.configuration["architecture"]
    strides = configuration.pool_op_kernel_sizes
    features = preset.features_per_stage(len(strides), len(strides[0]))
    kwargs = {**architecture["arch_kwargs"], "features_per_stage": features}
    return ConfigurationManager(
        {**configuration.configuration, "architecture": {**architecture, "arch_kwargs": kwargs}}
    )
