"""Mask R-CNN in the four forms of UNet#'s Table 2, for data sets whose labels are cores and borders of objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor
from torchvision.ops import masks_to_boxes
from typing_extensions import override

from nnunet_archs.instances import KEY, decode, is_encoded
from nnunet_archs.lengths import length_of
from nnunet_archs.networks.mask_rcnn import MaskRCNN, MaskRCNN3Plus, MaskRCNNPlusPlus, MaskRCNNSharp
from nnunet_archs.networks.parts.contract import Supervision

from .base import Objective
from .encoders import on_encoder
from .foreign import ForeignTrainer
from .optimisation import ADAM, Optimisation
from .options import Option
from .recipes import UNET_SHARP_RECIPE
from .wrapped import plain

MODELS = ("vgg16", "resnet18", "resnet34", "resnet50")
CLIP = 12  # norm of the gradients, as nnU-Net has it


class MaskRCNNTrainer(ForeignTrainer):
    """Mask R-CNN on ResNet-101, or on what the name says, with torchvision's losses and the paper's Adam, 2D.

    Its targets are the objects of each patch, after nnU-Net's augmentation; the data set says that labels are cores
    and borders, as those of `nnunet-archs convert --instances`.
    """

    network_class: ClassVar[type[MaskRCNN]] = MaskRCNN
    recipe = UNET_SHARP_RECIPE
    objective: ClassVar[Objective] = "paper"
    own_optimisation: ClassVar[Optimisation] = ADAM
    supervision: ClassVar[Supervision | None] = "none"
    options: ClassVar[tuple[Option, ...]] = (
        *(on_encoder(model, f"on timm's {model}, 2D", model) for model in MODELS),
        Option(
            spelling="w<N>",
            meaning="pyramid and heads N wide in place of 256",
            group="width",
            attribute="width",
        ),
        Option(
            spelling="r<N>",
            meaning="heads trained with N regions of an image in place of 512",
            group="regions",
            attribute="regions",
        ),
    )
    passed = ("encoder", "width", "regions")
    encoder: ClassVar[str] = "resnet101"
    width: ClassVar[int | None] = None
    regions: ClassVar[int | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check a name.

        Raises:
            ValueError: for another loss or supervision than torchvision's.
        """
        super().__init_subclass__(**kwargs)
        if cls.objective != "paper" or cls.supervision != "none":
            raise ValueError(
                f"{cls.__name__}: detection has losses of its own, and one output; leave _CE, _DiceCE and _DS out"
            )

    @classmethod
    @override
    def check_plans(cls, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> tuple[int, ...]:
        manager = PlansManager(plans)
        if configuration in manager.available_configurations:
            patch = manager.get_configuration(configuration).patch_size
            if len(patch) != 2:
                raise ValueError(f"{cls.__name__} exists only in 2D, and {configuration} is in 3D; train 2d")
        if not is_encoded(dataset_json):
            raise ValueError(
                f"{cls.__name__} needs objects: the labels of this data set are not cores and borders; make a data set "
                "of instance maps with nnunet-archs convert --instances"
            )
        return super().check_plans(plans, configuration, dataset_json)

    @override
    def initialize(self) -> None:
        super().initialize()
        width = length_of(str(self.dataset_json[KEY]["border"]), "instances")
        units = width.units(self.spacing)
        plain(self.network).border.copy_(torch.tensor([width.length / unit for unit in units]))

    @property
    def spacing(self) -> Sequence[float]:
        """The spacing of a patch's rows and columns."""
        return [float(mm) for mm in self.configuration_manager.spacing[-2:]]

    @override
    def _do_i_compile(self) -> bool:
        return False  # what is found in an image decides what is computed

    @override
    def _describe_memory(self) -> str:
        return "What a training step takes of memory depends on the objects in its images, and is not foretold"

    @override
    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.detection_loss(batch)
        scaler = self.grad_scaler or torch.amp.GradScaler(self.device.type, enabled=False)
        scaler.scale(loss).backward()
        scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        scaler.step(self.optimizer)
        scaler.update()
        return self._advance({"loss": loss.detach().cpu().numpy()})

    @override
    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        loss = self.detection_loss(batch)
        return {**super().validation_step(batch), "loss": loss.cpu().numpy()}

    def detection_loss(self, batch: dict[str, Any]) -> Tensor:
        """The sum of the losses of a batch."""
        data = batch["data"].to(self.device, non_blocking=True)
        targets = [objects_in(labels[0], self.spacing, self.device) for labels in batch["target"]]
        with torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            loss: Tensor = self.network(data, targets)
        return loss


def objects_in(labels: Tensor, spacing: Sequence[float], device: torch.device) -> dict[str, Tensor]:
    """The boxes `(N, 4)`, labels `(N)` and masks `(N, H, W)` of the objects in a patch's labels `(H, W)`."""
    found = torch.from_numpy(decode(labels.cpu().numpy(), spacing).astype("int64")).to(device)
    masks = found == torch.arange(1, int(found.max()) + 1, device=device)[:, None, None]
    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1  # it gives the last pixel, and boxes end behind it
    return {"boxes": boxes, "labels": torch.ones(len(masks), dtype=torch.int64, device=device), "masks": masks.byte()}


class MaskRCNNPlusPlusTrainer(MaskRCNNTrainer):
    """Mask R-CNN with the pyramid wired as UNet++."""

    network_class = MaskRCNNPlusPlus


class MaskRCNN3PlusTrainer(MaskRCNNTrainer):
    """Mask R-CNN with the pyramid wired as UNet 3+."""

    network_class = MaskRCNN3Plus


class MaskRCNNSharpTrainer(MaskRCNNTrainer):
    """Mask R-CNN with the pyramid wired as UNet#."""

    network_class = MaskRCNNSharp
