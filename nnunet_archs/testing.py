"""What every network promises, as tests that pytest runs on yours: a test file of a few lines.

    from nnunet_archs.testing import NetworkContract

    from mine import MyNet

    class TestMyNet(NetworkContract):
        networks = (MyNet,)

A network is a class, or a `functools.partial` of one with its options. All images are small, so that a network of any
size is best handed over in the size that its topology gives it: four features at full resolution.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias, cast

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_archs.measure.memory import kept_for_backward
from nnunet_archs.networks import SegmentationNetwork, Topology
from nnunet_archs.networks.parts.foreign import ForeignNetwork

Network: TypeAlias = Callable[..., SegmentationNetwork]

INPUT_CHANNELS, NUM_CLASSES = 2, 3

# strides of the stages, and the image's size
SHAPES: dict[str, tuple[Sequence[Any], Sequence[int]]] = {
    "2d-2-stages": ([1, 2], (6, 8)),
    "2d": ([1, 2, 2, 2], (16, 24)),
    "2d-anisotropic": ([[1, 1], [2, 1], [2, 2]], (8, 6)),
    "3d-2-stages": ([1, 2], (4, 4, 6)),
    "3d": ([1, 2, 2], (8, 8, 12)),
    "3d-anisotropic": ([[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]], (4, 8, 16)),
}

# changes of a topology, none of which can work
IMPOSSIBLE: tuple[dict[str, Any], ...] = (
    {"n_stages": 1, "features_per_stage": [4], "strides": [1], "kernel_sizes": [3]},
    {"features_per_stage": 0},
    {"features_per_stage": [4]},
    {"kernel_sizes": 4},
    {"strides": 2},
    {"conv_op": nn.Conv1d},
    {"n_conv_per_stage": 2},
)


@dataclass(frozen=True)
class Case:
    """An image's size and a network's topology, as the keywords of a network."""

    name: str
    size: tuple[int, ...]
    kwargs: Mapping[str, Any]

    def build(self, network: Network, **options: Any) -> SegmentationNetwork:
        """A network with the same weights at every call."""
        torch.manual_seed(0)
        given = {"input_channels": channels_of(network), "num_classes": NUM_CLASSES, **self.kwargs, **options}
        net = network(**given)
        net.apply(net.initialize)
        return net

    def image(self, network: Network, batch: int = 2) -> Tensor:
        """An image `(B, C, *size)`, the same at every call."""
        torch.manual_seed(1)
        return torch.randn(batch, channels_of(network), *self.size)


# a test's argument, and what tells its cases apart; a module with stages of its own has one topology a dimension
DISTINCT: dict[str, Callable[[Case], Any]] = {
    "case": lambda case: str(case.kwargs["strides"]),
    "small": lambda case: len(case.size),
    "single": lambda case: None,
}


class NetworkContract:
    """Tests of `networks`, in every dimension that each has; inherit from it, under a name that begins with Test.

    `unsupervised` are the options that leave a network without heads at lower stages. A test that cannot hold is left
    out by setting it to None: `test_compiles = None`, of a network that torch.compile cuts into several graphs.
    """

    networks: ClassVar[Sequence[Network]] = ()
    unsupervised: ClassVar[Mapping[str, Any]] = {"supervision": "none"}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test on every network: at every shape, at one a dimension, or at one alone, as its argument says."""
        for argument, distinct in DISTINCT.items():
            if argument in metafunc.fixturenames:
                found = [(network, case) for network in self.networks for case in cases(network, distinct, self.fitted)]
                ids = [f"{name_of(network)}-{case.name}" for network, case in found]
                metafunc.parametrize(("network", argument), found, ids=ids)

    @staticmethod
    def fitted(case: Case, network: Network) -> Case | None:
        """What a network is tested on in place of a case; None of one that it is not there for."""
        cls = class_of(network)
        if len(case.size) not in getattr(cls, "dimensions", (2, 3)):
            return None
        return foreign_case(case, cls) if issubclass(cls, ForeignNetwork) else case

    def test_outputs_whatever_the_switch_of_supervision(self, network: Network, case: Case) -> None:
        on, off = (case.build(network, deep_supervision=switch).eval() for switch in (True, False))
        for parameter in off.parameters():
            nn.init.zeros_(parameter)
        off.load_state_dict(on.state_dict())
        x = case.image(network)
        with torch.no_grad():
            outputs = on(x)
            on.decoder.deep_supervision = False
            assert torch.equal(on(x), outputs[0])
            assert torch.equal(off(x), outputs[0])
        sizes = [
            tuple(n // step for n, step in zip(case.size, on.topology.stride_between(0, stage), strict=True))
            for stage in on.branch_stages
        ]
        assert [tuple(y.shape) for y in outputs] == [(len(x), NUM_CLASSES, *size) for size in sizes]
        assert on.branch_stages[0] == 0

    @pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "unsupervised"])
    def test_every_parameter_gets_a_gradient(self, network: Network, small: Case, supervised: bool) -> None:
        net = small.build(network, deep_supervision=supervised, **({} if supervised else self.unsupervised))
        outputs = net(small.image(network, batch=1 + supervised))
        losses = [y.square().mean() for y in (outputs if isinstance(outputs, list) else [outputs])]
        torch.stack(losses).sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_copies_are_the_same(self, network: Network, single: Case) -> None:
        net = single.build(network).eval()
        x = single.image(network)
        net(x)
        with torch.no_grad():
            for copied in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
                assert torch.equal(copied(x), net(x))

    def test_compiles(self, network: Network, single: Case) -> None:
        compile_once_a_mode(single.build(network, deep_supervision=True), single.image(network))

    def test_recomputing_changes_nothing(self, network: Network, single: Case) -> None:
        if not class_of(network).recomputes:
            refused(single, network, checkpoint=True)
            return
        x = single.image(network)
        results = []
        for checkpoint in (False, True):
            net = single.build(network, deep_supervision=True, checkpoint=checkpoint)
            torch.manual_seed(0)  # dropout drops the same
            outputs = net(x)
            torch.stack([y.square().mean() for y in outputs]).sum().backward()
            results.append([*outputs, *(parameter.grad for parameter in net.parameters())])
        for plain, recomputed in zip(*results, strict=True):
            assert torch.equal(plain, recomputed)

    def test_its_memory_can_be_measured(self, network: Network, single: Case) -> None:
        with torch.device("meta"):
            net = single.build(network, deep_supervision=True)
        assert kept_for_backward(net, single.image(network).shape) > 0

    def test_plans_can_name_it(self, network: Network, single: Case) -> None:
        cls = class_of(network)
        options = {**single.kwargs, **(network.keywords if isinstance(network, partial) else {})}
        types = [key for key, value in options.items() if isinstance(value, type)]
        planned = {key: path_of(value) if key in types else value for key, value in options.items()}
        net = get_network_from_plans(
            path_of(cls), planned, types, channels_of(network), NUM_CLASSES, deep_supervision=True
        )
        assert type(net) is cls
        net.load_state_dict(single.build(network).state_dict())

    def test_what_cannot_work_is_refused_in_one_line(self, network: Network, single: Case) -> None:
        for change in IMPOSSIBLE:
            refused(single, network, **change)
        cls = class_of(network)
        if not cls.has_heads:
            refused(single, network, supervision="nnunet")
        if not issubclass(cls, ForeignNetwork):
            return
        refused(single, network, patch_size=single.size[1:])
        if single.build(network).topology.total_stride[-1] > 1:
            refused(single, network, patch_size=[*single.size[:-1], single.size[-1] + 1])
        for name, (_, size) in SHAPES.items():
            if len(size) not in cls.dimensions:
                refused(foreign_case(shape_case(name), cls), network)
        if cls.most_channels is not None:
            refused(single, network, input_channels=cls.most_channels + 1)


