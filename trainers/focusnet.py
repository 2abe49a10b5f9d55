"""FocusNet++ (ISBI 2021) with its loss ALL-HL, in the sizes of the paper and of the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from typing_extensions import override

from nnunet_archs.losses import AdaptiveLogHybridLoss
from nnunet_archs.networks import FocusNetPlusPlus
from nnunet_archs.networks.focusnet import Block

from .base import PaperTrainer
from .options import Option
from .recipes import FOCUSNET_RECIPE


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Features of the first stages, the last of them for all deeper stages too, and the block."""

    features: tuple[int, ...]
    block: Block
    meaning: str

    def features_per_stage(self, strides: Sequence[Sequence[int]]) -> list[int]:
        """Features of a plan's stages, at most 320 in 3D, as nnU-Net's planner has them."""
        features = [*self.features, *[self.features[-1]] * len(strides)][: len(strides)]
        return [min(f, 320) for f in features] if len(strides[0]) == 3 else features


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
    recipe = FOCUSNET_RECIPE
    options = tuple(
        Option(spelling=name, meaning=preset.meaning, group="preset", attribute="preset", value=name)
        for name, preset in PRESETS.items()
        if name != "text"
    )
    preset: ClassVar[str | None] = None

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        options = super().architecture_options(configuration)
        if cls.preset is None:
            return options
        preset = PRESETS[cls.preset]
        features = preset.features_per_stage(cls.stage_strides(configuration))
        return {**options, "features_per_stage": features, "block": preset.block, "stem": 32}

    @classmethod
    @override
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {"features_per_stage": PRESETS["text"].features_per_stage(cls.stage_strides(configuration))}
