from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_made import DATASET, by_turns, make_dataset_json, make_folders, make_plans, make_trainer
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunet_archs.discovery import discovery_folder
from nnunet_archs.networks import UNetPlusPlus, UNetSharp, VNetPlusPlus, VNetSharp
from nnunet_archs.prune import cut
from nnunet_archs.prune.levels import cells, dice_fields, table
from nnunet_archs.prune.validation import mean_foreground
from nnunet_archs.scripts.main import main
from nnunet_archs.trainers.registry import paper_trainers, resolve_paper
from nnunet_archs.trainers.unet_sharp import PrunableTrainer

NETWORKS = [UNetSharp, VNetSharp, UNetPlusPlus, VNetPlusPlus]
TRAINERS = [f"{network.__name__}Trainer" for network in NETWORKS]
# name: strides of the stages, size of an image
GRIDS = {
    "2d": ([[1, 1], [2, 2], [2, 2], [2, 2], [2, 2]], [32, 48]),
    "3d-anisotropic": ([[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]], [4, 8, 16]),
}
NAME = "UNetSharpTrainer_5epochs"
N_STAGES = 4


@pytest.fixture(autouse=True)
def _nnunet_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, folder in make_folders(tmp_path).items():
        monkeypatch.setenv(name, folder)
    monkeypatch.setenv("nnUNet_extTrainer", discovery_folder())


def build(network: type, grid: str, **options: Any) -> nn.Module:
    strides, size = GRIDS[grid]
    dim = len(size)
    return network(
        input_channels=2,
        num_classes=3,
        n_stages=len(strides),
        features_per_stage=[2 + i for i in range(len(strides))],
        conv_op=[nn.Conv2d, nn.Conv3d][dim - 2],
        kernel_sizes=[[3] * dim if dim == 2 else [1, 3, 3], *[[3] * dim] * (len(strides) - 1)],
        strides=strides,
        conv_bias=True,
        norm_op=[nn.BatchNorm2d, nn.BatchNorm3d][dim - 2],
        nonlin=nn.LeakyReLU,
        **options,
    )


def with_any_weights(network: nn.Module) -> nn.Module:
    """Every tensor of the state dict drawn anew, the norms' statistics too: no two heads are alike by chance."""
    torch.manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if tensor.ndim == 1 else torch.randn_like(tensor))
    return network


@pytest.mark.parametrize(
    ("network", "grid", "options"),
    [
        *((network, grid, {}) for network in NETWORKS for grid in GRIDS),
        *((network, grid, {"cgm": True}) for network in (UNetSharp, VNetSharp) for grid in GRIDS),
        *((network, "2d", {"wiring": "table"}) for network in (UNetSharp, VNetSharp)),
    ],
)
def test_pruned_network_is_the_whole_ones_head(network: type, grid: str, options: dict[str, Any]) -> None:
    whole = with_any_weights(build(network, grid, **options, supervision="paper", deep_supervision=True)).eval()
    x = torch.randn(1, 2, *GRIDS[grid][1])
    last = whole.topology.last
    with torch.no_grad():
        outputs = dict(zip(whole.supervised, whole(x), strict=True))
        for level in range(1, last + 1):
            pruned = build(network, grid, supervision="none", level=level, **options).eval()
            weights = whole.state_dict()
            pruned.load_state_dict({key: weights[key] for key in pruned.state_dict()})
            assert torch.equal(pruned(x), outputs[0, level])
            assert outputs[0, level].isfinite().all()


# trainers


@pytest.mark.parametrize("trainer", TRAINERS)
def test_level_trained_on_its_own(trainer: str) -> None:
    for n_axes in (2, 3):
        made = make_trainer(f"{trainer}_L2", make_plans(n_axes, N_STAGES))
        sharp = "Sharp" in trainer
        supervised = [(0, 2), (1, 1), (2, 0), (0, 1)] if sharp else [(0, 2), (0, 1)]
        assert made.network.supervised == supervised
        assert made.loss.stages == tuple(stage for stage, _ in supervised)
        assert len(made._get_deep_supervision_scales()) == (3 if sharp else 1)
        assert list(made.network.grid.nodes) == ["X_0_1", "X_1_1", "X_0_2"]


