"""What Mask R-CNN's forms find and learn; no graph, they are no part of the contract's other tests."""

import pytest
import torch
from torch import nn

from nnunet_archs.networks.mask_rcnn import MaskRCNN, MaskRCNN3Plus, MaskRCNNPlusPlus, MaskRCNNSharp, is_border

FORMS = (MaskRCNN, MaskRCNNPlusPlus, MaskRCNN3Plus, MaskRCNNSharp)
SMALL = {"encoder": "resnet18", "width": 16, "regions": 16}
PATCH = (64, 96)


def made(network, channels=2, labels=3, **options):
    torch.manual_seed(0)
    topology = {
        **{"n_stages": 6, "features_per_stage": 8, "strides": [1, 2, 2, 2, 2, 2], "kernel_sizes": 3},
        **{"conv_op": nn.Conv2d, "conv_bias": True, "norm_op": nn.InstanceNorm2d, "norm_op_kwargs": {"affine": True}},
        **{"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}, "patch_size": PATCH},
    }
    return network(channels, labels, **{**topology, **SMALL, **options})


def targets(*boxes):
    """Objects that fill their boxes (x from, y from, x to, y to)."""
    masks = torch.zeros(len(boxes), *PATCH, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    boxes = torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks}


@pytest.mark.parametrize("network", FORMS)
@pytest.mark.parametrize("found", [[(4, 8, 20, 24), (70, 40, 71, 41)], []], ids=["objects", "none"])
def test_every_parameter_learns_whether_there_are_objects_or_none(network, found):
    net = made(network).train()
    loss = net(torch.randn(2, 2, *PATCH), [targets(*found), targets()])
    loss.backward()
    assert loss.isfinite()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    assert net.training
    assert net.body.rpn.training


@pytest.mark.parametrize("network", FORMS)
def test_logits_of_cores_and_borders(network):
    net = made(network).eval()
    with torch.no_grad():
        y = net(torch.randn(2, 2, *PATCH))
    assert y.shape == (2, 3, *PATCH)
    assert y.isfinite().all()
    with torch.device("meta"):
        on_meta = made(network)
    assert on_meta.eval()(torch.empty(2, 2, *PATCH, device="meta")).shape == y.shape
    with pytest.raises(ValueError, match="cannot be measured without images"):
        on_meta.train()(torch.empty(2, 2, *PATCH, device="meta"))


def test_objects_are_painted_with_borders_and_that_of_higher_score_has_a_pixel():
    net = made(MaskRCNN)
    net.border.fill_(2.0)
    masks = torch.stack([torch.full((1, 28, 28), 0.9), torch.full((1, 28, 28), 0.8)])
    boxes = torch.tensor([[10.0, 10, 30, 30], [25, 10, 45, 30]])
    sure = torch.ones(3)
    y = net.paint({"masks": masks, "boxes": boxes, "scores": sure[:2]}, PATCH)
    labels, probability = y.argmax(dim=0), y.exp()
    assert labels[20, 8:50].tolist() == [0] * 2 + [2] * 2 + [1] * 16 + [2] * 4 + [1] * 11 + [2] * 2 + [0] * 5
    assert probability[1, 20, 15] == pytest.approx(0.9)
    assert probability[0, 20, 15] == pytest.approx(0.1)
    assert probability[2, 20, 15] == pytest.approx(1e-4)
    thrice = torch.cat([boxes[:1], boxes[:1] + 2, boxes[1:]])
    again = net.paint({"masks": masks[[0, 0, 1]], "boxes": thrice, "scores": sure}, PATCH)
    assert torch.equal(again.argmax(dim=0), labels)  # what is found twice is one object
    less = net.paint({"masks": masks, "boxes": boxes, "scores": torch.tensor([0.75, 0.5])}, PATCH)
    assert torch.equal(less.argmax(dim=0), labels)
    assert less.exp()[1, 20, [15, 35]].tolist() == pytest.approx([0.5 + 0.75 * 0.4, 0.5 + 0.5 * 0.3])
    nothing = net.paint({"masks": masks[:0], "boxes": boxes[:0], "scores": sure[:0]}, PATCH)
    assert (nothing.argmax(dim=0) == 0).all()


def test_borders_are_as_wide_as_told_along_each_axis():
    owner = torch.zeros(12, 12, dtype=torch.int64)
    owner[:, 6:] = 1
    assert is_border(owner, (1.0, 2.0))[5].tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert is_border(owner.T, (1.0, 2.0))[:, 5].tolist() == [False] * 5 + [True] * 2 + [False] * 5
    assert not is_border(owner, (0.5, 0.5)).any()


def test_overfits_a_patch():
    net = made(MaskRCNNSharp, channels=1)
    wanted = targets((8, 8, 24, 24), (40, 20, 60, 50), (70, 40, 90, 56))
    x = wanted["masks"].sum(dim=0)[None, None].float() + 0.1 * torch.randn(2, 1, *PATCH)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = net(x, [wanted] * 2)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    with torch.no_grad():
        found = net.eval()(x)[0].argmax(dim=0) > 0
    truth = wanted["masks"].sum(dim=0) > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 2}, "num_classes=2: MaskRCNN gives background, core and border"),
        ({"encoder": "resnet17"}, "timm .* has no such model"),
        ({"encoder": "vgg16", "conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d}, "MaskRCNN exists only in 2D"),
        ({"patch_size": (64, 80)}, r"MaskRCNN needs a multiple of 32 x 32"),
    ],
)
def test_what_it_cannot_do_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        made(MaskRCNN, **options)
