"""Every configuration whose size a paper prints, and the size of what is built here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from nnunet_archs.networks.bcdu_net import BCDUNet
from nnunet_archs.networks.caggnet import CAggNet
from nnunet_archs.networks.crosslink import CrosslinkNet, Double2SingleNet, HorCrosslink, SquareCrosslink, VerCrosslink
from nnunet_archs.networks.dense_unet import DenseUNet
from nnunet_archs.networks.dla import DLA
from nnunet_archs.networks.dunet import DUNet
from nnunet_archs.networks.enet import FEATURES as _ENET
from nnunet_archs.networks.enet import ENet
from nnunet_archs.networks.fcn import FCN
from nnunet_archs.networks.focusnet import FocusNetPlusPlus
from nnunet_archs.networks.focusnet_2019 import FocusNet
from nnunet_archs.networks.improved_skip import ClassicalUNet, ImprovedSkipConcatUNet, ImprovedSkipUNet
from nnunet_archs.networks.infnet import InfNet
from nnunet_archs.networks.mask_rcnn import MaskRCNN, MaskRCNN3Plus, MaskRCNNPlusPlus, MaskRCNNSharp
from nnunet_archs.networks.parts.contract import SegmentationNetwork
from nnunet_archs.networks.parts.topology import TopologyKwargs
from nnunet_archs.networks.pre_activation_unet import PreActivationUNet
from nnunet_archs.networks.r2unet import R2UNet
from nnunet_archs.networks.ra_unet import RAUNet
from nnunet_archs.networks.released_attention_unet import ReleasedAttentionUNet
from nnunet_archs.networks.residual_unet import ResidualUNet
from nnunet_archs.networks.spnet import SPNet
from nnunet_archs.networks.transunet import TransUNet
from nnunet_archs.networks.unet_sharp import (
    CanonicalUNet3Plus,
    CanonicalVNet3Plus,
    UNet,
    UNet3Plus,
    UNetPlusPlus,
    UNetSharp,
    VNet,
    VNet3Plus,
    VNetPlusPlus,
    VNetSharp,
)
from nnunet_archs.networks.wide import WideUNet, WUNet, WVNet

from .papers import CAGGNET, CROSSLINK, FOCUSNET, IMPROVED_SKIP, UNET_SHARP, Paper

# what one of a printed unit is in parameters: 4 bytes each
UNITS = {"": 1, "M": 1_000_000, "MiB": 2**20 / 4}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table; sizes are counted for one class where `classes` says no other, supervision heads apart.

    `printed` is the size as the paper prints it, with its unit; `note` says why the built size does not round to it.
    `words` are the options of the trainer's name that build it.
    """

    name: str
    network: type[SegmentationNetwork]
    paper: Paper
    source: str
    printed: str
    features: tuple[int, ...]
    dim: int = 2
    input_channels: int = 3
    classes: int = 1
    normalised: bool = True
    conv_bias: bool = True
    with_statistics: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)  # a dict has no hash
    words: str = ""
    note: str = ""

    def topology(self) -> TopologyKwargs:
        """The paper's topology: kernels of 3, stride 2 between the stages, BatchNorm and ReLU."""
        stages = len(self.features)
        norm_op = nn.BatchNorm2d if self.dim == 2 else nn.BatchNorm3d
        return {
            "n_stages": stages,
            "features_per_stage": self.features,
            "conv_op": nn.Conv2d if self.dim == 2 else nn.Conv3d,
            "kernel_sizes": 3,
            "strides": [1] + [2] * (stages - 1),
            "conv_bias": self.conv_bias,
            "norm_op": norm_op if self.normalised else None,
            "nonlin": nn.ReLU,
        }

    def build(self) -> SegmentationNetwork:
        """The network, on torch's default device, without deep supervision."""
        options = {"supervision": "none", **self.options, **self.topology()}
        network: Any = self.network
        return cast(
            SegmentationNetwork, network(input_channels=self.input_channels, num_classes=self.classes, **options)
        )

    @cache  # noqa: B019 (rows live as long as the module)
    def built_parameters(self) -> int:
        """Parameters of the network that is built here."""
        with torch.device("meta"):
            return self.count(self.build())

    def count(self, network: nn.Module) -> int:
        """Parameters of a network; with BatchNorm's statistics where the paper counts them."""
        counted: list[Tensor] = list(network.parameters())
        if self.with_statistics:
            counted += [buffer for buffer in network.buffers() if buffer.ndim > 0]
        return sum(values.numel() for values in counted)

    def built(self) -> str:
        """The built size as the paper prints sizes, or to the digit where it prints none."""
        if not self.printed:
            return f"{self.built_parameters():,}"
        number, unit = re.fullmatch(r"([\d.,]+) ?(\w*)", self.printed).groups()  # type: ignore[union-attr]
        decimals = len(number.partition(".")[2])
        return f"{self.built_parameters() / UNITS[unit]:,.{decimals}f}{self.printed[len(number) :]}"

    def agrees(self) -> bool:
        """Whether the built size is the printed one, rounded as it is."""
        return self.built() == self.printed