def test_level_with_other_recipes() -> None:
    plans = make_plans(2, N_STAGES)
    assert make_trainer("UNetSharpTrainer_L2_DiceCE", dict(plans)).network.supervised == [(0, 2), (1, 1)]
    alone = make_trainer("UNetSharpTrainer_L2_noDS", dict(plans))
    assert alone.network.supervised == [(0, 2)]
    assert not alone.enable_deep_supervision


@pytest.mark.parametrize("option", ["L", "pruned"])
def test_level_beyond_the_network(option: str) -> None:
    def error(level: int) -> str:
        cls = resolve_paper(f"UNetSharpTrainer_{option}{level}")
        with pytest.raises(ValueError, match=r"level") as caught:
            cls.check_plans(make_plans(2, N_STAGES), "tiny", make_dataset_json())
        return str(caught.value)

    assert "level 3 is the whole network of 4 stages" in error(3)
    assert "1, 2, 3" in error(4)
    for level in (1, 2):
        cls = resolve_paper(f"UNetSharpTrainer_{option}{level}")
        assert cls.check_plans(make_plans(2, N_STAGES), "tiny", make_dataset_json())[0] == 0


def test_levels_are_one_group() -> None:
    with pytest.raises(ValueError, match="_L1 and _pruned2 both settle the level"):
        resolve_paper("VNetSharpTrainer_L1_pruned2")
    with pytest.raises(ValueError, match="UNetTrainer has no option _pruned1"):
        resolve_paper("UNetTrainer_pruned1")


def test_pruned_network_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        make_trainer(f"{NAME}_pruned2", make_plans(2, N_STAGES))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be trained" in line
    assert "_L2" in line
    assert not (tmp_path / "results").exists()


# the command


def save_model(name: str = NAME, n_axes: int = 2, folds: tuple[int | str, ...] = (0,)) -> Path:
    """A model's folder as nnU-Net leaves it after training."""
    for fold in folds:
        trainer = make_trainer(name, make_plans(n_axes, N_STAGES))
        with_any_weights(trainer.network)
        for parameter in trainer.network.parameters():
            parameter.data += 0.01 * (fold if isinstance(fold, int) else 7)
        folder = Path(trainer.output_folder_base)
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
    plans = make_plans(n_axes, N_STAGES)
    del plans["continue_training"]
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(make_dataset_json()))
    return folder


def files_in(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root)) for file in root.rglob("*"))


@pytest.mark.parametrize(("trainer", "n_axes"), by_turns([*TRAINERS, "UNetSharpTrainer_CGM"]))
def test_pruned_folder_is_the_whole_ones_head(trainer: str, n_axes: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(trainer, n_axes, folds=(3, "all"))
    before = files_in(folder)
    assert main(["prune", str(folder), "--level", "2", "--no-validation"]) == 0
    target = folder.with_name(f"{trainer}_pruned2__HandMadePlans__tiny")
    assert str(target) in capsys.readouterr().out
    assert files_in(folder) == before
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, target.name}
    assert [file for file in files_in(target) if "fold" not in file] == ["dataset.json", "plans.json"]
    x = torch.randn(1, 1, *make_plans(n_axes)["configurations"]["tiny"]["patch_size"])
    for fold in (3, "all"):
        whole = make_trainer(trainer, make_plans(n_axes, N_STAGES)).network.eval()
        checkpoint = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        whole.load_state_dict(checkpoint["network_weights"])
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(target), (fold,))
        assert predictor.trainer_name == f"{trainer}_pruned2"
        assert predictor.allowed_mirroring_axes == checkpoint["inference_allowed_mirroring_axes"] is not None
        with torch.no_grad():
            head = dict(zip(whole.supervised, whole(x), strict=True))[0, 2]
            assert torch.equal(predictor.network.eval()(x), head)
            image = x[0] if n_axes == 3 else x[0][:, None]
            averaged = predictor.predict_logits_from_preprocessed_data(image)
        assert averaged.isfinite().all()


