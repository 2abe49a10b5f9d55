"""What a forward pass keeps for backward, against counts by hand and against saved-tensor hooks."""

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import checkpoint

from nnunet_archs.measure.memory import kept_compiled, kept_for_backward, training_memory
from nnunet_archs.networks import CAggNet, CrosslinkNet, FocusNetPlusPlus, UNetSharp, VNetSharp

FLOAT = 4  # bytes
GIB = 2**30


class Two(nn.Module):
    """A block of 8 channels, which can be checkpointed, and a convolution to 2."""

    def __init__(self, *, inplace=False, checkpointed=False):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace))
        self.conv = nn.Conv2d(8, 2, 1)
        self.checkpointed = checkpointed

    def forward(self, x):
        y = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        return self.conv(y)


def kept(make, shape):
    with torch.device("meta"):
        network = make()
    return kept_for_backward(network, shape)


@pytest.mark.parametrize("inplace", [False, True])
def test_count_by_hand(inplace):
    # results of the first convolution and of the ReLU, which in place is the normalisation's; its mean and deviation
    voxels = 3 * 16 * 16
    assert kept(lambda: Two(inplace=inplace), (3, 1, 16, 16)) == FLOAT * (2 * 8 * voxels + 2 * 8 + 2 * voxels)


def test_a_compiled_graph_computes_again_what_is_cheap():
    class Waves(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).sin().cos()

    network, shape = Waves(1, 8, 3, padding=1, device="meta"), (3, 1, 16, 16)
    voxels = 3 * 16 * 16
    assert kept_for_backward(network, shape) == FLOAT * 3 * 8 * voxels
    # the convolution's result and the network's
    assert kept_compiled(network, shape) == FLOAT * 2 * 8 * voxels


def test_checkpointing_leaves_the_blocks_result_alone():
    voxels = 3 * 16 * 16
    assert kept(lambda: Two(checkpointed=True), (3, 1, 16, 16)) == FLOAT * (8 * voxels + 2 * voxels)


def test_what_a_checkpoint_is_given_counts():
    class Checkpointed(Two):
        def forward(self, x):
            return checkpoint(self.conv, 2 * self.block(x), use_reentrant=False)

    # saved-tensor hooks do not see the block's result, doubled
    voxels = 3 * 16 * 16
    assert kept(Checkpointed, (3, 1, 16, 16)) == FLOAT * (3 * 8 * voxels + 2 * 8 + 2 * voxels)


def test_the_input_parameters_and_buffers_are_apart():
    assert kept(nn.Identity, (2, 3, 8, 8)) == 0
    assert kept(lambda: nn.Linear(8, 8, bias=False), (2, 8)) == FLOAT * 2 * 8

    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2, 8))
            self.register_buffer("scale", torch.ones(8))

        def forward(self, x):
            first, _ = self.weight.unbind()
            return x.view(-1) * first, first, self.scale[None], x[None]

    assert kept(Views, (8,)) == FLOAT * 8


def test_nothing_is_kept_for_frozen_layers():
    network = nn.Sequential(nn.Conv2d(1, 8, 3, device="meta"), nn.Conv2d(8, 1, 1, device="meta")).requires_grad_(False)
    assert kept_for_backward(network, (1, 1, 10, 10)) == FLOAT * 8 * 8


