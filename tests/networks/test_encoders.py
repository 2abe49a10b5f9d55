"""Others' encoders under the grid's decoders: nnU-Net's residual one and timm's models."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from nnunet_archs.measure.memory import kept_for_backward
from nnunet_archs.networks.attention_unet import AttentionUNet
from nnunet_archs.networks.parts.backbones import is_timms, preset_blocks, timm_strides
from nnunet_archs.networks.parts.stages import next_patch, with_stages
from nnunet_archs.networks.unet_sharp import CanonicalUNet3Plus, UNet, UNet3Plus, UNetPlusPlus, UNetSharp
from nnunet_archs.testing import Case, Network, NetworkContract, shape_case


def on_timm(case: Case, encoder: str) -> Case:
    """A 2D case with the stages of a model of timm."""
    strides = timm_strides(encoder)
    patch = next_patch(case.size, [torch.tensor(strides).prod().item()] * 2)
    return replace(case, size=patch, kwargs={**case.kwargs, **with_stages(case.kwargs, strides, 2)})


class TestContract(NetworkContract):
    networks = (
        partial(UNet, encoder="vgg11"),
        partial(UNetSharp, encoder="test_resnet"),
        partial(UNetSharp, encoder="test_resnet", level=2, cgm=True),
        partial(UNet3Plus, encoder="test_convnext"),
        partial(AttentionUNet, encoder="test_resnet"),
        partial(UNetPlusPlus, encoder="resenc"),
        partial(UNet3Plus, encoder="resenc", n_blocks_per_stage=1),
        partial(CanonicalUNet3Plus, encoder="resenc", n_blocks_per_stage=1),
    )
    test_compiles = None  # below, on fewer

    @staticmethod
    def fitted(case: Case, network: Network) -> Case | None:
        encoder = network.keywords["encoder"]
        if not is_timms(encoder):
            return case
        return on_timm(case, encoder) if len(case.size) == 2 else None


def build(network: Any, shape: str = "3d-anisotropic", **options: Any) -> tuple[nn.Module, torch.Tensor]:
    case = shape_case(shape)
    if is_timms(options["encoder"]):
        case = on_timm(case, options["encoder"])
    return case.build(network, **options), case.image(network)


@pytest.mark.parametrize("encoder", ["resenc", "test_resnet"])
def test_it_compiles_to_one_graph(encoder: str) -> None:
    net, x = build(UNet, "2d", encoder=encoder)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(net, backend="eager", fullgraph=True)(x), net(x))


def test_the_residual_encoder_is_nnunets() -> None:
    """With the same weights it gives what nnU-Net's own network has there."""
    case = shape_case("3d-anisotropic")
    torch.manual_seed(0)
    blocks = {"n_blocks_per_stage": preset_blocks(4), "n_conv_per_stage_decoder": 1}
    theirs = ResidualEncoderUNet(2, num_classes=3, **case.kwargs, **blocks, deep_supervision=False)
    theirs.apply(theirs.initialize)
    ours, x = build(UNetSharp, encoder="resenc")
    began = {key: value for key, value in ours.encoder.named_parameters() if key.endswith("conv2.norm.weight")}
    assert len(began) == 1 + 3 + 4 + 6
    assert not any(value.any() for value in began.values())
    ours.encoder.body.load_state_dict(theirs.encoder.state_dict())
    for a, b in zip(ours.encoder(x), theirs.encoder(x), strict=True):
        assert torch.equal(a, b)


def test_the_decoder_keeps_the_plans_widths() -> None:
    net, x = build(UNetSharp, "2d", encoder="test_resnet")
    column = net.encoder(x)
    assert [y.shape[1] for y in column] == [4, 32, 32, 48, 192, 96]
    assert [x.shape[-1] // y.shape[-1] for y in column] == [1, 2, 4, 8, 16, 32]
    assert [net.width((i, 1)) for i in range(5)] == [4, 4, 8, 8, 8]


def test_checkpoint_is_the_same_function_and_keeps_less_of_a_residual_encoder() -> None:
    results, kept = [], []
    for checkpoint in (False, True):
        options: dict[str, Any] = {"encoder": "resenc", "supervision": "none", "checkpoint": checkpoint}
        net, x = build(UNet, **options)
        y = net(x)
        y.square().mean().backward()
        results.append([y, *(parameter.grad for parameter in net.parameters())])
        with torch.device("meta"):
            encoder = build(UNet, **options)[0].encoder
        kept.append(kept_for_backward(encoder, x.shape))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert kept[1] < kept[0] / 3


def test_checkpoint_leaves_a_models_statistics_alone() -> None:
    """They would count a step twice where it is computed again."""
    states = []
    for checkpoint in (False, True):
        net, x = build(UNetPlusPlus, "2d", encoder="test_resnet", checkpoint=checkpoint)
        net(x).mean().backward()
        states.append(net.state_dict())
    assert any(key.endswith("running_mean") for key in states[0])
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize("encoder", ["resenc", "test_resnet"])
def test_a_level_can_be_cut_out_of_the_whole(encoder: str) -> None:
    whole, x = build(UNetSharp, "2d", encoder=encoder, supervision="paper", deep_supervision=True)
    level, _ = build(UNetSharp, "2d", encoder=encoder, supervision="none", level=2)
    state = whole.state_dict()
    level.load_state_dict({key: state[key] for key in level.state_dict()})
    with torch.no_grad():
        outputs = dict(zip(whole.supervised, whole.eval()(x), strict=True))
        assert torch.equal(level.eval()(x), outputs[0, 2])


def test_what_a_level_leaves_unused_of_a_model_is_frozen() -> None:
    net, x = build(UNetPlusPlus, "2d", encoder="test_efficientnet", level=2, supervision="none")
    net(x).mean().backward()
    found = [(key, parameter.grad is not None) for key, parameter in net.named_parameters() if parameter.requires_grad]
    assert all(has_gradient for _, has_gradient in found)
    assert 0 < len(list(net.parameters())) - len(found) < len(found)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ("3d", {"encoder": "vgg16"}, "conv_op=Conv3d: timm's vgg16 exists only in 2D"),
        ("2d", {"encoder": "vgg16"}, r"strides=.*timm's vgg16 has \[1, 2, 2, 2, 2\] along every axis; plan for it"),
        ("2d", {"encoder": "vgg"}, r"encoder='vgg': timm .* has no such model; did you mean vgg\d"),
        ("2d", {"encoder": "swin_tiny_patch4_window7_224"}, "no maps of images of any size.*name another"),
        ("2d", {"encoder": "test_mambaout"}, "no maps of images of any size.*name another"),
        ("2d", {"n_blocks_per_stage": 1}, "n_blocks_per_stage=1: the encoder of the network itself has none"),
        ("2d", {"encoder": "vgg16", "n_blocks_per_stage": 1}, "n_blocks_per_stage=1: the encoder vgg16 has none"),
        ("2d", {"encoder": "resenc", "n_blocks_per_stage": [1, 0, 1, 1]}, "at least 1 for each of the 4 stages"),
        ("2d", {"encoder": "resenc", "n_blocks_per_stage": [1, 1]}, "at least 1 for each of the 4 stages"),
    ],
)
def test_what_cannot_be_built(shape: str, options: dict[str, Any], message: str) -> None:
    case = shape_case(shape)
    with pytest.raises(ValueError, match=message) as caught:
        case.build(UNetSharp, **options)
    assert "\n" not in str(caught.value)
