from copy import deepcopy
from math import prod

import numpy as np
import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_archs.plans.resize import CAPS, Caps, resize_plans


def make_architecture(strides, features):
    n_stages, n_axes = len(strides), len(strides[0])
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": features[:n_stages],
            "kernel_sizes": [[3] * n_axes] * n_stages,
            "strides": strides,
            "n_conv_per_stage": [2] * n_stages,
            "n_conv_per_stage_decoder": [2] * (n_stages - 1),
            "norm_op_kwargs": {"eps": 1e-5},
        },
        "_kw_requires_import": [],
    }


def make_configuration(patch_size, strides, spacing, batch_size):
    return {
        "data_identifier": f"nnUNetPlans_{len(patch_size)}d",
        "batch_size": batch_size,
        "patch_size": patch_size,
        "spacing": spacing,
        "median_image_size_in_voxels": [2 * n for n in patch_size],
        "architecture": make_architecture(strides, [32, 64, 128, 256, 320, 320, 512, 512]),
    }


@pytest.fixture
def plans():
    big = make_configuration([128, 128, 128], [[1, 1, 1]] + [[2, 2, 2]] * 5, [1.0, 1.0, 1.0], 2)
    return {
        "plans_name": "nnUNetPlans",
        "configurations": {
            "2d": make_configuration([512, 512], [[1, 1]] + [[2, 2]] * 7, [1.0, 1.0], 40),
            "3d_lowres": {**deepcopy(big), "next_stage": "3d_cascade_fullres"},
            "3d_fullres": big,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
            "3d_large_batch": {"inherits_from": "3d_fullres", "batch_size": 9},
            "3d_small": make_configuration([16, 48, 48], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [3.0, 1.0, 1.0], 8),
        },
    }


def test_sizes_shrink_to_the_caps(plans):
    small = resize_plans(plans, "nnUNetPlans_small")
    assert small["plans_name"] == "nnUNetPlans_small"
    for name, configuration in plans["configurations"].items():
        if "inherits_from" in configuration:
            continue
        resized = small["configurations"][name]
        patch_size, arch_kwargs = resized["patch_size"], resized["architecture"]["arch_kwargs"]
        n_axes, n_stages = len(patch_size), arch_kwargs["n_stages"]
        assert prod(patch_size) <= CAPS.patch_voxels[n_axes]
        assert all(new <= old for new, old in zip(patch_size, configuration["patch_size"], strict=True))
        assert not any(np.remainder(patch_size, np.prod(arch_kwargs["strides"], axis=0)))
        assert (np.array(patch_size) // np.prod(arch_kwargs["strides"], axis=0) >= 4).all()
        assert arch_kwargs["features_per_stage"] == [16, 32, 64, 128, 256, 256, 256, 256][:n_stages]
        assert len(arch_kwargs["n_conv_per_stage"]) == len(arch_kwargs["kernel_sizes"]) == n_stages
        assert len(arch_kwargs["n_conv_per_stage_decoder"]) == n_stages - 1
        assert resized["batch_size"] == {2: 12, 3: 2}[n_axes]
        assert resized["data_identifier"] == configuration["data_identifier"]


def test_caps_of_ones_own(plans):
    caps = Caps(base_features=20, max_features=160, batch_size={2: 4, 3: 1}, patch_voxels={2: 128**2, 3: 2**15})
    small = resize_plans(plans, "small", caps=caps)["configurations"]["2d"]
    assert small["patch_size"] == [128, 128]
    assert small["batch_size"] == 4
    assert small["architecture"]["arch_kwargs"]["features_per_stage"] == [20, 40, 80, 160, 160, 160]


def test_small_patch_keeps_its_topology(plans):
    before = plans["configurations"]["3d_small"]
    after = resize_plans(plans, "small")["configurations"]["3d_small"]
    assert after["patch_size"] == before["patch_size"]
    for key in ("strides", "kernel_sizes", "n_conv_per_stage"):
        assert after["architecture"]["arch_kwargs"][key] == before["architecture"]["arch_kwargs"][key]


def test_inheritance_and_cascade_survive(plans):
    small = resize_plans(plans, "small")
    assert small["configurations"]["3d_cascade_fullres"] == plans["configurations"]["3d_cascade_fullres"]
    assert small["configurations"]["3d_large_batch"] == {"inherits_from": "3d_fullres", "batch_size": 2}
    assert small["configurations"]["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    cascade = PlansManager(small).get_configuration("3d_cascade_fullres")
    assert cascade.patch_size == small["configurations"]["3d_fullres"]["patch_size"]


def test_plans_are_not_changed_in_place(plans):
    before = deepcopy(plans)
    resize_plans(plans, "small")
    assert plans == before


@pytest.mark.parametrize("name", ["", "nnUNetPlans__small"])
def test_name_that_folders_cannot_hold(plans, name):
    with pytest.raises(ValueError, match="__"):
        resize_plans(plans, name)
