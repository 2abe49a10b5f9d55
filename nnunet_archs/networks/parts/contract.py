"""What every network promises to nnU-Net and to the trainers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import ClassVar, Literal, get_args

from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from .stages import check_dimensions
from .topology import Topology

# which outputs have a head: the full resolution alone, those of nnU-Net's own networks, or those of the paper
Supervision = Literal["none", "nnunet", "paper"]


def check_choice(option: str, value: str | int, choices: Iterable[str | int]) -> None:
    """Check an option that is one of a few words or numbers.

    Raises:
        ValueError: if it is none of them.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{option}={value!r}: give one of {', '.join(map(str, choices))}")


def check_supervision(network: SegmentationNetwork, supervision: Supervision) -> None:
    """Check which outputs a network is asked to have a head at.

    Raises:
        ValueError: if there is no such supervision, or the network has no heads at lower stages.
    """
    check_choice("supervision", supervision, get_args(Supervision))
    if not network.has_heads and supervision != "none":
        raise ValueError(
            f"supervision={supervision!r}: {type(network).__name__} has no heads at lower stages; leave _DS out of "
            "the trainer's name, or give supervision='none'"
        )


def supervised_stages(network: SegmentationNetwork, topology: Topology, supervision: Supervision) -> tuple[int, ...]:
    """The stages with a head: all but the deepest with nnU-Net's supervision, else the full resolution.

    Raises:
        ValueError: as `check_supervision`.
    """
    check_supervision(network, supervision)
    return tuple(range(topology.last if supervision == "nnunet" else 1))


class SegmentationNetwork(nn.Module, ABC):
    """A network that returns logits: one tensor, or with deep supervision a list, from the highest resolution down.

    The architecture's options decide which heads exist, never the switch `deep_supervision`: state dicts are equal
    with it on or off. `branch_stages` names the stage whose resolution each entry of the list has.

    Raises:
        ValueError: for a topology with another number of axes than the network's `dimensions`.
    """

    has_heads: ClassVar[bool] = True  # at lower stages too

    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    is_graph: ClassVar[bool] = True  # it computes the same whatever is in an image, and can be exported
    recomputes: ClassVar[bool] = True  # the topology's `checkpoint` is heard
    widening: ClassVar[Fraction] = Fraction(1)  # the topology's features are taken times that
    # the paper, as a list of references has it, where `nnunet_archs.fidelity` does not tell
    citation: ClassVar[str] = ""
    link: ClassVar[str] = ""

    def __init__(self, topology: Topology, *, branch_stages: tuple[int, ...], deep_supervision: bool) -> None:
        super().__init__()
        check_dimensions(type(self).__name__, topology, self.dimensions)
        self.topology = topology
        self.branch_stages = branch_stages
        self.deep_supervision = deep_supervision

    @property
    def decoder(self) -> SegmentationNetwork:
        """The network itself: nnU-Net sets `network.decoder.deep_supervision`."""
        return self

    @abstractmethod
    def outputs(self, x: Tensor) -> list[Tensor]:
        """Image `(B, C, *spatial)` to logits: of all branches with deep supervision, else of the first.

        In training, what only the loss needs follows them.
        """

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Image `(B, C, *spatial)` to logits `(B, num_classes, *spatial)`, or to the list of all `outputs`."""
        outputs = self.outputs(x)
        return outputs if self.deep_supervision or len(outputs) > 1 else outputs[0]

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He initialisation, as in nnU-Net's own networks."""
        InitWeights_He(1e-2)(module)
