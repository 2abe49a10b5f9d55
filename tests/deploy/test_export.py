from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hand_made import ADAPTING, DATASET, FLAT, PATCH, by_turns, make_trainer
from models import ABSENT, NAME, RESAMPLING, complete_plans, save_model
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_archs.deploy import export as exporting
from nnunet_archs.deploy import weights
from nnunet_archs.networks import UNetSharp
from nnunet_archs.scripts.main import main

CHECKPOINT = "fold_0/checkpoint_final.pth"


def export(folder: Path, to: str, *arguments: str) -> dict[str, Any]:
    """Export to `out`; return model.json."""
    assert main(["export", str(folder), "--to", to, "-o", f"out_{to}", *arguments]) == 0
    return json.loads(Path(f"out_{to}", "model.json").read_text())


def trained(folder: Path, name: str, n_axes: int, fold: int = 0, target: str = "labels") -> torch.nn.Module:
    """A fold's network, by way of the trainer."""
    trainer = make_trainer(name, complete_plans(n_axes), target)
    trainer.set_deep_supervision_enabled(False)
    checkpoint = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
    trainer.network.load_state_dict(checkpoint["network_weights"])
    return trainer.network.eval()


def run_onnx(folder: Path, model: dict[str, Any], x: torch.Tensor, fold: str = "0") -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / model["weights"]["folds"][fold]["file"])
    (logits,) = session.run(None, {model["network"]["input"]["name"]: x.numpy()})
    return logits


# others' code with another encoder, other kernels or fewer skips: nothing new for a graph, and a graph takes seconds
NO_NEW_GRAPH = [
    "VNetTrainer",
    "VNetPlusPlusTrainer",
    "VNet3PlusTrainer",
    "CanonicalVNet3PlusTrainer",
    "HorCrosslinkTrainer",
    "SquareCrosslinkTrainer",
    "Double2SingleNetTrainer",
    "ImprovedSkipUNetTrainer",
    "VerCrosslinkTrainer",
    "ResidualEncoderUNetTrainer",
    "DLATrainer",
    "DenseUNetTrainer",
    "FCNTrainer",
    "FocusNetTrainer",
    "MSSUNetTrainer",
    "PreActivationUNetTrainer",
    "R2UNetTrainer",
    "RAUNetTrainer",
    "ResidualUNetTrainer",
    "WUNetTrainer",
    "WVNetTrainer",
    "WideUNetTrainer",
]


@pytest.mark.parametrize(("name", "n_axes"), by_turns(name for name in [*ADAPTING, *FLAT] if name not in NO_NEW_GRAPH))
def test_every_network_to_onnx(name: str, n_axes: int) -> None:
    assert_onnx_is_the_network(name, n_axes)


@pytest.mark.parametrize(
    ("name", "n_axes"),
    [("UNetTrainer_resenc", 3), ("AttentionUNetTrainer_timm-test-resnet", 2)],
)
def test_networks_on_others_encoders_to_onnx(name: str, n_axes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PATCH, 2, [32, 64])  # models of timm have strides of up to 32
    assert_onnx_is_the_network(name, n_axes)


def assert_onnx_is_the_network(name: str, n_axes: int) -> None:
    folder = save_model(name, n_axes)
    model = assert_equal_to_the_checkpoint(folder, "onnx")
    x = torch.randn(model["network"]["input"]["shape"])
    with torch.no_grad():
        expected = trained(folder, name, n_axes)(x).numpy()
    logits = run_onnx(Path("out_onnx"), model, x)
    assert logits.shape == tuple(model["network"]["output"]["shape"]) == (1, 3, *PATCH[n_axes])
    np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1, np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_the_batch_of_a_graph_may_be_any(to: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stages = {"n_stages": 3, "features_per_stage": [8, 16, 32], "kernel_sizes": 3, "strides": [1, 2, 2]}
    layers = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    network = UNetSharp(1, 2, **stages, **layers, conv_bias=True).eval().requires_grad_(False)
    file = tmp_path / "file"
    file.write_bytes(weights.FORMATS[to].write(network, torch.randn(1, 1, 32, 32, 32)))
    run = weights.FORMATS[to].load(file, {})
    for batch in (1, 3):
        x = torch.randn(batch, 1, 32, 32, 32)
        torch.testing.assert_close(run(x), network(x), atol=1e-5, rtol=0)
    if to == "onnx":
        graph = onnx.load(file).graph
        shapes = {value.name: [n.dim_value for n in value.type.tensor_type.shape.dim] for value in graph.value_info}
        # X[0, 2] has 2 x 8 channels of its own stage, and 16 and 32 of deeper ones, which are never upsampled
        assert max(shape[1] for shape in shapes.values() if shape[2:] == [32, 32, 32]) == 16
        stored = sum(math.prod(tensor.dims) for tensor in graph.initializer)
        assert stored < 1.05 * sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "n_axes"), by_turns([*ADAPTING, *FLAT]))