def bytes_by_hooks(network, shape):
    """What saved-tensor hooks see, and the outputs."""
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    x = torch.empty(shape, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(x)
    own = {tensor.untyped_storage()._cdata for tensor in (x, *network.parameters(), *network.buffers())}
    storages = [tensor.untyped_storage() for tensor in (*saved, *outputs)]
    return sum({s._cdata: s.nbytes() for s in storages if s._cdata not in own}.values())


def topology(norm_op=nn.InstanceNorm3d):
    return {
        "n_stages": 4,
        "features_per_stage": [4, 8, 8, 12],
        "conv_op": nn.Conv3d,
        "kernel_sizes": [[1, 3, 3], 3, 3, 3],
        "strides": [1, [1, 2, 2], 2, 2],
        "conv_bias": True,
        "norm_op": norm_op,
        "norm_op_kwargs": {"affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "deep_supervision": True,
    }


@pytest.mark.parametrize("norm_op", [nn.InstanceNorm3d, nn.BatchNorm3d])
@pytest.mark.parametrize("fusion", ["textbook", "exact"])
@pytest.mark.parametrize("network", [UNetSharp, VNetSharp, FocusNetPlusPlus, CrosslinkNet])
def test_agrees_with_saved_tensor_hooks(network, fusion, norm_op):
    with torch.device("meta"):
        net = network(1, 2, supervision="paper", fusion=fusion, **topology(norm_op))
    shape = (2, 1, 8, 32, 48)
    assert kept_for_backward(net, shape) == bytes_by_hooks(net, shape)


def test_agrees_with_saved_tensor_hooks_on_nnunets_own_network():
    with torch.device("meta"):
        net = PlainConvUNet(
            input_channels=1, num_classes=2, n_conv_per_stage=2, n_conv_per_stage_decoder=2, **topology()
        )
    shape = (2, 1, 8, 32, 48)
    assert kept_for_backward(net, shape) == bytes_by_hooks(net, shape)


def test_nnunets_3d_default_keeps_6_7_gib():
    large = {"n_stages": 6, "features_per_stage": [32, 64, 128, 256, 320, 320], "strides": [1, *[2] * 5]}
    arguments = topology() | large | {"kernel_sizes": 3, "n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2}
    bytes_kept = kept(lambda: PlainConvUNet(input_channels=1, num_classes=2, **arguments), (2, 1, 128, 128, 128))
    assert round(bytes_kept / GIB, 1) == 6.7


def test_a_network_with_values_is_refused():
    with pytest.raises(ValueError, match=r"Linear is on cpu; build it under torch.device\('meta'\)"):
        kept_for_backward(nn.Linear(2, 2), (1, 2))


def squares(outputs):
    return sum(output.float().square().mean() for output in (outputs if isinstance(outputs, list) else [outputs]))


def on_meta(make):
    with torch.device("meta"):
        return make()


class TestTrainingMemory:
    def test_count_by_hand(self):
        # one convolution: its result for backward and the loss, a gradient of the result beside it, then parameters'
        network = on_meta(lambda: nn.Conv2d(1, 8, 3, padding=1, bias=False))
        memory = training_memory(network, (2, 1, 16, 16), lambda y: y.sum(), half=False)
        voxels, weights = 2 * 16 * 16, 9 * 8
        assert memory.state == FLOAT * (voxels + 2 * weights)
        assert memory.kept == FLOAT * (8 * voxels + 1)
        assert memory.update == FLOAT * 2 * weights
        assert memory.peak == memory.state + max(memory.activations, memory.update)

    def test_under_autocast_maps_have_two_bytes_and_parameters_three_copies(self):
        network = on_meta(lambda: nn.Conv2d(1, 8, 3, padding=1, bias=False))
        whole, half = (training_memory(network, (2, 1, 64, 64), squares, half=half) for half in (False, True))
        voxels, weights = 2 * 64 * 64, 9 * 8
        assert half.state == whole.state + 2 * weights
        # the result, and of the loss its float32 copy; the square's mean keeps nothing else
        assert half.kept == 2 * 8 * voxels + FLOAT * (8 * voxels + 1)
        assert half.update == whole.update

    def test_adam_keeps_one_tensor_more(self):
        network = on_meta(lambda: nn.Conv2d(1, 8, 3))
        sgd, adam = (training_memory(network, (1, 1, 8, 8), squares, half=False, moments=n) for n in (1, 2))
        assert adam.peak - sgd.peak == FLOAT * 8 * 10

    def test_the_network_is_left_as_it_was(self):
        network = on_meta(lambda: nn.Conv2d(1, 8, 3))
        training_memory(network, (1, 1, 8, 8), squares, half=True)
        assert network.weight.dtype == torch.float32
        assert network.weight.grad is None

    @pytest.mark.parametrize("factor", [2, 8])
    def test_scaled_is_the_least_that_larger_maps_take(self, factor):
        network = on_meta(lambda: UNetSharp(1, 2, supervision="paper", **topology()))
        small = training_memory(network, (1, 1, 8, 32, 32), squares, half=True)
        large = training_memory(network, (factor, 1, 8, 32, 32), squares, half=True)
        assert 0.8 * large.activations < small.scaled(factor).activations <= large.activations

    @pytest.mark.parametrize(("network", "checkpointed"), [(UNetSharp, False), (UNetSharp, True), (CAggNet, True)])
    def test_agrees_with_torchs_own_tracker(self, network, checkpointed):
        def make():
            return network(1, 2, supervision="paper", checkpoint=checkpointed, **topology())

        shape = (2, 1, 16, 64, 64)
        ours = training_memory(on_meta(make), shape, squares, half=False)
        with FakeTensorMode():
            net = make()
            optimizer = torch.optim.SGD(net.parameters(), 1e-2, momentum=0.9, weight_decay=1e-5, foreach=True)
            tracker = MemTracker()
            tracker.track_external(net, optimizer)
            with tracker:
                for _ in range(2):  # the optimiser's moments are there from the second step on
                    tracker.reset_mod_stats()
                    optimizer.zero_grad()
                    squares(net(torch.randn(shape))).backward()
                    optimizer.step()
        (snapshot,) = (of for device, of in tracker.get_tracker_snapshot("peak").items() if device.type == "cpu")
        assert ours.peak == pytest.approx(snapshot["Total"], rel=0.1)

    def test_a_network_with_values_is_refused(self):
        with pytest.raises(ValueError, match=r"build it under torch.device\('meta'\)"):
            training_memory(nn.Conv2d(1, 1, 1), (1, 1, 4, 4), squares, half=True)