_WIDE = (64, 128, 256, 512, 1024)
_2D = (32, 64, 128, 256, 512)
_3D = (16, 32, 64, 128, 256)
_VGG = (64, 128, 256, 512, 512, 4096)  # the last as wide as its classifier
_FOCUS_RELEASED = (48, 96, 156, 256, 512)
_RESNET50 = (256, 512, 1024, 2048)  # decided by the network, whatever a plan says
_KITS = (30, 60, 120, 240, 320, 320)
_CROSSLINK = (32, 64, 128, 256, 512, 512)

_DEEPEST = "; 590,080 of these are the 3 x 3 convolution of the deepest level"


def _table1(name: str, network: type[SegmentationNetwork], printed: str, **row: Any) -> Published:
    """A 2D row of UNet#'s Table 1."""
    row = {"features": _2D, "source": "Table 1", **row}
    return Published(name=name, network=network, printed=printed, paper=UNET_SHARP, **row)


def _table1_3d(name: str, network: type[SegmentationNetwork], printed: str, **row: Any) -> Published:
    """A 3D row of it, of one input channel."""
    return _table1(name, network, printed, **{"features": _3D, "dim": 3, "input_channels": 1, **row})


def _focus(name: str, printed: str, source: str, features: tuple[int, ...], **row: Any) -> Published:
    """A row of FocusNet++'s tables, which print 10^8 where 10^6 is meant."""
    row = {"network": FocusNetPlusPlus, **row}
    return Published(
        name=name,
        printed=printed,
        features=features,
        paper=FOCUSNET,
        source=source,
        **row,
    )


def _table3(name: str, network: type[SegmentationNetwork], printed: str, **row: Any) -> Published:
    """A row of Crosslink-Net's Table III, which prints storage."""
    row = {"source": "Table III", "features": _CROSSLINK, "conv_bias": False, **row}
    return Published(name=name, network=network, printed=printed, input_channels=1, paper=CROSSLINK, **row)


def _table2(name: str, network: type[SegmentationNetwork], printed: str, **row: Any) -> Published:
    """A row of Di et al.'s Table 2."""
    return Published(
        name=name,
        network=network,
        printed=printed,
        features=_2D,
        input_channels=1,
        paper=IMPROVED_SKIP,
        source="Table 2",
        **row,
    )


def _on_encoder(name: str, network: type[SegmentationNetwork], spelled: str, model: str, word: str) -> Published:
    """A decoder of UNet# (5 stages, or the 6 of a ResNet) on a model of timm; Table 2 has two of them on two models."""
    compared = name in ("UNet", "UNet#") and spelled in ("VGG16", "ResNet101")
    note = "the paper prints no size" if compared else "the paper does not measure it"
    if spelled == "VGG11":
        note = "Table 1 names VGG11, but prints sizes of two convolutions a stage"
    return _table1(
        f"{name} ({spelled})",
        network,
        "",
        features=(*_2D, 512) if model.startswith("resnet") else _2D,
        source="Table 2" if compared else "",
        options={"encoder": model},
        words=f"_{word}",
        note=note,
    )


