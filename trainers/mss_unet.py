"""MSS U-Net: nnU-Net's plain U-Net with an exponential logarithmic loss at every scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from nnunet_archs.losses import ExponentialLogLoss

from .base import Objective
from .nnunet import PlainConvUNetTrainer
from .recipes import CROSSLINK_RECIPE


class MSSUNetTrainer(PlainConvUNetTrainer):
    """MSS U-Net (arXiv:2004.08108): PlainConvUNet with its loss of all outputs, the first weighing 0.6."""

    citation: ClassVar = (
        'Zhao, Jiang, Peña Queralta, Westerlund: "MSS U-Net: 3D segmentation of kidneys and tumors from CT images with '
        'a multi-scale supervised U-Net", Informatics in Medicine Unlocked 19, 2020'
    )
    link: ClassVar = "https://arxiv.org/abs/2004.08108"
    objective: ClassVar[Objective] = "paper"
    recipe = CROSSLINK_RECIPE
    paper_loss = ExponentialLogLoss

    @classmethod
    @override
    def branch_weights(cls, stages: Sequence[int]) -> list[float]:
        """0.6 and 0.1 for each of the four others; where there are fewer or more, they share 0.4."""
        others = len(stages) - 1
        return [0.6, *[0.4 / others] * others] if others else [1.0]
