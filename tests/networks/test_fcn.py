"""FCN-8s and the FCN of CAggNet's authors: the contract, and what only they have."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from nnunet_archs.networks.fcn import FCN
from nnunet_archs.testing import NetworkContract, shape_case


class TestContract(NetworkContract):
    networks = (partial(FCN, fc=8), partial(FCN, fc=8, released=True))


def test_the_output_is_the_sum_of_three_upsampled_scores():
    case = shape_case("2d")
    network = case.build(partial(FCN, fc=8)).eval()
    scores: list[torch.Tensor] = []
    for head in network.heads.seg_layers.values():
        head.register_forward_hook(lambda *call: scores.append(call[-1]))
    with torch.no_grad():
        logits = network(case.image(FCN))
    assert [tuple(score.shape[2:]) for score in scores] == [(2, 3), (4, 6), (8, 12)]
    y = scores[0]
    for score in [*scores[1:], torch.zeros_like(logits)]:
        y = F.interpolate(y, scale_factor=2.0, mode="bilinear") + score
    torch.testing.assert_close(logits, y)


def test_a_plan_of_two_stages_has_one_score():
    case = shape_case("2d-2-stages")
    assert case.build(partial(FCN, fc=8)).branch_stages == (0,)


@pytest.mark.parametrize(("name", "kernel"), [("3d", (7, 7, 7)), ("2d-anisotropic", (7, 7))])
def test_the_classifier_sees_seven_voxels_along_every_axis(name, kernel):
    assert shape_case(name).build(partial(FCN, fc=8)).fully_connected[0].conv.kernel_size == kernel


def test_a_classifier_without_features_is_refused():
    with pytest.raises(ValueError, match=r"^fc=0: .* at least 1 feature"):
        shape_case("2d").build(partial(FCN, fc=0))