def test_every_network_to_safetensors(name: str, n_axes: int) -> None:
    assert_equal_to_the_checkpoint(save_model(name, n_axes), "safetensors")


def assert_equal_to_the_checkpoint(folder: Path, to: str) -> dict[str, Any]:
    model = export(folder, to)
    written = model["weights"]["folds"]["0"]
    assert written["largest_difference"] < 1e-4 * max(1, written["largest_logit"])
    assert written["largest_logit"] > 0.01
    return model


def test_gates_of_regions() -> None:
    name = "UNetSharpTrainer_CGM"
    folder = save_model(name, 2, target="regions")
    model = export(folder, "onnx")
    assert model["output"]["activation"] == "sigmoid"
    x = torch.randn(model["network"]["input"]["shape"])
    with torch.no_grad():
        expected = trained(folder, name, 2, target="regions")(x).numpy()
    np.testing.assert_allclose(run_onnx(Path("out_onnx"), model, x), expected, atol=1e-4, rtol=0)


def test_torch_program() -> None:
    folder = save_model(n_axes=3)
    model = export(folder, "torch")
    x = torch.randn(model["network"]["input"]["shape"])
    run = torch.export.load(Path("out_torch", model["weights"]["folds"]["0"]["file"])).module()
    with torch.no_grad():
        torch.testing.assert_close(run(x), trained(folder, NAME, 3)(x), atol=1e-4, rtol=0)


def test_safetensors_hold_the_state_dict_alone() -> None:
    folder = save_model(folds=(0, 3))
    model = export(folder, "safetensors")
    for fold in (0, 3):
        content = Path("out_safetensors", f"fold_{fold}.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        assert header.keys() == trained(folder, NAME, 2, fold).state_dict().keys()
        assert b"pickle" not in content
        assert model["weights"]["folds"][str(fold)]["largest_difference"] == 0
    assert model["network"]["class"] == "nnunet_archs.networks.unet_sharp.UNetSharp"
    assert model["network"]["fusion"] == "exact"


def test_model_json_says_what_inference_needs() -> None:
    folder = save_model(folds=(0, 2, "all"), target="two channels")
    model = export(folder, "safetensors")
    known = {"mean": 3.0, "std": 2.0, "percentile_00_5": -1.0, "percentile_99_5": 7.0}
    assert model["format_version"] == 1
    assert (model["trainer"], model["configuration"], model["dataset"]) == (NAME, "tiny", DATASET)
    assert model["preprocessing"] == {
        "reader": "SimpleITKIO",
        "preprocessor": "DefaultPreprocessor",
        "transpose": [2, 0, 1],
        "crop_to_nonzero": True,
        "normalization": [
            {"channel": "channel0", "scheme": "CTNormalization", "inside_nonzero_only": False, "intensities": known},
            {"channel": "channel1", "scheme": "ZScoreNormalization", "inside_nonzero_only": True, "intensities": known},
        ],
        "spacing": [1.0, 1.0],
        "resampling": {"function": "resample_data_or_seg_to_shape", "arguments": RESAMPLING},
    }
    assert model["sliding_window"] == {
        "patch_size": PATCH[2],
        "step": 0.5,
        "mirroring_axes": [0, 1],
        "gaussian": {"sigma": 0.125, "peak": 10},
        "accumulated_in": "float16",
    }
    assert model["output"]["labels"] == {"background": 0, "organ": 1, "lesion": 2}
    assert model["output"]["transpose"] == [1, 2, 0]
    assert model["network"]["input"]["shape"] == [1, 2, *PATCH[2]]
    # as nnU-Net predicts: the fold of all cases only where it is asked for
    assert list(model["weights"]["folds"]) == ["0", "2"]
    assert "random patches" in model["weights"]["compared_on"]
    for file in ("plans.json", "dataset.json"):
        assert Path("out_safetensors", file).read_bytes() == (folder / file).read_bytes()
    assert {file.name for file in Path("out_safetensors").iterdir()} == {
        *("plans.json", "dataset.json", "model.json", "README.md", "fold_0.safetensors", "fold_2.safetensors")
    }


def test_no_mirroring_and_regions_in_model_json() -> None:
    model = export(save_model("UNetTrainer_NoMirroring", target="regions"), "safetensors")
    assert model["sliding_window"]["mirroring_axes"] == []
    assert model["output"]["regions_class_order"] == [1, 2]


def test_folds_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(folds=(0, 1, "all"))
    capsys.readouterr()
    assert main(["export", str(folder), "--to", "safetensors", "-f", "1", "all"]) == 0
    printed = capsys.readouterr().out.splitlines()
    out = Path(f"{folder.name}_safetensors")
    assert sorted(file.name for file in out.glob("*.safetensors")) == ["fold_1.safetensors", "fold_all.safetensors"]
    assert printed[0].startswith("fold 1: fold_1.safetensors differs from the checkpoint by 0.0e+00 at most")
    assert len(printed) == 3


@pytest.mark.filterwarnings("ignore:Warning. Received empty chunks")
@pytest.mark.parametrize("n_axes", [2, 3])
def test_compared_on_preprocessed_cases(n_axes: int, tmp_path: Path) -> None:
    data = tmp_path / "preprocessed" / DATASET / "tiny"
    (data / "case.b2nd").unlink()
    for i in range(4):  # larger and smaller than the patch
        shape = (1, 6 + 4 * i, 20, 30)
        image = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) / 1000
        nnUNetDatasetBlosc2.save_case(image, np.zeros(shape, np.int16), {}, str(data / f"case{i}"))
    folder = save_model(n_axes=n_axes)
    for stray in (".DS_Store", "._case0.b2nd", "case0.npz"):  # macOS, and nnU-Net's format before 2.6
        (data / stray).touch()
    model = export(folder, "safetensors")
    assert model["weights"]["compared_on"] == "patches of case0, case2"


