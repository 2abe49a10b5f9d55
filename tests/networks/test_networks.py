"""What every network promises, whichever paper it is from."""

import math
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_archs import networks
from nnunet_archs.networks import SegmentationNetwork
from nnunet_archs.testing import NetworkContract, compile_once_a_mode

NETWORKS = [
    network
    for network in vars(networks).values()
    if isinstance(network, type) and issubclass(network, SegmentationNetwork) and network is not SegmentationNetwork
]
# the networks, and their options that change what is computed
VARIANTS = [
    *(pytest.param(network, id=network.__name__) for network in NETWORKS),
    *(
        pytest.param(partial(network, **options), id=f"{network.__name__}-{'-'.join(options)}")
        for network, options in [
            (networks.UNetSharp, {"cgm": True}),
            (networks.VNetSharp, {"level": 1}),
            (networks.CAggNet, {"wam": "add"}),
            (networks.FocusNetPlusPlus, {"block": "released"}),
            (networks.CrosslinkNet, {"attention": True}),
            (networks.CrosslinkNet, {"released": True}),
        ]
    ),
]
# the others are these with another encoder, other kernels or fewer skip connections: what only code can get wrong
# is tested on these alone
KINDS = [
    network
    for network in NETWORKS
    if network
    not in (
        networks.VNet,
        networks.VNetPlusPlus,
        networks.VNet3Plus,
        networks.CanonicalVNet3Plus,
        networks.HorCrosslink,
        networks.SquareCrosslink,
        networks.Double2SingleNet,
        networks.ImprovedSkipUNet,
    )
]

# name: strides of the stages, image size
TOPOLOGIES = {
    "2d": ([1, 2, 2, 2], (16, 24)),
    "2d-anisotropic": ([[1, 1], [2, 1], [2, 2]], (8, 6)),
    "2d-2-stages": ([1, 2], (6, 8)),
    # an axis at a time: the deepest stage is reached with an image that a test can afford
    "2d-8-stages": ([1, [2, 1], [1, 2], [2, 1], [1, 2], [2, 1], [1, 2], 2], (16, 32)),
    "3d": ([1, 2, 2], (8, 8, 12)),
    "3d-anisotropic": ([[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]], (4, 8, 16)),
    "3d-2-stages": ([1, 2], (4, 4, 6)),
}


def topology(name):
    strides, size = TOPOLOGIES[name]
    kernel = [1, 3, 3] if name == "3d-anisotropic" else 3
    return size, arguments(len(size), strides, [kernel] + [3] * (len(strides) - 1))


