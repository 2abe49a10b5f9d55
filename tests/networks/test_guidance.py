"""The classification-guided modules of UNet# and V-Net#: their size, their gate, and what they leave as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_networks import build, topology
from torch import Tensor, nn

from nnunet_archs import networks
from nnunet_archs.losses import PresenceLoss
from nnunet_archs.networks.guidance import ClassificationGuidedModule, Guidance

each_network = pytest.mark.parametrize("network", [networks.UNetSharp, networks.VNetSharp])
each_grid = pytest.mark.parametrize(
    ("network", "name"),
    [(networks.UNetSharp, "2d"), (networks.UNetSharp, "2d-2-stages"), (networks.VNetSharp, "3d-anisotropic")],
)
each_reading = pytest.mark.parametrize("regions", [False, True], ids=["labels", "regions"])


def modules_of(net: nn.Module) -> list[ClassificationGuidedModule]:
    return [module for module in net.modules() if isinstance(module, ClassificationGuidedModule)]


def set_answers(net: nn.Module, present: list[bool], *, regions: bool = False) -> None:
    """Let every classifier give one answer, whatever the features, and tell it what the channels are."""
    for module in modules_of(net):
        module.foreground |= regions
        nn.init.zeros_(module.classifier[-1].weight)
        with torch.no_grad():
            module.classifier[-1].bias.copy_(torch.tensor([[not yes, yes] for yes in present]).flatten())


def without_guidance(net: nn.Module, network: Any, name: str, **options: Any) -> nn.Module:
    """The same network with no such modules."""
    plain, _ = build(network, name, **options)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("guidance.")})
    return plain


class TestSize:
    @pytest.mark.parametrize(
        ("channels", "deep", "count"),
        [(32, False, 258), (64, False, 514), (128, False, 1_026), (256, True, 133_378), (512, True, 528_898)],
    )
    def test_of_a_module_with_one_question(self, channels: int, deep: bool, count: int) -> None:
        module = ClassificationGuidedModule(channels, 1, deep=deep)
        assert sum(p.numel() for p in module.parameters()) == count

    def test_of_all_at_the_papers_widths(self) -> None:
        _, kwargs = topology("2d")
        stages = {"n_stages": 5, "features_per_stage": [32, 64, 128, 256, 512], "kernel_sizes": 3}
        with torch.device("meta"):
            net = networks.UNetSharp(
                3, 1, cgm=True, supervision="paper", **{**kwargs, **stages, "strides": [1, 2, 2, 2, 2]}
            )
        assert len(modules_of(net)) == 8
        assert sum(p.numel() for module in modules_of(net) for p in module.parameters()) == 664_848

    @pytest.mark.parametrize(
        ("name", "options", "green"),
        [
            ("2d", {}, ["X_2_1", "X_3_0"]),
            ("2d-2-stages", {}, ["X_1_0"]),
            ("2d", {"level": 2}, []),
            ("2d", {"supervision": "nnunet"}, ["X_2_1"]),
        ],
    )
    def test_only_the_deepest_two_nodes_have_a_hidden_layer(
        self, name: str, options: dict[str, Any], green: list[str]
    ) -> None:
        net, _ = build(networks.UNetSharp, name, cgm=True, **{"supervision": "paper", **options})
        assert isinstance(net.guidance, Guidance)
        assert [node for node, m in net.guidance.seg_layers.items() if len(m.classifier) > 3] == green


@each_grid
class TestContract:
    @pytest.mark.parametrize("supervision", ["none", "nnunet", "paper"])
    def test_outputs(self, network: Any, name: str, supervision: str) -> None:
        net, x = build(network, name, cgm=True, supervision=supervision, deep_supervision=True)
        n = len(net.branch_stages)
        outputs = net(x)
        assert [tuple(y.shape) for y in outputs[n:]] == [(2, 3, 2)] * n
        plain = without_guidance(net, network, name, supervision=supervision, deep_supervision=True)
        assert [y.shape for y in outputs[:n]] == [y.shape for y in plain(x)]
        net.decoder.deep_supervision = False
        logits, answers = net(x)
        assert (logits.shape, answers.shape) == (outputs[0].shape, (2, 3, 2))
        net.eval()
        with torch.no_grad():
            single = net(x)
            net.decoder.deep_supervision = True
            outputs = net(x)
        assert torch.equal(single, outputs[0])
        assert len(outputs) == n

    @pytest.mark.parametrize("supervision", ["none", "nnunet", "paper"])
    def test_every_parameter_gets_a_gradient(self, network: Any, name: str, supervision: str) -> None:
        net, x = build(network, name, cgm=True, supervision=supervision, deep_supervision=supervision != "none")
        torch.stack([y.square().mean() for y in net(x)]).sum().backward()
        for parameter_name, parameter in net.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name

    def test_keys_are_those_of_heads(self, network: Any, name: str) -> None:
        # nnU-Net skips the keys that contain `.seg_layers.` when it loads pretrained weights
        net, _ = build(network, name, cgm=True, supervision="paper", deep_supervision=True)
        off, _ = build(network, name, cgm=True, supervision="paper")
        plain, _ = build(network, name, supervision="none")
        assert list(net.state_dict()) == list(off.state_dict())
        assert {key for key in net.state_dict() if ".seg_layers." not in key} == {
            key for key in plain.state_dict() if ".seg_layers." not in key
        }

    def test_training_does_not_feel_the_gate(self, network: Any, name: str) -> None:
        options = {"supervision": "paper", "deep_supervision": True}
        net, x = build(network, name, cgm=True, **options)
        set_answers(net, [False] * 3)
        plain = without_guidance(net, network, name, **options)
        for guided, logits in zip(net(x), plain(x)):  # noqa: B905 (the answers follow)
            assert torch.equal(guided, logits)


class TestGate:
    @each_grid
    @each_reading
    @pytest.mark.parametrize("present", [[True, False, True], [False, True, False]])
    def test_what_is_absent_is_low_and_the_rest_as_it_was(
        self, network: Any, name: str, regions: bool, present: list[bool]
    ) -> None:
        options = {"supervision": "paper", "deep_supervision": True}
        net, x = build(network, name, cgm=True, **options)
        set_answers(net, present, regions=regions)
        plain = without_guidance(net, network, name, **options)
        net.eval(), plain.eval()
        with torch.no_grad():
            branches = list(zip(net(x), plain(x), strict=True))
        for guided, logits in branches:
            for channel, yes in enumerate(present):
                if yes or (channel == 0 and not regions):
                    assert torch.equal(guided[:, channel], logits[:, channel])
                    continue
                reference = 0 if regions else logits[:, 0]
                assert torch.equal(guided[:, channel], torch.clamp(logits[:, channel], max=reference - 10))
                p = guided.sigmoid() if regions else guided.softmax(1)
                assert p[:, channel].max() < 5e-5

    def test_each_sample_has_its_own_answer(self) -> None:
        logits = torch.randn(2, 3, 4, 5)
        module = ClassificationGuidedModule(2, 3, deep=False)
        answers = torch.tensor([[[0, 1], [0, 1], [1, 0]], [[0, 1], [1, 0], [0, 1]]])
        gated = module.gate(logits, answers)
        assert (gated != logits).flatten(2).any(2).tolist() == [[False, False, True], [False, True, False]]

    @pytest.mark.parametrize("yes", [False, True])
    def test_one_class_is_the_papers_product(self, yes: bool) -> None:
        # section 2.3: "the final output result composing of 0,1, which is multiplied by the deep supervision branches"
        answers = torch.tensor([[[1.0, 0.0], [not yes, yes]]])  # the background's, absent, is not listened to
        logits = 3 * torch.randn(1, 2, 6, 7)
        labels = ClassificationGuidedModule(2, 2, deep=False)
        region = ClassificationGuidedModule(2, 1, deep=False)
        gated = labels.gate(logits, answers)
        difference = logits[:, 1:] - logits[:, :1]
        gated_region = region.gate(difference, answers[:, 1:])
        assert torch.equal(gated.argmax(1), yes * logits.argmax(1))
        assert torch.equal(gated_region > 0, yes * (difference > 0))
        torch.testing.assert_close(gated[:, 1:] - gated[:, :1], gated_region)

    def test_equal_answers_leave_the_class(self) -> None:
        logits = torch.randn(1, 3, 4, 4)
        assert torch.equal(ClassificationGuidedModule(2, 3, deep=False).gate(logits, torch.zeros(1, 3, 2)), logits)

    def test_the_weights_tell_what_the_channels_are(self) -> None:
        net, x = build(networks.UNetSharp, "2d-2-stages", cgm=True)
        set_answers(net, [False] * 3, regions=True)
        rebuilt, _ = build(networks.UNetSharp, "2d-2-stages", cgm=True)
        rebuilt.load_state_dict(net.state_dict())
        net.eval(), rebuilt.eval()
        assert rebuilt(x).max() <= -10
        assert torch.equal(rebuilt(x), net(x))

    @each_reading
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, regions: bool, dtype: torch.dtype) -> None:
        module = ClassificationGuidedModule(2, 3, deep=False)
        module.foreground |= regions
        logits = torch.tensor([-200.0, 0.0, 200.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2).to(dtype)
        gated = module.gate(logits, torch.tensor([[[9, -9]]]).expand(1, 3, 2).to(dtype))
        assert gated.dtype is dtype
        assert gated[0, :, 0, 0].tolist() == ([-200, -10, -10] if regions else [-200, -210, -210])


class TestPruning:
    @each_network
    @pytest.mark.parametrize("level", [1, 2])
    def test_a_level_is_a_branch_of_the_full_network(self, network: Any, level: int) -> None:
        full, x = build(network, "2d", cgm=True, supervision="paper", deep_supervision=True)
        pruned, _ = build(network, "2d", cgm=True, supervision="none", level=level)
        pruned.load_state_dict({key: full.state_dict()[key] for key in pruned.state_dict()})
        full.eval(), pruned.eval()
        # X[0, L], ..., X[L, 0] and X[0, L-1], ..., X[0, 1], where L = 3
        assert torch.equal(pruned(x), full(x)[{2: 4, 1: 5}[level]])


class TestBatchNorm:
    @pytest.mark.parametrize("deep", [False, True])
    def test_one_sample_is_normalised_by_the_running_statistics(self, deep: bool) -> None:
        module = ClassificationGuidedModule(3, 2, deep=deep)
        x, logits = torch.randn(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)
        module(x, logits)
        before = copy.deepcopy(module.state_dict())
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        _, answers = module(x[:1], logits[:1])
        answers.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
        torch.testing.assert_close(module.eval()(x[:1], logits[:1])[1], answers)

    def test_a_network_trains_with_one_sample(self) -> None:
        net, x = build(networks.UNetSharp, "2d", cgm=True, supervision="paper", deep_supervision=True)
        torch.stack([y.square().mean() for y in net(x[:1])]).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    def test_nnunet_can_synchronise_it(self) -> None:
        # as nnU-Net does on several GPUs, where one sample a GPU is no fewer than two in all
        net, _ = build(networks.UNetSharp, "2d", cgm=True, supervision="paper")
        keys = list(net.state_dict())
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        assert list(synchronised.state_dict()) == keys
        assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronised.modules())


class TestInUse:
    def test_learns_what_is_there(self) -> None:
        torch.manual_seed(0)
        module = ClassificationGuidedModule(4, 3, deep=True)
        loss = PresenceLoss()
        optimizer = torch.optim.Adam(module.parameters(), 0.01)

        def sample() -> tuple[Tensor, Tensor]:
            # class 1 makes channel 0 bright where it is, class 2 channel 1
            target = torch.randint(3, (16, 1, 6, 6)) * (torch.rand(16, 1, 6, 6) < 0.2)
            target[torch.rand(16) < 0.5] = 0
            x = torch.randn(16, 4, 6, 6) / 2
            x[:, 0:2] += 4 * torch.cat([target == 1, target == 2], 1)
            return x, target

        for _ in range(150):
            x, target = sample()
            optimizer.zero_grad()
            loss([module(x, x)[1]], target).backward()
            optimizer.step()
        module.eval()
        x, target = sample()
        says = module(x, x[:, :3])[1].argmax(2)[:, 1:].bool()
        shown = torch.stack([(target == label).flatten(1).any(1) for label in (1, 2)], 1)
        assert shown.any()
        assert not shown.all()
        assert (says == shown).float().mean() > 0.9

    def test_survives_a_deep_copy(self) -> None:
        net, x = build(networks.UNetSharp, "3d", cgm=True)
        net.eval()
        assert torch.equal(copy.deepcopy(net)(x), net(x))

    @pytest.mark.parametrize("network", [networks.UNet, networks.UNetPlusPlus, networks.UNet3Plus, networks.VNet])
    def test_other_networks_have_none(self, network: Any) -> None:
        with pytest.raises(ValueError, match=f"{network.__name__} takes no cgm; leave that out"):
            build(network, "2d", cgm=True)