# bad input


def without(*files: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return change


def cut_off(folder: Path) -> None:
    content = (folder / CHECKPOINT).read_bytes()
    (folder / CHECKPOINT).write_bytes(content[: len(content) // 2])


def change_checkpoint(key: str, value: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        checkpoint = torch.load(folder / CHECKPOINT, weights_only=False)
        torch.save(checkpoint | {key: value}, folder / CHECKPOINT)

    return change


def change_plans(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        plans = json.loads((folder / "plans.json").read_text())
        change(plans)
        (folder / "plans.json").write_text(json.dumps(plans))

    return rewrite


def tiny(plans: dict[str, Any]) -> dict[str, Any]:
    return plans["configurations"]["tiny"]


def fill_output(folder: Path) -> None:
    Path("out").mkdir()
    Path("out", "kept").touch()


# name: what is done to a folder, further arguments, words of the error
REFUSED: dict[str, tuple[Callable[[Path], Any] | None, list[str], list[str]]] = {
    "no model": (without("plans.json"), [], ["is not a trained model's folder", "plans.json"]),
    "broken plans": (lambda folder: (folder / "plans.json").write_text("{"), [], ["plans.json cannot be read"]),
    "no plans": (lambda folder: (folder / "plans.json").write_text("[]"), [], ["plans.json holds no JSON object"]),
    "no fold": (lambda folder: (folder / "fold_0").rename(folder / "fold"), [], ["holds no fold"]),
    "fold missing": (None, ["-f", "0", "3"], ["no fold 3", "but 0"]),
    "fold unfinished": (lambda folder: (folder / "fold_1").mkdir(), [], ["fold 1", "not finished", "finished: 0"]),
    "none finished": (without(CHECKPOINT), [], ["fold 0", "not finished", "none"]),
    "cut off": (cut_off, [], [CHECKPOINT, "cannot be read as a checkpoint", "copy or train"]),
    "empty": (lambda folder: (folder / CHECKPOINT).write_bytes(b""), [], [CHECKPOINT, "cannot be read"]),
    "text": (lambda folder: (folder / CHECKPOINT).write_text("x" * 99), [], [CHECKPOINT, "cannot be read"]),
    "another's": (lambda folder: torch.save({"a": 1}, folder / CHECKPOINT), [], ["is no checkpoint", "trainer_name"]),
    "unknown trainer": (change_checkpoint("trainer_name", "TheirTrainer"), [], ["TheirTrainer", "nnUNet_extTrainer"]),
    "unknown option": (change_checkpoint("trainer_name", "UNetTrainer_odd"), [], ["no option _odd"]),
    "other plans": (
        change_plans(lambda plans: tiny(plans)["architecture"]["arch_kwargs"].update(features_per_stage=[2, 2, 2])),
        [],
        ["fold 0", "does not fit plans.json"],
    ),
    "no configuration": (
        change_plans(lambda plans: plans["configurations"].update(other=plans["configurations"].pop("tiny"))),
        [],
        ["lacks the configuration tiny"],
    ),
    "another version": (
        change_plans(lambda plans: tiny(plans).pop("resampling_fn_data")),
        [],
        ["lacks 'resampling_fn_data'", "another version of nnU-Net"],
    ),
    "no architecture": (
        change_plans(lambda plans: tiny(plans).pop("architecture")),
        [],
        ["lacks 'UNet_class_name'", "another version of nnU-Net"],
    ),
    "output": (fill_output, [], ["out exists and is not an empty folder", "-o"]),
    "output is a file": (lambda folder: Path("out").touch(), [], ["out exists"]),
    "output in nothing": (
        None,
        ["-o", "not/there"],
        ["not/there cannot be written: there is no folder", "not; make it"],
    ),
}


@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans format")
@pytest.mark.parametrize("reason", REFUSED)
def test_refusals(reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, arguments, said = REFUSED[reason]
    folder = save_model()
    if change:
        change(folder)
    assert_refused(folder, said, arguments, tmp_path, capsys)


def assert_refused(
    folder: Path, said: list[str], arguments: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    before = sorted(root.rglob("*"))
    assert main(["export", str(folder), "--to", "safetensors", "-o", "out", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    for words in said:
        assert words in line
    assert sorted(root.rglob("*")) == before


def test_folds_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(folds=(0, 1))
    change_checkpoint("inference_allowed_mirroring_axes", (0,))(folder)
    assert_refused(folder, ["fold 1", "otherwise than the others there"], [], tmp_path, capsys)


def test_network_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model()
    build = weights.get_network_from_plans

    def build_another(*args: Any, **kwargs: Any) -> torch.nn.Module:
        network = build(*args, **kwargs)
        network.load_state_dict = lambda state: None
        return network

    monkeypatch.setattr(weights, "get_network_from_plans", build_another)
    assert_refused(folder, ["fold 0", "differs from the checkpoint's by", "1e-04", "--to"], [], tmp_path, capsys)


def test_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model()

    def fail(file: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert_refused(folder, ["the disk is full", "fold_0.safetensors"], [], tmp_path, capsys)


def test_library_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_model()
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    assert_refused(folder, ["safetensors not installed", 'pip install "nnunet-archs[export]"'], [], tmp_path, capsys)


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"affine": True, "track_running_stats": True}])
def test_instance_norm_of_a_graph_is_torchs(options: dict[str, bool], tmp_path: Path) -> None:
    torch.manual_seed(0)
    norm = torch.nn.InstanceNorm3d(2, **options)
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(1, 2)
    norm.eval().requires_grad_(False)
    x = torch.randn(2, 2, 3, 4, 5)
    file = tmp_path / "norm.onnx"
    file.write_bytes(weights.write_onnx(norm, x[:1]))
    assert not {"InstanceNormalization", "BatchNormalization"} & {node.op_type for node in onnx.load(file).graph.node}
    torch.testing.assert_close(weights.load_onnx(file, {})(x), norm(x))


def test_nan_is_a_difference() -> None:
    x = torch.tensor([1.0, math.nan])
    assert not exporting.largest_difference([x], [torch.ones(2)]) <= exporting.LIMIT


def test_modality_in_place_of_channel_names() -> None:
    folder = save_model(modality={"0": "MRI"}, channel_names=ABSENT, overwrite_image_reader_writer=None)
    model = export(folder, "safetensors")
    assert [channel["channel"] for channel in model["preprocessing"]["normalization"]] == ["MRI"]
    assert json.loads(Path("out_safetensors", "dataset.json").read_text())["modality"] == {"0": "MRI"}
