"""Blocks whose inner results are made again for backward: the same function, with less of it kept."""

from copy import deepcopy

import pytest
import torch
from test_networks import KINDS, arguments, build, build_from, run, topology
from torch import nn

from nnunet_archs import networks
from nnunet_archs.measure.memory import kept_for_backward

# where blocks differ; the others are made of the same ones
BLOCKS = [
    networks.VNetSharp,
    networks.FocusNetPlusPlus,
    networks.CrosslinkNet,
]


def outputs_and_gradients(net, x):
    outputs = run(net, x)
    sum(y.square().mean() for y in outputs).backward()
    return [*outputs, *(parameter.grad for parameter in net.parameters())]


@pytest.mark.parametrize("network", KINDS)
def test_it_is_the_same_function(network):
    options = {"supervision": "paper", "deep_supervision": True}
    if network is networks.CrosslinkNet:
        options["attention"] = True
    plain, x = build(network, "3d-anisotropic", **options)
    checkpointed, _ = build(network, "3d-anisotropic", **options, checkpoint=True)
    checkpointed.load_state_dict(plain.state_dict())
    # dropout, where there is some, drops the same again
    for a, b in zip(outputs_and_gradients(plain, x), outputs_and_gradients(checkpointed, x), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("network", KINDS)
def test_it_keeps_at_most_twice_what_nnunet_keeps(network):
    strides = [1, 2, 2, 2, 2, 2]
    features = {"features_per_stage": [32, 64, 128, 256, 320, 320]}
    with torch.device("meta"):
        kept = []
        for checkpoint in (False, True):
            own = {"attention": True} if network is networks.CrosslinkNet else {}
            kwargs = arguments(3, strides, 3) | features | own
            net, _ = build_from(network, [2], kwargs, supervision="paper", deep_supervision=True, checkpoint=checkpoint)
            kept.append(kept_for_backward(net, (2, 2, 128, 128, 128)) / 2**30)
    # PlainConvUNet: 6.69 GiB (tests/measure/test_memory.py)
    assert kept[1] < min(2 * 6.69, 0.7 * kept[0])
    if network is networks.UNetSharp:
        # 15.51 and 7.96 with two classes in place of three
        assert kept[0] < 15.6
        assert kept[1] < 8.05


# by nnU-Net's rules for slices of 3.6 mm and pixels of 0.625 mm
ANISOTROPIC = arguments(
    3,
    [1, *[[1, 2, 2]] * 2, *[2] * 2, *[[1, 2, 2]] * 2],
    [[1, 3, 3], [1, 3, 3], 3, 3, 3, 3, 3],
) | {"features_per_stage": [32, 64, 128, 256, 320, 320, 320]}


@pytest.mark.parametrize(
    ("network", "checkpoint", "times"),
    [(networks.CAggNet, True, 2), (networks.CrosslinkNet, False, 3), (networks.FocusNetPlusPlus, False, 3)],
)
def test_of_what_nnunet_keeps_at_an_anisotropic_plan(network, checkpoint, times):
    with torch.device("meta"):
        net, _ = build_from(
            network, [2], ANISOTROPIC, supervision="paper", deep_supervision=True, checkpoint=checkpoint
        )
    # PlainConvUNet: 7.16 GiB (docs/benchmarks/nnunet-plans.md)
    assert kept_for_backward(net, (2, 2, 16, 320, 320)) / 2**30 < times * 7.16


REMADE = [networks.FocusNetPlusPlus, networks.CrosslinkNet]  # what stands between their convolutions is made again


@pytest.mark.parametrize("network", REMADE)
@pytest.mark.parametrize("name", ["2d", "3d-anisotropic"])
def test_what_stands_between_convolutions_is_made_again_as_it_was(network, name):
    remade, x = build(network, name, supervision="paper", deep_supervision=True)
    kept = deepcopy(remade)
    for module in kept.modules():
        if hasattr(module, "remakes"):
            assert module.remakes
            module.remakes = False
    for a, b in zip(
        outputs_and_gradients(remade.double(), x.double()),
        outputs_and_gradients(kept.double(), x.double()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", REMADE)
@pytest.mark.parametrize(
    "change",
    [{"norm_op": nn.BatchNorm2d}, {"norm_op": None}, {"dropout_op": nn.Dropout2d, "dropout_op_kwargs": {"p": 0.5}}],
)
def test_what_would_not_be_the_same_again_is_kept(network, change):
    size, kwargs = topology("2d-2-stages")
    net, x = build_from(network, size, kwargs | change, supervision="paper", deep_supervision=True)
    assert not any(getattr(module, "remakes", False) for module in net.modules())
    outputs_and_gradients(net, x)
    assert {int(value) for key, value in net.state_dict().items() if "num_batches" in key} <= {1}


@pytest.mark.parametrize("network", BLOCKS)
def test_it_compiles_without_graph_breaks(network):
    net, x = build(network, "2d-2-stages", supervision="paper", deep_supervision=True, checkpoint=True)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    net.eval()  # dropout of a compiled network has random numbers of its own
    for a, b in zip(outputs_and_gradients(compiled, x), outputs_and_gradients(net, x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_op": nn.BatchNorm3d}, "checkpoint=True with norm_op=BatchNorm3d.*instance norm"),
        ({"norm_op": None}, "checkpoint=True with nonlin_kwargs={'inplace': True}.*inplace=False"),
        (
            {"dropout_op": nn.Dropout3d, "dropout_op_kwargs": {"p": 0.1, "inplace": True}},
            "checkpoint=True with dropout_op_kwargs={'p': 0.1, 'inplace': True}.*inplace=False",
        ),
    ],
)
def test_what_cannot_be_computed_again_is_refused(change, message):
    _, kwargs = topology("3d")
    with pytest.raises(ValueError, match=message):
        networks.CAggNet(input_channels=1, num_classes=2, **{**kwargs, **change}, checkpoint=True)


def test_arguments_of_a_dropout_that_is_not_there_are_no_matter():
    # nnU-Net's plans have both or neither; a plan written by hand need not
    _, kwargs = topology("3d")
    kwargs |= {"dropout_op": None, "dropout_op_kwargs": {"p": 0.1, "inplace": True}}
    assert networks.UNet(input_channels=1, num_classes=2, **kwargs, checkpoint=True).topology.checkpoint


def test_without_a_norm():
    _, kwargs = topology("2d-anisotropic")
    kwargs |= {"norm_op": None, "nonlin_kwargs": {"inplace": False}}
    plain, x = build_from(networks.UNetSharp, (8, 6), kwargs, supervision="paper", deep_supervision=True)
    checkpointed, _ = build_from(
        networks.UNetSharp, (8, 6), kwargs, supervision="paper", deep_supervision=True, checkpoint=True
    )
    for a, b in zip(outputs_and_gradients(plain, x), outputs_and_gradients(checkpointed, x), strict=True):
        assert torch.equal(a, b)
