"""What trainers of networks from elsewhere share: the patch reaches the network, and its own strides the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from typing_extensions import override

from nnunet_archs.networks.parts.foreign import ForeignNetwork

from .base import Objective, PaperTrainer, topology_kwargs


class ForeignTrainer(PaperTrainer):
    """A `ForeignNetwork` in nnU-Net's training; one without heads at lower stages sets `supervision = "none"`."""

    network_class: ClassVar[type[ForeignNetwork]]
    objective: ClassVar[Objective] = "nnunet"

    @classmethod
    @override
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return cls.network_class.planned(topology_kwargs(configuration), configuration.patch_size)

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        # the configuration's patch, whatever a plan that names the network says of another
        own = super().architecture_options(configuration)
        return {"patch_size": [int(size) for size in configuration.patch_size], **own}

    @classmethod
    @override
    def stage_strides(cls, configuration: ConfigurationManager) -> Sequence[Sequence[int]]:
        stated = cls.network_class.planned(topology_kwargs(configuration), configuration.patch_size)
        strides: Sequence[Sequence[int]] = stated["strides"]
        return strides

    @classmethod
    @override
    def serving_patch(cls, configuration: ConfigurationManager) -> tuple[int, ...]:
        total_stride = np.prod(cls.stage_strides(configuration), axis=0).tolist()
        return cls.network_class.serving(configuration.patch_size, total_stride)
