"""CAggNet (arXiv:2004.08237), with its focal loss and the optimiser that this needs."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import Unpack, override

from nnunet_archs.losses import FocalLoss, SegmentationLoss
from nnunet_archs.losses.base import LabelKwargs
from nnunet_archs.networks import CAggNet
from nnunet_archs.networks.caggnet import Aggregation

from .base import PaperTrainer
from .optimisation import ADAM
from .options import Option
from .recipes import CAGGNET_RECIPE


class CAggNetTrainer(PaperTrainer):
    """CAggNet, supervised at every stage of its weighted aggregation."""

    network_class = CAggNet
    recipe = CAGGNET_RECIPE
    # the paper's optimiser, in nnU-Net's training too: this loss is small, and SGD leaves the network at the background
    own_optimisation = ADAM
    options = (
        Option(
            spelling="alpha<P>",
            meaning="the focal loss weighs foreground with P per cent, background with the rest",
            group="alpha",
            attribute="alpha",
            of_paper_loss=True,
        ),
        Option(
            spelling="gamma<N>",
            meaning="the focal loss' exponent is N",
            group="gamma",
            attribute="gamma",
            of_paper_loss=True,
        ),
        Option(
            spelling="addWAM",
            meaning="the weighted aggregation module adds in place of concatenating, as in the authors' code",
            group="aggregation",
            attribute="wam",
            value="add",
        ),
    )
    alpha: ClassVar[int] = 25  # in per cent
    gamma: ClassVar[int] = 2
    passed = ("wam",)
    wam: ClassVar[Aggregation | None] = None  # where the name does not say so, a plan may

    @classmethod
    @override
    def new_loss(cls, **labels: Unpack[LabelKwargs]) -> SegmentationLoss:
        return FocalLoss(alpha=cls.alpha / 100, gamma=cls.gamma, **labels)
