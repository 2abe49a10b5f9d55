"""Exact and textbook form under autocast: as close to the truth, and to each other as runs that sum otherwise."""

import pytest
import torch
from test_networks import KINDS, build

from nnunet_archs.networks.parts.fusion import FusionConv, convolve
from nnunet_archs.networks.parts.separable import upsample


class SlicedTextbook(FusionConv):
    """The textbook's convolution by another algorithm: a channel at a time, rounded in between."""

    def forward(self, sources, size=None):
        size = sources[0].shape[2:] if size is None else size
        x = torch.cat([upsample(source, size, self.interpolation) for source in sources], dim=1)
        y = convolve(x[:, :1], self.conv.weight[:, :1], self.conv.bias)
        for a, weight in zip(x.split(1, dim=1)[1:], self.conv.weight.split(1, dim=1)[1:], strict=True):
            y = y + convolve(a, weight)
        return y


def sliced(net):
    for module in net.modules():
        if isinstance(module, FusionConv):
            module.__class__ = SlicedTextbook
    return net


def distance(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize(("name", "dtype"), [("2d", torch.float16), ("3d", torch.bfloat16)])
@pytest.mark.parametrize("network", KINDS)
def test_exact_form_is_as_close_to_the_truth(network, name, dtype):
    nets = [build(network, name, fusion=fusion)[0].eval() for fusion in ("exact", "textbook", "textbook")]
    _, x = build(network, name)
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    nets[2] = sliced(nets[2])
    with torch.no_grad():
        with torch.autocast("cpu", dtype=dtype):
            exact, textbook, other = (net(x) for net in nets)
        true = nets[1].double()(x.double())
    assert distance(exact, true) <= 1.25 * distance(textbook, true)
    # of one input and one network: 5 % is chance
    assert distance(exact, textbook) <= 1.05 * distance(other, textbook)
