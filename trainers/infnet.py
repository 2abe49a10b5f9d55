"""Inf-Net with its loss: a weighted IoU and cross-entropy of four maps, and a cross-entropy of edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn
from typing_extensions import override

from nnunet_archs.losses import AuxiliaryLoss, BoundaryWeightedLoss, EdgeLoss
from nnunet_archs.networks.infnet import InfNet
from nnunet_archs.networks.parts.contract import Supervision

from .base import Objective
from .foreign import ForeignTrainer
from .memory import LossSetting
from .recipes import CROSSLINK_RECIPE


class InfNetTrainer(ForeignTrainer):
    """Inf-Net, 2D; with another loss it learns no edges, and with nnU-Net's the prediction alone is supervised."""

    network_class = InfNet
    objective: ClassVar[Objective] = "paper"
    recipe = CROSSLINK_RECIPE
    paper_loss = BoundaryWeightedLoss

    @classmethod
    @override
    def chosen_supervision(cls) -> Supervision:
        return cls.supervision or ("none" if cls.objective == "nnunet" else "paper")

    @classmethod
    @override
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return {**super().network_options(configuration), "edges": cls.objective == "paper"}

    @classmethod
    @override
    def branch_weights(cls, stages: Sequence[int]) -> list[float]:
        """1 for each: the paper adds them up."""
        return [1.0] * len(stages)

    @classmethod
    @override
    def make_loss(cls, setting: LossSetting) -> nn.Module:
        loss = super().make_loss(setting)
        if cls.objective != "paper":
            return loss
        labels = setting.label_manager
        edges = EdgeLoss(regions=labels.has_regions, ignore_label=labels.ignore_label)
        return AuxiliaryLoss(loss, edges, weight=1, n_branches=len(setting.branch_stages))
