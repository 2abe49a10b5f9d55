"""Plans made for a network: nnU-Net's own for nnU-Net's own networks, and as much as fits for all others."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
)
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from planning import CT, HIPPOCAMPUS, set_folders, write_datasets

from nnunet_archs.measure.memory import GIB
from nnunet_archs.plans.planner import RESERVE, RESERVED_SHARE, leaner, planner_class
from nnunet_archs.trainers.memory import expected_memory
from nnunet_archs.trainers.names import plans_name
from nnunet_archs.trainers.registry import resolve_paper

DECIDED = ("patch_size", "batch_size", "spacing", "architecture", "batch_dice", "median_image_size_in_voxels")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_datasets(tmp_path)
    set_folders(tmp_path, monkeypatch)
    return tmp_path


def make_planner(trainer: str, dataset: str, **options: Any) -> Any:
    cls = resolve_paper(trainer)
    return planner_class(cls, options["gpu_memory"])(dataset, cls, **options)


class TestNnunetsOwnNetworks:
    @pytest.mark.parametrize(
        ("dataset", "trainer", "gpu_memory"),
        [
            (HIPPOCAMPUS, "PlainConvUNetTrainer", 24),
            (HIPPOCAMPUS, "ResidualEncoderUNetTrainer", 8),
            (CT, "PlainConvUNetTrainer", 8),
            (CT, "ResidualEncoderUNetTrainer", 24),
        ],
    )
    @pytest.mark.filterwarnings("ignore:WARNING. You are running")
    def test_they_get_nnunets_own_plans(self, dataset: str, trainer: str, gpu_memory: int) -> None:
        presets = {8: nnUNetPlannerResEncM, 24: nnUNetPlannerResEncL}
        stock = ExperimentPlanner if trainer == "PlainConvUNetTrainer" else presets[gpu_memory]

        class Stock(stock):  # type: ignore[misc, valid-type]
            @staticmethod
            def static_estimate_VRAM_usage(*args: Any) -> float:
                with torch.device("meta"):  # it counts; filling weights would take most of the time
                    return stock.static_estimate_VRAM_usage(*args)

            def save_plans(self, plans: dict[str, Any]) -> None:
                recursive_fix_for_json_export(plans)

        ours = make_planner(trainer, dataset, gpu_memory=gpu_memory)
        theirs = Stock(dataset, gpu_memory)
        with redirect_stdout(io.StringIO()):
            expected = theirs.plan_experiment()["configurations"]
        planned = ours.plan()["configurations"]
        assert list(planned) == list(expected)
        assert ("3d_cascade_fullres" in planned) == ((dataset, gpu_memory) == (CT, 8))
        for name, configuration in planned.items():
            for key in DECIDED:
                assert as_json(configuration.get(key)) == as_json(expected[name].get(key)), (name, key)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


class TestOtherNetworks:
    @pytest.mark.parametrize(
        ("trainer", "gpu_memory", "name"),
        [
            ("UNet3PlusTrainer", 8, "3d_fullres"),
            ("CAggNetTrainer_checkpoint", 24, "3d_fullres"),
            ("ImprovedSkipUNetTrainer", 80, "2d"),
            ("ImprovedSkipUNetTrainer", 80, "3d_fullres"),
        ],
    )
    def test_a_plan_fits_and_is_maximal(self, trainer: str, gpu_memory: int, name: str) -> None:
        planner = make_planner(trainer, CT, gpu_memory=gpu_memory, configurations=[name])
        planner.lowres_creation_threshold = 0
        planned = planner.plan()["configurations"]
        assert list(planned) == [name]
        usable = gpu_memory * GIB * (1 - RESERVED_SHARE) - RESERVE
        plan, limits = planned[name], planner.limits[name]

        def peak(**changes: Any) -> int:
            configuration = ConfigurationManager({**plan, **changes})
            plans = PlansManager({"label_manager": "LabelManager"})
            return expected_memory(resolve_paper(trainer), plans, configuration, planner.dataset_json, half=True).peak

        assert peak() <= usable
        cap = round(30 * 100 * 512 * 512 * 0.05 / prod(plan["patch_size"]))
        if limits.batch == "memory":
            assert peak(batch_size=plan["batch_size"] + 1) > usable
        else:
            assert (limits.batch, plan["batch_size"]) == ("5% of the data", cap)
        if limits.patch == "memory":
            assert peak(batch_size=2, **at_patch(plan, limits.larger)) > usable
        else:
            assert limits.larger is None
            image = [512, 512] if name == "2d" else [100, 512, 512]
            capped = all(size >= whole for size, whole in zip(plan["patch_size"], image, strict=True))
            assert limits.patch == "image" if capped else limits.patch.startswith("nnU-Net's")

    def test_nnunets_caps_hold_for_small_images(self) -> None:
        planner = make_planner("UNetSharpTrainer", HIPPOCAMPUS, gpu_memory=24)
        planned = planner.plan()["configurations"]
        assert list(planned) == ["2d", "3d_fullres"]
        assert all((limits.patch, limits.batch) == ("image", "5% of the data") for limits in planner.limits.values())

    def test_checkpoint_and_the_trainers_options_are_stated(self) -> None:
        planner = make_planner("UNetSharpTrainer_L2_checkpoint_DiceCE", HIPPOCAMPUS, gpu_memory=8)
        architecture = planner.plan()["configurations"]["2d"]["architecture"]
        assert architecture["network_class_name"] == "nnunet_archs.networks.unet_sharp.UNetSharp"
        assert architecture["arch_kwargs"]["checkpoint"] is True
        assert architecture["arch_kwargs"]["level"] == 2
        assert "n_conv_per_stage" not in architecture["arch_kwargs"]
        assert "supervision" not in architecture["arch_kwargs"]

    def test_base_width(self) -> None:
        options: dict[str, Any] = {"gpu_memory": 8, "base_width": 8, "configurations": ["2d"]}
        planned = make_planner("FocusNetPlusPlusTrainer", HIPPOCAMPUS, **options).plan()["configurations"]
        # in proportion to the paper's 32, 64, 128, 192
        assert planned["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 48]

    @pytest.mark.parametrize(("width", "widest"), [(16, 256), (18, 288)])
    def test_base_width_has_no_limit(self, width: int, widest: int) -> None:
        """V-Net#'s table has 16 to 256 and 18 to 288 features; nnU-Net's, in proportion, would end at 160 and 180."""
        planner = make_planner("VNetTrainer", HIPPOCAMPUS, gpu_memory=8, base_width=width)
        planned = {"patch_size": [64] * 3, "architecture": architecture_of(features=[32, 64, 128, 256, 320, 320])}
        features = planner.architecture(planned)["arch_kwargs"]["features_per_stage"]
        assert features[4] == widest
        assert features == [width * 2**stage for stage in range(6)]

    def test_a_width_that_the_name_states_is_refused(self) -> None:
        planner = make_planner("FocusNetPlusPlusTrainer_S", HIPPOCAMPUS, gpu_memory=8, base_width=8)
        with pytest.raises(ValueError, match="its name says how wide the network is"):
            planner.plan()

    def test_a_model_of_timm_has_stages_of_its_own_in_2d(self) -> None:
        planned = make_planner("UNetTrainer_timm-test-resnet", HIPPOCAMPUS, gpu_memory=8).plan()["configurations"]
        assert list(planned) == ["2d"]
        stated = planned["2d"]["architecture"]["arch_kwargs"]
        assert stated["encoder"] == "test_resnet"
        assert stated["strides"] == [[1, 1], *[[2, 2]] * 5]
        assert stated["features_per_stage"] == [32, 64, 128, 256, 256, 256]
        assert all(size % 32 == 0 for size in planned["2d"]["patch_size"])

    def test_too_little_memory_names_what_helps(self) -> None:
        options: dict[str, Any] = {"gpu_memory": 1.77, "configurations": ["3d_fullres"]}
        with pytest.raises(
            ValueError, match=r"--gpu-memory 1.77: UNetSharpTrainer takes .* give --gpu-memory"
        ) as error:
            make_planner("UNetSharpTrainer", HIPPOCAMPUS, **options).plan()
        levers = [lever.split() for lever in str(error.value).split("give ")[1].split(", or ")]
        assert [levers[0][0], levers[-1][0]] == ["--gpu-memory", "--base-width"]
        assert any(option == "-tr" for option, _ in levers)
        for option, value in levers:
            trainer = value if option == "-tr" else "UNetSharpTrainer"
            helped = {"--gpu-memory": ("gpu_memory", float), "--base-width": ("base_width", int)}
            changed = {name: convert(value) for name, convert in [helped[option]]} if option in helped else {}
            planned = make_planner(trainer, HIPPOCAMPUS, **options | changed).plan()
            assert planned["configurations"]["3d_fullres"]["batch_size"] >= 2