def arguments(dim, strides, kernels):
    return {
        "n_stages": len(strides),
        "features_per_stage": [4 * (1 + i // 2) for i in range(len(strides))],
        "conv_op": nn.Conv2d if dim == 2 else nn.Conv3d,
        "kernel_sizes": kernels,
        "strides": strides,
        "conv_bias": True,
        "norm_op": nn.InstanceNorm2d if dim == 2 else nn.InstanceNorm3d,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def build(network, name, **options):
    return build_from(network, *topology(name), **options)


def build_from(network, size, kwargs, **options):
    torch.manual_seed(0)
    built = network(input_channels=2, num_classes=3, **kwargs, **options)
    built.apply(built.initialize)
    return built, torch.randn(2, 2, *size)


def run(net, x):
    """Its outputs; dropout drops the same at every call."""
    torch.manual_seed(0)
    return net(x)


each_variant = pytest.mark.parametrize("network", VARIANTS)


class TestContract(NetworkContract):
    networks = tuple(partial(variant.values[0], supervision="paper") for variant in VARIANTS)
    test_compiles = None  # below, on fewer
    test_plans_can_name_it = None  # below, with nnU-Net's supervision

    @each_variant
    @pytest.mark.parametrize("name", ["2d-2-stages", "2d-8-stages", "3d-anisotropic"])
    def test_exact_and_textbook_fusion_are_one_function(self, network, name):
        assert_fusions_agree(network, *topology(name))


def assert_fusions_agree(network, size, kwargs):
    options = {"supervision": "paper", "deep_supervision": True}
    exact, x = build_from(network, size, kwargs, **options)
    textbook, _ = build_from(network, size, kwargs, **options, fusion="textbook")
    textbook.load_state_dict(exact.state_dict())
    x = x.double()
    results = []
    for net in (exact.double(), textbook.double()):
        outputs = run(net, x)
        sum((y * torch.arange(y.numel()).view_as(y).cos()).mean() for y in outputs).backward()
        results.append([*outputs, *(parameter.grad for parameter in net.parameters())])
    for a, b in zip(*results, strict=True):
        assert a is not None  # every parameter has a gradient
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@st.composite
def random_topologies(draw):
    """An image's size and a network's topology, any stride and kernel an axis."""
    dim, n_stages = draw(st.sampled_from([2, 3])), draw(st.integers(2, 4))
    steps = st.lists(st.sampled_from([1, 2, 3] if n_stages < 4 else [1, 2]), min_size=dim, max_size=dim)
    strides = [[1] * dim] + [draw(steps) for _ in range(n_stages - 1)]
    kernels = [draw(st.lists(st.sampled_from([1, 3]), min_size=dim, max_size=dim)) for _ in range(n_stages)]
    # more than one voxel at the deepest stage: it could not be normalised
    size = [int(math.prod(axis)) * (1 + (i == 0)) for i, axis in enumerate(zip(*strides, strict=True))]
    return size, arguments(dim, strides, kernels)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(network=st.sampled_from(NETWORKS), case=random_topologies())
def test_fusions_agree_on_random_topologies(network, case):
    assert_fusions_agree(network, *case)


@pytest.mark.parametrize("network", NETWORKS)
def test_deep_3d_networks_have_their_shapes(network):
    # eight stages, too large to run here: shapes alone, on the meta device
    strides = [[1, 1, 1]] + [[1, 2, 2]] + [[2, 2, 2]] * 6
    size = [math.prod(axis) * 2 for axis in zip(*strides, strict=True)]
    with torch.device("meta"):
        net, x = build_from(network, size, arguments(3, strides, 3), supervision="paper", deep_supervision=True)
        outputs = net(x)
    assert len(outputs) == len(net.branch_stages)
    for y, stage in zip(outputs, net.branch_stages, strict=True):
        reached = [math.prod(axis) for axis in zip(*strides[: stage + 1], strict=True)]
        assert list(y.shape[2:]) == [n // s for n, s in zip(size, reached, strict=True)]


each_network = pytest.mark.parametrize("network", NETWORKS)
each_kind = pytest.mark.parametrize("network", KINDS)


class TestInUse:
    @each_network
    def test_plans_can_name_the_class(self, network):
        size, kwargs = topology("3d")
        named = [key for key, value in kwargs.items() if isinstance(value, type)]
        kwargs = {k: f"{v.__module__}.{v.__qualname__}" if k in named else v for k, v in kwargs.items()}
        path = f"{network.__module__}.{network.__qualname__}"
        net = get_network_from_plans(path, kwargs, named, 1, 2, deep_supervision=True)
        assert type(net) is network
        # what the stock trainer pairs them with: one target a stage but the deepest
        assert [y.shape[-1] for y in net(torch.zeros(1, 1, *size))] == [12, 6]

    @each_network
    def test_heads_are_left_out_of_pretraining(self, network):
        # nnU-Net skips the keys that contain `.seg_layers.` when it loads pretrained weights
        net, _ = build(network, "2d", supervision="paper")
        other, _ = build(network, "2d", supervision="none")
        assert {key for key in net.state_dict() if ".seg_layers." not in key} == {
            key for key in other.state_dict() if ".seg_layers." not in key
        }

    @each_kind
    def test_learns_one_patch(self, network):
        net, x = build(network, "2d-anisotropic", supervision="none")
        truth = (x[:, 0] > 0.5).long()
        optimizer = torch.optim.Adam(net.parameters(), 0.02)
        losses = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), truth)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.35 * losses[0]

    @pytest.mark.parametrize(
        "network", [*KINDS, partial(networks.UNetSharp, cgm=True), partial(networks.CrosslinkNet, attention=True)]
    )
    def test_compiles_once_a_mode(self, network):
        compile_once_a_mode(*build(network, "2d-2-stages", supervision="paper", deep_supervision=True))


def test_the_exact_form_compiles_to_an_operator_a_node():
    net, x = build(networks.UNetSharp, "3d", supervision="paper", deep_supervision=True, fusion="exact")
    graph, *_ = compile_once_a_mode(net, x)
    # a node's fused sources are one operator, whose loops inductor does not see
    called = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    assert called["nnunet_archs.fused_sum.default"] > 0
    # nothing that was made in inference mode is left for training
    net.train()(x)[0].sum().backward()


def test_batches_of_any_other_size_share_one_graph():
    net, x = build(networks.UNetSharp, "2d-2-stages", supervision="paper")
    net.eval()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    with torch.inference_mode():
        for batch in (1, 2, 3, 4, 1):
            patches = x[:1].repeat(batch, 1, 1, 1)
            torch.testing.assert_close(compiled(patches), net(patches))
    assert len(graphs) == 2


@pytest.mark.parametrize(
    ("first", "second"), list(pairwise([networks.UNet, networks.UNetPlusPlus, networks.UNetSharp]))
)
def test_the_grids_coincide_at_two_stages(first, second):
    a, x = build(first, "3d-2-stages", supervision="none")
    b, _ = build(second, "3d-2-stages", supervision="none")
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


def test_three_stage_grids_differ():
    sizes = [
        sum(p.numel() for p in build(n, "2d-anisotropic", supervision="none")[0].parameters())
        for n in (networks.UNet, networks.UNetPlusPlus, networks.UNetSharp)
    ]
    assert sizes == sorted(set(sizes))


def test_the_canonical_unet_3_plus_has_the_width_of_the_plan_and_does_not_align_corners():
    net, x = build(networks.CanonicalUNet3Plus, "2d", supervision="none")
    assert [len(net.grid.nodes[f"X_{i}_{3 - i}"].node[0].norm.weight) for i in range(3)] == [4 * 4] * 3  # 4 stages
    encoder = net.encoder(x)
    projections = net.grid.nodes["X_2_1"].node[0].conv
    shallow = [nn.functional.max_pool2d(encoder[0], 4), nn.functional.max_pool2d(encoder[1], 2), encoder[2]]
    deep = nn.functional.interpolate(encoder[3], scale_factor=2, mode="bilinear", align_corners=False)
    convs = [conv.conv for conv in projections.convs]
    expected = torch.cat([conv(source) for conv, source in zip(convs, [*shallow, deep], strict=True)], dim=1)
    torch.testing.assert_close(projections([*shallow, encoder[3]]), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_stages": 1, "features_per_stage": [4], "strides": [1], "kernel_sizes": [3]}, "n_stages=1.*at least 2"),
        ({"features_per_stage": [4, 4]}, "features_per_stage has 2 entries for n_stages=4"),
        ({"features_per_stage": [4, 4, 0, 4]}, r"features_per_stage=\[4, 4, 0, 4\].*at least 1"),
        ({"kernel_sizes": [3, 3, 4, 3]}, "kernel_sizes=.*odd"),
        ({"strides": [1, 2, 2]}, "strides has 3 entries"),
        ({"strides": [2, 2, 2, 2]}, r"strides\[0\]=\[2, 2\].*stride 1"),
        ({"strides": [1, 2, [2, 2, 2], 2]}, r"strides\[2\]=\[2, 2, 2\] has 3 axes; Conv2d has 2"),
        ({"strides": [1, 0, 2, 2]}, "strides=.*at least 1"),
        ({"conv_op": nn.Conv1d}, "conv_op=.*Conv2d or torch.nn.Conv3d"),
        ({"supervision": "deep"}, "supervision='deep': give one of none, nnunet, paper"),
        ({"fusion": "fast"}, "fusion='fast': give one of exact, textbook"),
        ({"wiring": "full"}, "wiring='full': give one of equation, table"),
        ({"wiring": "table"}, "tells it for 5 stages, and these are 4; leave it out"),
    ],
)
def test_refusals(change, message):
    _, kwargs = topology("2d")
    with pytest.raises(ValueError, match=message):
        networks.UNetSharp(input_channels=1, num_classes=2, **{**kwargs, **change})


def test_an_argument_of_another_network_is_refused():
    _, kwargs = topology("2d")
    with pytest.raises(ValueError, match="UNetSharp takes no n_conv_per_stage; leave that out"):
        networks.UNetSharp(input_channels=1, num_classes=2, n_conv_per_stage=2, **kwargs)