def test_pruned_checkpoint_holds_no_more_than_it_needs() -> None:
    folder = save_model()
    assert main(["prune", str(folder), "--level", "1", "--no-validation"]) == 0
    whole, pruned = (
        torch.load(path / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for path in (folder, folder.with_name(f"{NAME}_pruned1__HandMadePlans__tiny"))
    )
    assert pruned.keys() == whole.keys()
    assert pruned["trainer_name"] == f"{NAME}_pruned1"
    assert pruned["init_args"] == whole["init_args"]
    assert pruned["optimizer_state"]["state"] == {}
    assert pruned["network_weights"].keys() < whole["network_weights"].keys()


def without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def rename(name: str) -> Callable[[Path], Path]:
    return lambda folder: folder.rename(folder.with_name(name))


def trained_by(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "fold_0" / "checkpoint_final.pth"
        torch.save(torch.load(file, weights_only=False) | {"trainer_name": name}, file)

    return change


def garble(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"no checkpoint")


def with_other_plans(folder: Path) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["tiny"]["architecture"]["arch_kwargs"]["features_per_stage"] = [5, 8, 8, 8]
    (folder / "plans.json").write_text(json.dumps(plans))


def with_target(folder: Path) -> None:
    folder.with_name(f"{NAME}_pruned1__HandMadePlans__tiny").mkdir()


# name: trainer, what is done to its folder, the command's further arguments, words of the error
REFUSED: dict[str, tuple[str, Callable[[Path], Path | None] | None, list[str], list[str]]] = {
    "no model folder": (NAME, lambda folder: folder / "fold_0", [], ["fold_0 is not a trained model's folder"]),
    "no folder": (NAME, lambda folder: folder.with_name("x__y__z"), [], ["x__y__z is not a trained model's folder"]),
    "no plans": (NAME, without("plans.json"), [], ["plans.json", "nnUNet_results"]),
    "broken plans": (NAME, lambda f: (f / "plans.json").write_text("{") and None, [], ["plans.json cannot be read"]),
    "another configuration": (NAME, rename(f"{NAME}__HandMadePlans__2d"), [], ["for tiny; name it"]),
    "nnU-Net's trainer": ("PlainConvUNetTrainer", None, [], ["PlainConvUNetTrainer has no levels", "VNetSharp"]),
    "another network": ("UNetTrainer", None, [], ["UNetTrainer has no levels", "VNetPlusPlusTrainer"]),
    "unknown trainer": (NAME, trained_by("TheirTrainer"), [], ["TheirTrainer", "not installed here"]),
    "level already": ("UNetSharpTrainer_L2", None, [], ["UNetSharpTrainer_L2 is a pruned network already"]),
    "pruned already": (NAME, trained_by("UNetSharpTrainer_pruned2"), [], ["_pruned2 is a pruned network"]),
    "level 0": (NAME, None, ["--level", "0"], ["--level 0", "levels 1 to 2"]),
    "whole": (NAME, None, ["--level", "3"], ["--level 3", "levels 1 to 2"]),
    "level 9": (NAME, None, ["--level", "9"], ["--level 9", "levels 1 to 2"]),
    "no fold": (NAME, without("fold_0/checkpoint_final.pth"), [], ["fold 0", "not finished (no checkpoint_final.pth)"]),
    "target": (NAME, with_target, [], ["_pruned1__HandMadePlans__tiny exists"]),
    "_noDS": ("UNetSharpTrainer_noDS", None, [], ["_noDS was trained without a head at X[0, 1]", "without _DiceCE"]),
    "_DiceCE": ("UNetPlusPlusTrainer_DiceCE", None, [], ["without a head at X[0, 1]", "_L1"]),
    "_DS": ("VNetSharpTrainer_DS", None, [], ["without a head at X[0, 1]"]),
    "broken checkpoint": (NAME, garble, [], ["fold_0/checkpoint_final.pth cannot be read as a checkpoint"]),
    "of another trainer": (NAME, rename("UNetSharpTrainer__HandMadePlans__tiny"), [], [f"holds a model of {NAME}"]),
    "other plans": (NAME, with_other_plans, [], ["does not fit plans.json"]),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, arguments, said = REFUSED[reason]
    folder = save_model(name)
    folder = (change(folder) if change else None) or folder
    before = files_in(tmp_path)
    assert refusal(folder, capsys, "--level", "1", "--no-validation", *arguments, said=said) == 2
    assert files_in(tmp_path) == before


def refusal(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, said: list[str]) -> int:
    capsys.readouterr()
    code = main(["prune", str(folder), *arguments])
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    for words in said:
        assert words in line
    return code


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(save_model(), capsys, "--level", "1", "--device", "cuda", said=["-device cuda", "cpu"]) == 2


def test_what_validation_needs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, root = save_model(), tmp_path / "preprocessed" / DATASET

    def missing(*said: str) -> None:
        before = files_in(tmp_path)
        assert refusal(folder, capsys, "--level", "1", said=[*said, "--no-validation"]) == 2
        assert files_in(tmp_path) == before

    missing("splits_final.json is missing")
    (root / "splits_final.json").write_text("[]")
    missing("0 folds, and no fold 0")
    (root / "splits_final.json").write_text('[{"train": [], "val": ["case", "other"]}]')
    missing("gt_segmentations is missing")
    (root / "gt_segmentations").mkdir()
    (root / "gt_segmentations" / "case.nii.gz").touch()
    missing(f"{root / 'tiny'} lacks 1 of 2 validation cases (other")
    for name in ("other.b2nd", ".DS_Store", "case.npz"):  # the last two are no cases
        (root / "tiny" / name).touch()
    missing("gt_segmentations lacks 1 of 2 validation cases (other")
    (root / "tiny").rename(root / "elsewhere")
    missing("tiny is missing")
    (folder / "fold_0").rename(folder / "fold_all")
    missing("fold_all was trained on every case")
    monkeypatch.delenv("nnUNet_preprocessed")
    missing("nnUNet_preprocessed is not set")


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ValueError("broken"), 2)])
def test_nothing_is_left_of_an_interrupted_run(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model()
    before = files_in(tmp_path)
    seen: list[Path] = []

    def interrupted(*_: object) -> None:
        seen.extend(path for path in folder.parent.iterdir() if path != folder)
        raise error

    monkeypatch.setattr(cut, "find_validation", lambda model: model)
    monkeypatch.setattr(cut, "measure", interrupted)
    assert main(["prune", str(folder), "--level", "1"]) == code
    assert [path.name[:5] for path in seen] == [".UNet"]
    assert files_in(tmp_path) == before


def test_trained_model_can_be_named_as_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model()
    monkeypatch.chdir(folder)
    assert main(["prune", ".", "--level", "1", "--no-validation"]) == 0
    assert folder.with_name(f"{NAME}_pruned1__HandMadePlans__tiny").is_dir()


def test_means_are_nnunets() -> None:
    nan = math.nan
    assert mean_foreground([{1: nan, 2: 0.5}, {1: 0.2, 2: 0.7}]) == pytest.approx(0.4)
    assert math.isnan(mean_foreground([{1: nan, 2: 0.5}, {1: nan, 2: 0.7}]))
    fields = dice_fields({"a": {1: 0.25}, "b": {1: nan}}, {"a": {1: 0.5}, "b": {1: nan}})
    assert fields == {"dice": 0.25, "dice_lost": 0.25, "dice_per_case": {"a": {"1": 0.25}, "b": {"1": None}}}


def test_table_is_aligned() -> None:
    row = {"level": 1, "parameters": 1234567, "dice": 0.5, "dice_lost": None, "seconds": 0.0123, "time_ratio": 0.256}
    assert cells(row) == ["1", "1,234,567", "0.5000", "-", "12.3", "26 %"]
    lines = table({"levels": [row, row | {"level": 2, "seconds": 20.0}]}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4


def test_all_trainers_with_levels_are_tested() -> None:
    assert {trainer.__name__ for trainer in paper_trainers() if issubclass(trainer, PrunableTrainer)} == set(TRAINERS)
