"""LinkNet as an nnU-Net trainer."""

from nnunet_archs.trainers.base import PaperTrainer

from .network import LinkNet


class LinkNetTrainer(PaperTrainer):
    """LinkNet in nnU-Net's training."""

    network_class = LinkNet
    objective = "nnunet"