# as nnU-Net trains, validates with the batch of training, and predicts, a patch at a time
MODES: tuple[tuple[Callable[[], AbstractContextManager[Any]], bool, bool, int], ...] = (
    (torch.enable_grad, True, True, 2),
    (torch.no_grad, False, True, 2),
    (torch.inference_mode, False, False, 1),
)


def compile_once_a_mode(net: SegmentationNetwork, x: Tensor) -> list[torch.fx.GraphModule]:
    """The graphs that torch.compile makes of a network, for an image `(2, C, *spatial)`.

    Checks that they are one for training, one for validation and one for prediction, however often nnU-Net goes from
    one to the other and from patch to patch, and that they compute what the network does.
    """
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    for turn in range(2):
        for mode, training, supervised, batch in MODES:
            net.train(training)
            net.decoder.deep_supervision = supervised
            results = []
            for run in (compiled, net):
                torch.manual_seed(0)  # dropout drops the same
                with mode():
                    results.append(run(x[:batch] + turn))
            torch.testing.assert_close(*results)
    assert len(graphs) == len(MODES)
    return graphs


def refused(case: Case, network: Network, **change: Any) -> None:
    """Check that a network is refused, and says why in one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is the network's)
        case.build(network, **change)
    assert str(caught.value), change
    assert "\n" not in str(caught.value)


def cases(
    network: Network, distinct: Callable[[Case], Any], fitted: Callable[[Case, Network], Case | None]
) -> Iterator[Case]:
    """What a network is built for: the shapes of the dimensions that it has, one of those that are not distinct."""
    seen = set()
    for name in SHAPES:
        case = fitted(shape_case(name), network)
        if case is not None and distinct(case) not in seen:
            seen.add(distinct(case))
            yield case


def shape_case(name: str) -> Case:
    """The case of one of `SHAPES`, with the layers that nnU-Net plans."""
    strides, size = SHAPES[name]
    dim, n_stages = len(size), len(strides)
    kernels = [[1, 3, 3] if name == "3d-anisotropic" else 3, *[3] * (n_stages - 1)]
    kwargs = {
        "n_stages": n_stages,
        "features_per_stage": [4 * (1 + i // 2) for i in range(n_stages)],
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": kernels,
        "strides": list(strides),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if dim == 2 else nn.InstanceNorm3d,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    return Case(name, tuple(size), kwargs)


def foreign_case(case: Case, cls: type[ForeignNetwork]) -> Case:
    """A case for a module from elsewhere: its own stages, and the next patch that serves."""
    patch = cls.serving(case.size, Topology(**case.kwargs).total_stride)
    return Case(case.name, patch, cls.planned(case.kwargs, patch))


def class_of(network: Network) -> type[SegmentationNetwork]:
    """The class of a network handed over as itself or with options."""
    return cast(type[SegmentationNetwork], network.func if isinstance(network, partial) else network)


def channels_of(network: Network) -> int:
    """The channels of the images that a network is tested with."""
    most = getattr(class_of(network), "most_channels", None)
    return INPUT_CHANNELS if most is None else min(INPUT_CHANNELS, most)


def name_of(network: Network) -> str:
    """A network's name, with its options."""
    options = network.keywords if isinstance(network, partial) else {}
    return "-".join([class_of(network).__name__, *(f"{key}={value}" for key, value in options.items())])


def path_of(cls: type) -> str:
    """A class as plans name it."""
    return f"{cls.__module__}.{cls.__qualname__}"
