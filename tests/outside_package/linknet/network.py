"""LinkNet (Chaurasia, Culurciello 2017, arXiv:1707.03718): U-Net whose skip connections are added."""

from torch import Tensor, nn
from typing_extensions import Unpack

from nnunet_archs.networks.parts.blocks import ConvStack
from nnunet_archs.networks.parts.contract import SegmentationNetwork, Supervision
from nnunet_archs.networks.parts.encoders import ConvEncoder
from nnunet_archs.networks.parts.heads import Heads
from nnunet_archs.networks.parts.topology import Topology, TopologyKwargs


class LinkNet(SegmentationNetwork):
    """A decoder stage adds the encoder's features to what comes from below; "paper" supervises the output alone."""

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        deep_supervision: bool = False,
        supervision: Supervision = "nnunet",
        **topology_kwargs: Unpack[TopologyKwargs],
    ) -> None:
        topology = Topology.of(self, topology_kwargs)
        stages = tuple(range(topology.last if supervision == "nnunet" else 1))
        super().__init__(topology, branch_stages=stages, deep_supervision=deep_supervision)
        widths, kernels = topology.features_per_stage, topology.kernel_sizes
        self.encoder = ConvEncoder(input_channels, topology)
        self.up, self.convs = nn.ModuleList(), nn.ModuleList()
        for i in range(topology.last):
            self.up.append(topology.transposed_conv(widths[i + 1], widths[i], i + 1))
            self.convs.append(
                ConvStack(topology.conv(widths[i], widths[i], kernels[i]), widths[i], kernels[i], topology)
            )
        self.heads = Heads({f"D_{i}": widths[i] for i in stages}, num_classes, topology)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """Logits of the decoder's stages, the full resolution first."""
        *skips, x = self.encoder(x)
        decoded: list[Tensor] = []
        for up, convs, skip in zip(reversed(self.up), reversed(self.convs), reversed(skips), strict=True):
            x = convs(up(x) + skip)
            decoded.insert(0, x)
        return self.heads(decoded if self.deep_supervision else decoded[:1])