PUBLISHED = (
    _table1("UNet", UNet, "7.85M"),
    _table1("WUNet", WUNet, "9.39M"),
    _table1("UNet2+", UNetPlusPlus, "9.16M"),
    _table1("UNet3+", UNet3Plus, "9.79M"),
    _table1(
        "UNet3+ (canonical)",
        CanonicalUNet3Plus,
        "9.79M",
        note="as UNet 3+'s own paper has it: every scale is convolved to 32 channels, the first stage's width",
    ),
    _table1(
        "UNet3+ (canonical, 64 to 1024)",
        CanonicalUNet3Plus,
        "",
        features=_WIDE,
        source="",
        note="at the widths of UNet 3+'s own authors' code",
    ),
    _table1("UNet#", UNetSharp, "9.71M", note="Eq. 1 at every node, as in the authors' code"),
    _table1(
        "UNet# (table)",
        UNetSharp,
        "9.71M",
        note="without the links of full scale at X[1, 3] and X[2, 2]: 9.716M, which the table cuts",
        options={"wiring": "table"},
        words="_table",
    ),
    *(
        _table1(
            f"UNet# L{level}",
            UNetSharp,
            printed,
            source="section 3.4.3",
            options={"level": level},
            words=f"_L{level}",
        )
        for level, printed in enumerate(("0.10M", "0.56M", "2.53M"), start=1)
    ),
    _table1_3d("V-Net", VNet, "26.39M"),
    _table1_3d("WV-Net", WVNet, "33.40M"),
    _table1_3d("V-Net2+", VNetPlusPlus, "27.37M"),
    _table1_3d("V-Net3+", VNet3Plus, "27.84M"),
    _table1_3d(
        "V-Net3+ (canonical)",
        CanonicalVNet3Plus,
        "27.84M",
        note="V-Net's encoder with the decoder of UNet 3+'s own paper",
    ),
    _table1_3d("V-Net#", VNetSharp, "28.37M", note="Eq. 1 at every node"),
    _table1_3d("V-Net# (table)", VNetSharp, "28.37M", options={"wiring": "table"}, words="_table"),
    Published(
        name="CAggNet",
        network=CAggNet,
        paper=CAGGNET,
        source="",
        printed="",
        features=_WIDE,
        note="the paper prints neither size nor widths; at 64 to 1024, as in the authors' code",
    ),
    Published(
        name="CAggNet (added)",
        network=CAggNet,
        paper=CAGGNET,
        source="",
        printed="",
        features=_WIDE,
        options={"wam": "add"},
        words="_addWAM",
        note="with the weighted aggregation of the authors' code",
    ),
    _focus("FocusNet++", "7.80M", "Table 2", (*_2D[:3], 192, 256), note="the text's widths; no reading reaches 7.80M"),
    _focus(
        "FocusNet++ L",
        "7.80M",
        "Table 2",
        _FOCUS_RELEASED,
        words="_L",
        note="the text's block at the widths of the authors' code; 7.81M with BatchNorm's statistics",
    ),
    _focus(
        "FocusNet++ (released)",
        "7.80M",
        "Table 2",
        _FOCUS_RELEASED,
        words="_released",
        options={"block": "released"},
        with_statistics=True,
    ),
    _focus("FocusNet++ S", "1.84M", "Table 3", _3D, words="_S", options={"block": "released"}),
    Published(
        name="U-Net",
        network=ClassicalUNet,
        paper=FOCUSNET,
        source="Table 2",
        printed="7.94M",
        features=_2D,
        note="at the authors' widths, where their `unet` has 7,760,645; no reading tried reaches 7.94M",
    ),
    Published(
        name="UNet++",
        network=UNetPlusPlus,
        paper=FOCUSNET,
        source="Table 2",
        printed="9.04M",
        features=_2D,
        note="upsampled linearly and normalised; the authors' transposed convolutions are the row of `_transposed`",
    ),
    _table3(
        "Crosslink-Net",
        CrosslinkNet,
        "121 MiB",
        options={"attention": True},
        note="Table I and the text, both branches complete",
    ),
    _table3(
        "Crosslink-Net (1x1 decoder)",
        CrosslinkNet,
        "121 MiB",
        options={"decoder_kernel": 1},
        words="_1x1decoder_CE",
        note="Table I to the letter, without the attention head: 121.9, which would be printed 122",
    ),
    _table3(
        "Crosslink-Net (released)",
        CrosslinkNet,
        "121 MiB",
        options={"attention": True, "released": True},
        words="_released",
        note="121.6, which the table cuts",
    ),
    _table3("VerCrosslink", VerCrosslink, "60 MiB", note="all three paths; 60 asks for two and a 1x1"),
    _table3("HorCrosslink", HorCrosslink, "60 MiB", note="all three paths; 60 asks for two and a 1x1"),
    _table3("SquareCrosslink", SquareCrosslink, "165 MiB", note="165 asks for 1x1 layers that both branches share"),
    _table3(
        "SquareCrosslink (1 branch)",
        SquareCrosslink,
        "",
        source="Figure 5",
        options={"branches": 1},
        words="_1branch",
        note='"the most conventional 3x3 kernel" in all three paths of a block',
    ),
    _table3("Double2SingleNet", Double2SingleNet, "178 MiB", note="178 asks for full width inside the paths"),
    _table2("U-Net", ClassicalUNet, "7,759,521", normalised=False),
    _table2("Ours1", ImprovedSkipConcatUNet, "8,289,697"),
    _table2("Ours2", ImprovedSkipUNet, "7,765,409"),
    Published(
        name="Wide U-Net",
        network=WideUNet,
        paper=FOCUSNET,
        source="Table 1",
        printed="",
        features=_2D,
        normalised=False,
        note="the paper prints no size; without normalisation, as in the authors' code",
    ),
    Published(
        name="FCN-8s",
        network=FCN,
        paper=IMPROVED_SKIP,
        source="Table 2",
        printed="143,667,240",
        features=_VGG,
        normalised=False,
        note="on VGG16, its upsampling without parameters; 143,667,240 is the size of VGG19 as a classifier of 1000 "
        "classes",
    ),
    Published(
        name="FCN",
        network=FCN,
        paper=CAGGNET,
        source="Tables I, II",
        printed="",
        features=(*_VGG[:4], 4096),
        options={"released": True},
        words="_released",
        note="the paper prints no size; as in the authors' code",
    ),
    Published(
        name="DLA-34",
        network=DLA,
        paper=CAGGNET,
        source="Figure 2",
        printed="",
        features=(16, *_2D),
        conv_bias=False,
        note="the paper prints no size; DLA's authors' code has 18,094,281, 554,744 of them never called "
        "or trained, and no nodes of stage 0",
    ),
    Published(
        name="ENet",
        network=ENet,
        paper=UNET_SHARP,
        source="Table 3",
        printed="",
        features=_ENET,
        conv_bias=False,
        note="the paper prints no size",
    ),
    Published(
        name="R2U-Net",
        network=R2UNet,
        paper=FOCUSNET,
        source="Table 1",
        printed="",
        features=_2D,
        note="the paper prints no size",
    ),
    Published(
        name="R2U-Net (64 to 1024)",
        network=R2UNet,
        paper=FOCUSNET,
        source="",
        printed="",
        features=_WIDE,
        note="at the widths of the implementation that most use",
    ),
    _focus(
        "UNet++ (transposed)",
        "9.04M",
        "Table 2",
        _2D,
        network=UNetPlusPlus,
        normalised=False,
        options={"upsampling": "transposed"},
        words="_transposed",
    ),
    _focus(
        "Attention U-Net",
        "8.91M",
        "Table 2",
        _2D,
        network=ReleasedAttentionUNet,
        with_statistics=True,
        words="_released",
    ),
    _focus(
        "Attention U-Net (half the width)",
        "2.32M",
        "Table 3",
        _3D,
        network=ReleasedAttentionUNet,
        with_statistics=True,
        words="_released",
        note="every width of Table 2's halved; which are reduced, and by how much, is not printed",
    ),
    _focus(
        "BCDU-Net",
        "20.66M",
        "Table 2",
        _WIDE[:4],
        network=BCDUNet,
        note="normalised after every convolution; the authors' code is the row of `_released`",
    ),
    _focus(
        "BCDU-Net (released)",
        "20.66M",
        "Table 2",
        _WIDE[:4],
        network=BCDUNet,
        with_statistics=True,
        options={"released": True},
        words="_released",
    ),
    _focus(
        "BCDU-Net (half the width)",
        "5.22M",
        "Table 3",
        _2D[:4],
        network=BCDUNet,
        with_statistics=True,
        options={"released": True},
        words="_released",
        note="every width of Table 2's halved; which are reduced, and by how much, is not printed",
    ),
    _focus("FocusNet", "19.07M", "Table 2", _2D, network=FocusNet, with_statistics=True),
    _focus(
        "FocusNet (half the width)",
        "5.03M",
        "Table 3",
        _3D,
        network=FocusNet,
        with_statistics=True,
        note="every width of Table 2's halved; which are reduced, and by how much, is not printed",
    ),
    _table1_3d(
        "RA-UNet",
        RAUNet,
        "",
        source="Table 3",
        features=(32, 32, 64, 128, 256, 512),
        note="no size is printed; at the widths of its authors' network of the liver",
    ),
    _table1_3d(
        "RA-UNet (brain)",
        RAUNet,
        "",
        source="Table 3",
        features=(32, 64, 128, 256, 512, 512),
        input_channels=4,
        note="no size is printed; at the widths of its authors' network of brain tumours",
    ),
    _table1(
        "RA-UNet (2D)",
        RAUNet,
        "",
        source="Table 3",
        features=(16, 16, 32, 64, 128, 256),
        input_channels=1,
        note="no size is printed; at the widths of its authors' network of slices, which finds the liver",
    ),
    _table3(
        "DenseUNet",
        DenseUNet,
        "",
        source="Table IV",
        conv_bias=True,
        features=(256,) * 5,
        note="no size is printed; of one width, and 30,207,857 with the 113 classes of its authors' network",
    ),
    Published(
        name="U-Net",
        network=ResidualUNet,
        paper=CROSSLINK,
        source="Table III",
        printed="135 MiB",
        features=_WIDE,
        input_channels=1,
        conv_bias=False,
        note="135.7, which the table cuts; one reading of several that have the size",
    ),
    Published(
        name="PR3D-Unet",
        network=PreActivationUNet,
        paper=CROSSLINK,
        source="Table VII",
        printed="",
        features=_KITS,
        dim=3,
        input_channels=1,
        classes=3,
        note="the paper prints no size; at the features of the authors' code, for background, kidney and tumour",
    ),
    Published(
        name="DUNet",
        network=DUNet,
        paper=UNET_SHARP,
        source="Table 3",
        printed="",
        features=(16, 32, 64, 128, 128),
        input_channels=1,
        note="the paper prints no size; as DUNet's authors have it in PyTorch, while their Keras code has 26,728,449",
    ),
    Published(
        name="TransUNet",
        network=TransUNet,
        paper=UNET_SHARP,
        source="Table 3",
        printed="",
        features=_2D,
        conv_bias=False,
        options={"patch_size": (224, 224)},
        note="the paper prints no size; R50-ViT-B/16 at 224 x 224, whose positions are 150,528 of these",
    ),
    Published(
        name="SPNet",
        network=SPNet,
        paper=CROSSLINK,
        source="Table IV",
        printed="",
        features=_RESNET50,
        options={"patch_size": (320, 320)},
        note="the paper prints neither size nor depth; on ResNet-50, without the auxiliary head of 2,360,065",
    ),
    Published(
        name="SPNet (ResNet-101)",
        network=SPNet,
        paper=CROSSLINK,
        source="Table IV",
        printed="",
        features=_RESNET50,
        options={"patch_size": (320, 320), "depth": 101},
        words="_resnet101",
        note="on ResNet-101, without the auxiliary head of 2,360,065",
    ),
    _focus(
        "U-Net (half the width)",
        "3.62M",
        "Table 3",
        _3D,
        network=ClassicalUNet,
        note="every width of Table 2's halved; which are reduced, and by how much, is not printed",
    ),
    *(
        _on_encoder(name, network, *encoder)
        for encoder in (
            ("VGG11", "vgg11", "vgg11"),
            ("VGG16", "vgg16", "vgg16"),
            ("VGG16-BN", "vgg16_bn", "vgg16bn"),
            ("ResNet101", "resnet101", "resnet101"),
        )
        for name, network in (("UNet", UNet), ("UNet2+", UNetPlusPlus), ("UNet3+", UNet3Plus), ("UNet#", UNetSharp))
    ),
    Published(
        name="Inf-Net",
        network=InfNet,
        paper=CROSSLINK,
        source="Table V",
        printed="",
        features=(64, 256, 512, 1024, 2048, 2048),
        options={"patch_size": (352, 352), "edges": True},
        note="the paper prints no size; its authors' code has the encoder's classifier too, which makes 33,121,721",
    ),
    *(
        _table1(
            f"Mask R-CNN{form}{spelled}",
            network,
            "",
            source="Table 2",
            features=_CROSSLINK,  # decided by the network
            classes=3,
            options={"patch_size": (64, 64), "encoder": model},
            words=words,
            note="the paper prints no size" + (_DEEPEST if form else ""),
        )
        for spelled, model, words in (("", "resnet101", ""), (" (VGG16)", "vgg16", "_vgg16"))
        for form, network in (("", MaskRCNN), ("2+", MaskRCNNPlusPlus), ("3+", MaskRCNN3Plus), ("#", MaskRCNNSharp))
    ),
)
