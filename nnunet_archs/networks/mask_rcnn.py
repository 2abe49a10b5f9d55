"""Mask R-CNN (He et al. 2017, arXiv:1703.06870), and with the skip connections of UNet++, UNet 3+ and UNet#, in 2D.

UNet# (arXiv:2205.11759, Table 2) replaces the connections of the feature pyramid, and calls the results Mask R-CNN2+,
3+ and #. The pyramid stands on the levels C2 to C5 of a model of timm, at strides 4 to 32. Each becomes X[i, 0] by a
1 x 1 convolution, the wiring makes its nodes of them, and X[i, 3-i] is P2 to P5; pooled, P5 gives P6. The heads that
propose, classify and outline objects are torchvision's, and so are the five losses.

Called with targets, the network gives the sum of the losses; without, logits of background, core and border, so that
nnU-Net's sliding window averages them as any others.

Where this departs from the paper or settles what it leaves open:

- The paper prints neither levels nor nodes: f² (its equation 1) of 256 features, the pyramid's width, brought up as
  the pyramid does it, by nearest neighbours. X[3, 0] passes a 3 x 3 convolution, as a pyramid's last level does.
- VGG16's levels are those of timm: conv3_3, conv4_3, conv5_3 and what is pooled of it.
- Anchors are of 8 to 128 pixels, and up to 400 objects are found in a patch, for nuclei are small and many.
- Of a pixel in several masks, the object of highest score has it; objects that keep less than half of their pixels are
  others found twice, and left out, as are those of a score below 0.5. The highest probability of a pixel is that of its
  label, one minus it that of background. What a mask's probability has above 0.5 is multiplied by the object's score:
  so the labels are those of the masks, and the less certain an object is, the nearer to 0.5 are its pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN as TorchvisionsMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from typing_extensions import Unpack, override

from .parts.backbones import TimmLevels
from .parts.blocks import ConvStack
from .parts.foreign import ForeignKwargs, ForeignNetwork
from .parts.fusion import FusionConv
from .parts.grid import Grid, Node, Wiring, unet_3_plus, unet_plus_plus, unet_sharp
from .parts.topology import Axes, Topology
from .unet_sharp import Pooled

Targets: TypeAlias = Sequence[Mapping[str, Tensor]]  # of each image: boxes (N, 4), labels (N) and masks (N, H, W)

BACKGROUND, CORE, BORDER = LABELS = range(3)
STEPS = (4, 8, 16, 32)  # pixels of the image, along an axis, to one of C2 to C5
SHAPES = (0.5, 1.0, 2.0)  # of anchors, height to width
SIZES = (8, 16, 32, 64, 128)  # of anchors in pixels, P2 to P6
MOST_OBJECTS = 400  # in a patch
REGIONS = 512  # that the heads are trained with, of every image
LIKELY = 0.5  # least score of an object, and probability of its pixels
SEEN = 0.5  # least share of its pixels that is an object's own
UNLIKELY = 1e-4  # the probability of labels that a pixel has not


class MaskRCNN(ForeignNetwork):
    """Mask R-CNN with the feature pyramid of Lin et al. on `encoder`, a model of timm.

    `width` is that of the pyramid and of the heads that outline objects, `regions` how many of an image the heads are
    trained with.

    Raises:
        ValueError: for a topology or patch that it cannot take, a model without these levels, and other labels than
            those of cores and borders.
    """

    citation: ClassVar = 'He, Gkioxari, Dollár, Girshick: "Mask R-CNN", ICCV 2017'
    link: ClassVar = "https://arxiv.org/abs/1703.06870"
    dimensions: ClassVar = (2,)
    strides: ClassVar = (1, 2, 2, 2, 2, 2)
    smallest: ClassVar = 64
    has_width: ClassVar = False
    is_graph: ClassVar = False
    body: Any  # torchvision's

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        encoder: str = "resnet101",
        width: int = 256,
        regions: int = REGIONS,
        **kwargs: Unpack[ForeignKwargs],
    ) -> None:
        if num_classes != len(LABELS):
            raise ValueError(
                f"num_classes={num_classes}: {type(self).__name__} gives background, core and border; make such labels "
                "with nnunet-archs convert --instances"
            )
        self.encoder, self.width, self.regions = encoder, width, regions
        super().__init__(input_channels, num_classes, **kwargs)
        # the borders' width in pixels along both axes, which the data set decides: a trainer sets it
        self.register_buffer("border", torch.ones(2))
        self.border: Tensor

    @staticmethod
    def wiring(last: int) -> Wiring | None:
        """How the pyramid's nodes are connected; None: as those of Lin et al."""
        return None

    @override
    def build(
        self, topology: Topology, patch_size: Axes, input_channels: int, num_classes: int, n_heads: int
    ) -> nn.Module:
        body = TorchvisionsMaskRCNN(
            Levels(TimmLevels(self.encoder, input_channels, STEPS), self.width, topology, self.wiring(len(STEPS) - 1)),
            num_classes=2,  # object or none
            rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in SIZES), (SHAPES,) * len(SIZES)),
            mask_head=MaskRCNNHeads(self.width, (self.width,) * 4, 1),
            image_mean=[0.0] * input_channels,
            image_std=[1.0] * input_channels,
            box_score_thresh=LIKELY,
            box_detections_per_img=MOST_OBJECTS,
            box_batch_size_per_image=self.regions,
        )
        body.roi_heads.mask_predictor = MaskRCNNPredictor(self.width, self.width, 2)
        return body

    @override
    def forward(self, x: Tensor, targets: Targets | None = None) -> Tensor:
        """Image `(B, C, H, W)` to logits `(B, 3, H, W)`; with targets, to the sum of the losses.

        Raises:
            ValueError: in training on the meta device, for what is found in an image decides what is computed. In
                evaluation nothing is found there.
        """
        if x.is_meta and self.training:
            raise ValueError(
                f"{type(self).__name__} cannot be measured without images, for the objects found there decide what it "
                "computes; take plans of UNetSharpTrainer_resnet101, and see what the first steps take"
            )
        features = self.body.backbone(x)
        if x.is_meta:
            return x.new_empty(len(x), len(LABELS), *x.shape[2:])
        with torch.autocast(x.device.type, enabled=False):
            features = OrderedDict((level, y.float()) for level, y in features.items())
            sizes = [(int(x.shape[2]), int(x.shape[3]))] * len(x)
            if targets is not None:
                return self.loss(ImageList(x, sizes), features, targets)
            return torch.stack([self.paint(found, sizes[0]) for found in self.find(ImageList(x, sizes), features)])

    def loss(self, images: ImageList, features: Mapping[str, Tensor], targets: Targets) -> Tensor:
        """The sum of torchvision's five losses."""
        for heads in (self.body.rpn, self.body.roi_heads):
            heads.train()  # otherwise they have no losses
        proposals, of_proposals = self.body.rpn(images, features, targets)
        _, of_objects = self.body.roi_heads(features, proposals, images.image_sizes, targets)
        self.body.train(self.training)
        return torch.stack([*of_proposals.values(), *of_objects.values()]).sum()

    def find(self, images: ImageList, features: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The boxes `(N, 4)`, scores `(N)` and masks `(N, 1, 28, 28)` of each image's objects."""
        for heads in (self.body.rpn, self.body.roi_heads):
            heads.eval()  # otherwise they want targets
        proposals, _ = self.body.rpn(images, features)
        found, _ = self.body.roi_heads(features, proposals, images.image_sizes)
        self.body.train(self.training)
        return found

    def paint(self, found: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Logits `(3, *size)` of an image's objects, whose scores are in their probabilities."""
        masks = paste_masks_in_image(found["masks"], found["boxes"], size)[:, 0]
        masks = masks - (masks - LIKELY).clamp(min=0) * (1 - found["scores"][:, None, None])
        masks = masks[is_seen(masks > LIKELY)]
        probability = torch.cat([masks.new_zeros(1, *size), masks]).amax(dim=0)
        owner = first_of(masks > LIKELY)
        label = torch.where(owner > 0, torch.where(is_border(owner, self.border.tolist()), BORDER, CORE), BACKGROUND)
        of_label = torch.where(owner > 0, probability, 1 - probability)
        painted = torch.full((len(LABELS), *size), UNLIKELY, device=masks.device)
        painted[BACKGROUND] = (1 - probability).clamp(min=UNLIKELY)
        return painted.scatter(0, label[None], of_label[None]).log()

    @override
    def outputs(self, x: Tensor) -> list[Tensor]:
        return [self(x)]


def first_of(masks: Tensor) -> Tensor:
    """The number from 1 of the first of `(N, H, W)` masks that has a pixel; 0 where none has it."""
    numbered = torch.cat([masks.new_zeros(1, *masks.shape[1:]), masks])
    return numbered.byte().argmax(dim=0)  # the first of several


def is_seen(masks: Tensor) -> Tensor:
    """Which of the masks have most of their pixels for themselves, where those before them come first."""
    visible = torch.bincount(first_of(masks).flatten(), minlength=len(masks) + 1)[1:]
    return visible > SEEN * masks.sum(dim=(1, 2))


def is_border(owner: Tensor, width: Sequence[float]) -> Tensor:
    """Pixels `(H, W)` that have one of another owner within the width of each axis; the edge goes on beyond itself."""
    rows, columns = (int(w) for w in width)
    padded = F.pad(owner[None, None].float(), (columns, columns, rows, rows), mode="replicate")[0, 0]
    height, breadth = owner.shape
    border = torch.zeros_like(owner, dtype=torch.bool)
    for row in range(2 * rows + 1):
        for column in range(2 * columns + 1):
            away = [(row - rows) / max(width[0], 1e-9), (column - columns) / max(width[1], 1e-9)]
            if away[0] ** 2 + away[1] ** 2 <= 1:
                border |= padded[row : row + height, column : column + breadth] != owner
    return border


class Levels(nn.Module):
    """A model's levels, and the pyramid of them: torchvision's, or a grid of a wiring."""

    def __init__(self, encoder: TimmLevels, width: int, topology: Topology, wiring: Wiring | None) -> None:
        super().__init__()
        self.out_channels = width
        self.encoder = encoder
        if wiring is None:
            self.pyramid: nn.Module = FeaturePyramidNetwork(encoder.widths, width, LastLevelMaxPool())
        else:
            self.pyramid = GridPyramid(encoder.widths, width, topology, wiring)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Image `(B, C, H, W)` to P2 to P6, "0" to "3" and "pool"."""
        levels: dict[str, Tensor] = self.pyramid(OrderedDict((str(i), y) for i, y in enumerate(self.encoder(x))))
        return levels


class GridPyramid(nn.Module):
    """The grid of a wiring over four levels, all nodes of one width; the plan's normalisation and activation."""

    def __init__(self, in_channels: Sequence[int], width: int, topology: Topology, wiring: Wiring) -> None:
        super().__init__()
        n = len(in_channels)
        kernels, strides = [(3, 3)] * n, [(1, 1), *[(2, 2)] * (n - 1)]
        own = replace(topology, n_stages=n, features_per_stage=[width] * n, kernel_sizes=kernels, strides=strides)
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in in_channels)
        self.grid = Grid(wiring, partial(make_node, topology=own))
        self.deepest = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """C2 to C5 to P2 to P6."""
        column = [lateral(x) for lateral, x in zip(self.laterals, levels.values(), strict=True)]
        nodes, last = self.grid(column), len(column) - 1
        edge = [nodes[i, last - i] for i in range(last)] + [self.deepest(column[last])]
        return {**{str(i): y for i, y in enumerate(edge)}, "pool": F.max_pool2d(edge[-1], 1, 2)}


def make_node(node: Node, sources: Sequence[Node], *, topology: Topology) -> nn.Module:
    """X[i, j] = f²(cat of its sources): shallower ones are pooled, deeper ones brought up by nearest neighbours."""
    width, kernel = topology.features_per_stage[node[0]], topology.kernel_sizes[node[0]]
    first = FusionConv([width] * len(sources), width, kernel, topology, interpolation="nearest")
    return Pooled(ConvStack(first, width, kernel, topology), node, sources, topology)


class MaskRCNNPlusPlus(MaskRCNN):
    """Mask R-CNN2+: the pyramid wired as UNet++."""

    wiring = staticmethod(unet_plus_plus)


class MaskRCNN3Plus(MaskRCNN):
    """Mask R-CNN3+: the pyramid wired as UNet 3+."""

    wiring = staticmethod(unet_3_plus)


class MaskRCNNSharp(MaskRCNN):
    """Mask R-CNN#: the pyramid wired as UNet#."""

    wiring = staticmethod(unet_sharp)
