"""RA-UNet: the contract, its block and its attention as they are written down."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from nnunet_archs.networks import Topology
from nnunet_archs.networks.ra_unet import Bottleneck, MaskBranch, RAUNet, ResidualAttention
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (RAUNet,)


def test_block_is_preactivated_and_its_shortcut_is_a_convolution() -> None:
    torch.manual_seed(0)
    block = Bottleneck(3, 8, 0, Topology(**shape_case("2d").kwargs)).double()
    w = dict(block.named_parameters())

    def conv(x: Tensor, name: str) -> Tensor:
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    before, y = x.clone(), x
    for i in range(3):
        y = conv(F.leaky_relu(F.instance_norm(y)), f"convs.{i}.conv")
    torch.testing.assert_close(block(x), conv(x, "shortcut") + y)
    assert torch.equal(x, before)
    assert [w[f"convs.{i}.conv.weight"].shape[:3] for i in range(3)] == [(2, 3, 1), (2, 2, 3), (8, 2, 1)]


def test_attention_adds_the_trunk_to_what_the_mask_leaves_of_it() -> None:
    torch.manual_seed(0)
    attention = ResidualAttention(1, Topology(**shape_case("2d").kwargs))
    mask = attention.mask.weigh[-1]
    x = torch.randn(2, 4, 8, 12)
    trunk = attention.trunk(attention.enter(x))
    for bias, factor in ((-100.0, 1.0), (100.0, 2.0)):
        torch.nn.init.constant_(mask.bias, bias)
        torch.testing.assert_close(attention(x), attention.leave(factor * trunk))


def test_mask_is_made_down_to_the_last_stage_and_up_again() -> None:
    torch.manual_seed(0)
    mask = MaskBranch(0, Topology(**shape_case("3d-anisotropic").kwargs))
    sizes: list[tuple[int, ...]] = []
    for block in [*mask.down, *reversed(mask.up)]:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    y = mask(torch.randn(2, 4, 4, 8, 16))
    down = [(4, 4, 8), (4, 2, 4), (2, 1, 2)]
    assert sizes == [*down, *reversed(down)]
    assert y.shape == (2, 4, 4, 8, 16)
    assert ((y > 0) & (y < 1)).all()


def test_there_is_a_module_of_attention_for_every_skip_but_the_finest() -> None:
    net = shape_case("2d").build(RAUNet)
    assert [len(attention.mask.pools) for attention in net.attention] == [2, 1]
