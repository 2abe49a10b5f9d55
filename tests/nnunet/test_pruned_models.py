"""`nnunet-archs prune` on preprocessed data: what it measures is what nnU-Net's own validation finds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import run_training
from tiny_dataset import ID, PLANS, Home, load_json, save_first_stage, save_untrained

from nnunet_archs.scripts.main import main

CPU = torch.device("cpu")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


def dice_of_validation(folder: Path) -> float:
    return float(load_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"])


def test_measures_what_nnunet_does(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    name, configuration = "UNetSharpTrainer_99epochs", "2d"
    save_untrained(home, name, configuration, 0).perform_actual_validation()
    folder = home.results(name, configuration)
    capsys.readouterr()
    assert main(["prune", str(folder), "--level", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    pruned = home.results(f"{name}_pruned1", configuration)
    result = load_json(pruned / "pruning.json")
    assert [row["level"] for row in result["levels"]] == [1, 2]
    first, whole = result["levels"]
    assert whole["dice"] == dice_of_validation(folder / "fold_0")
    assert whole["dice_lost"] == 0
    assert whole["time_ratio"] == 1
    assert first["parameters"] < whole["parameters"]
    assert first["dice_lost"] == whole["dice"] - first["dice"] != 0
    assert first["seconds"] > 0
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert "\n".join(table) in (pruned / "pruning.md").read_text()

    # --val finds the fold, and training does not touch it
    run_training(ID, configuration, 0, f"{name}_pruned1", PLANS, only_run_validation=True, device=CPU)
    assert first["dice"] == dice_of_validation(pruned / "fold_0")
    checkpoint = (pruned / "fold_0" / "checkpoint_final.pth").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        run_training(ID, configuration, 0, f"{name}_pruned1", PLANS, device=CPU)
    assert (pruned / "fold_0" / "checkpoint_final.pth").read_bytes() == checkpoint


def test_second_stage_of_a_cascade(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    name = "UNetPlusPlusTrainer_98epochs"
    for fold in (1, 2):
        trainer = save_untrained(home, name, "3d_cascade_fullres", fold)
    folder = home.results(name, "3d_cascade_fullres")
    prune = ["prune", str(folder), "--level", "1", "--device", "cpu"]
    previous = home.results(name, "3d_lowres") / "predicted_next_stage" / "3d_cascade_fullres"
    assert main(prune) == 2
    assert f"{previous} is missing" in capsys.readouterr().err
    cases = [case for fold in (1, 2) for case in load_json(home.preprocessed / "splits_final.json")[fold]["val"]]
    save_first_stage(trainer, previous, cases)
    assert main(prune) == 0
    result = load_json(home.results(f"{name}_pruned1", "3d_cascade_fullres") / "pruning.json")
    whole = result["levels"][-1]["dice_per_case"]
    assert {case.split("/")[1] for case in whole} == set(cases)
    trainer.perform_actual_validation()
    summary = load_json(Path(trainer.output_folder) / "validation" / "summary.json")
    for case in summary["metric_per_case"]:
        found = whole[f"fold_2/{Path(case['reference_file']).name.removesuffix('.nii.gz')}"]
        assert found == {label: metrics["Dice"] for label, metrics in case["metrics"].items()}