def architecture_of(features: list[int]) -> dict[str, Any]:
    """nnU-Net's network in 3D, as its planner states it."""
    topology = {
        "n_stages": len(features),
        "features_per_stage": features,
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": [[3] * 3] * len(features),
        "strides": [[1] * 3] + [[2] * 3] * (len(features) - 1),
    }
    return {"network_class_name": "", "arch_kwargs": topology, "_kw_requires_import": ["conv_op"]}


def at_patch(plan: dict[str, Any], patch: tuple[int, ...]) -> dict[str, Any]:
    """A plan's changes for another patch, with nnU-Net's topology for it."""
    _, strides, kernels, size, _ = get_pool_and_conv_props(plan["spacing"], patch, 4, 999999)
    assert tuple(size) == tuple(patch)
    most = 512 if len(patch) == 2 else 320
    features = [min(most, 32 * 2**stage) for stage in range(len(strides))]
    topology = {"n_stages": len(strides), "features_per_stage": features, "kernel_sizes": kernels, "strides": strides}
    kwargs = plan["architecture"]["arch_kwargs"] | topology
    return {"patch_size": patch, "architecture": {**plan["architecture"], "arch_kwargs": kwargs}}


def test_names_of_plans() -> None:
    names = {
        "CAggNetTrainer": "CAggNetPlans",
        "CAggNetTrainer_100epochs_NoMirroring": "CAggNetPlans",
        "UNetSharpTrainer_CGM_10iterations_checkpoint": "UNetSharp_CGM_checkpointPlans",
        "FocusNetPlusPlusTrainer_S_DiceCE": "FocusNetPlusPlus_S_DiceCEPlans",
        "CAggNetTrainer_recipe": "CAggNetPlans",
        "CAggNetTrainer_adam_cosine": "CAggNetPlans",
        "UNetSharpTrainer_recipe_50epochs": "UNetSharp_recipePlans",
        "ClassicalUNetTrainer_CE_constant": "ClassicalUNet_CEPlans",
    }
    assert {name: plans_name(resolve_paper(name)) for name in names} == names


def test_trainer_that_is_not_found_has_no_leaner_form() -> None:
    """Of an outside trainer that does not fit; the advice is of the memory alone, and no traceback."""
    theirs = type("TheirTrainer", (resolve_paper("ClassicalUNetTrainer"),), {})
    assert not list(leaner(theirs, {"architecture": {"arch_kwargs": {"strides": [[1, 1]] * 4}}}))
