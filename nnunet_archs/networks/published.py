"""Every configuration whose size a paper prints, and the size of what is built here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from .contract import SegmentationNetwork
from .topology import TopologyKwargs
from .unet_sharp import UNet, UNetPlusPlus, UNetSharp, VNet, VNetPlusPlus, VNetSharp

UNET_SHARP = "UNet# (arXiv:2205.11759)"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table; sizes are counted for one class, supervision heads apart.

    `parameters` is the printed size; `note` says why the built size does not round to it.
    """

    name: str
    network: type[SegmentationNetwork]
    dim: int
    features: tuple[int, ...]
    parameters: int
    input_channels: int
    paper: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def topology(self) -> TopologyKwargs:
        """The paper's topology: kernels of 3, stride 2 between the stages, BatchNorm and ReLU, biased convolutions."""
        stages = len(self.features)
        return {
            "n_stages": stages,
            "features_per_stage": self.features,
            "conv_op": nn.Conv2d if self.dim == 2 else nn.Conv3d,
            "kernel_sizes": 3,
            "strides": [1] + [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": nn.BatchNorm2d if self.dim == 2 else nn.BatchNorm3d,
            "nonlin": nn.ReLU,
        }

    def build(self) -> SegmentationNetwork:
        """The network, on torch's default device, without deep supervision."""
        options = {"supervision": "none", **self.options, **self.topology()}
        network: Any = self.network
        return cast(SegmentationNetwork, network(input_channels=self.input_channels, num_classes=1, **options))

    def built_parameters(self) -> int:
        """Parameters of the network that is built here."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in self.build().parameters())


def _table1(
    name: str,
    network: type[SegmentationNetwork],
    dim: int,
    features: tuple[int, ...],
    parameters: int,
    note: str = "",
    **options: Any,
) -> Published:
    return Published(
        name=name,
        network=network,
        dim=dim,
        features=features,
        parameters=parameters,
        input_channels=3 if dim == 2 else 1,
        paper=UNET_SHARP,
        source="Table 1",
        options=options,
        note=note,
    )


_2D = (32, 64, 128, 256, 512)
_3D = (16, 32, 64, 128, 256)

PUBLISHED = (
    _table1("UNet", UNet, 2, _2D, 7_850_000),
    _table1("WUNet", UNet, 2, (35, 70, 140, 280, 560), 9_390_000),
    _table1("UNet2+", UNetPlusPlus, 2, _2D, 9_160_000),
    _table1("UNet#", UNetSharp, 2, _2D, 9_710_000, "Eq. 1 at every node gives 10.75M, as the authors' code does"),
    _table1(
        "UNet# (table)",
        UNetSharp,
        2,
        _2D,
        9_710_000,
        "without the links of full scale at X[1, 3] and X[2, 2]; 9.716M, which the table cuts to 9.71M",
        wiring="table",
    ),
    _table1("V-Net", VNet, 3, _3D, 26_390_000),
    _table1("WV-Net", VNet, 3, (18, 36, 72, 144, 288), 33_400_000),
    _table1("V-Net2+", VNetPlusPlus, 3, _3D, 27_370_000),
    _table1("V-Net#", VNetSharp, 3, _3D, 28_370_000, "Eq. 1 at every node gives 28.56M"),
    _table1("V-Net# (table)", VNetSharp, 3, _3D, 28_370_000, wiring="table"),
)
