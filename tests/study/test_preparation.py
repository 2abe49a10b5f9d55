"""What a study makes before it trains, and what it refuses to go on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split
from planning import HIPPOCAMPUS, set_folders
from studies import STUDY, finish, make_cascade, make_study, write_plans

from nnunet_archs.nnunet.commands import last_line
from nnunet_archs.nnunet.plans import BUDGET, budget
from nnunet_archs.scripts.main import main
from nnunet_archs.study.jobs import jobs_of
from nnunet_archs.study.preparation import (
    check,
    check_folds,
    plan_commands,
    run_command,
    shown,
    write_splits,
)

MATCHED = "CAggNet_memory_of_PlainConvUNetPlans"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_folders(tmp_path, monkeypatch)


def commands(root: Path, text: str) -> list[str]:
    return [" ".join(shown(command)) for _, command in plan_commands(make_study(root, text), HIPPOCAMPUS)]


def test_nnunets_plans_are_nnunets_business(tmp_path: Path) -> None:
    assert commands(tmp_path, STUDY) == ["nnUNetv2_plan_experiment -d 801"]


def test_the_fingerprint_comes_first(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    (tmp_path / "nnUNet_preprocessed" / HIPPOCAMPUS / "dataset_fingerprint.json").unlink()
    first, second = (shown(command)[0] for _, command in plan_commands(study, HIPPOCAMPUS))
    assert (first, second) == ("nnUNetv2_extract_fingerprint", "nnUNetv2_plan_experiment")


def test_plans_are_made_by_their_names_and_matched_ones_after_what_they_match(tmp_path: Path) -> None:
    trainers = f"""
  - {{trainer: CAggNetTrainer, plans: {MATCHED}}}
  - {{trainer: UNetSharpTrainer_checkpoint, plans: UNetSharp_checkpointPlans}}
  - {{trainer: VNetTrainer, plans: VNet_parameters_of_nnUNetPlans}}
  - {{trainer: PlainConvUNetTrainer, plans: PlainConvUNetPlans}}
planning: {{gpu_memory: 12, base_width: 16}}
"""
    text = STUDY.replace(" [PlainConvUNetTrainer, CAggNetTrainer]", trainers)
    assert commands(tmp_path, text) == [
        "nnunet-archs plan -d 801 -tr PlainConvUNetTrainer --gpu-memory 12 --base-width 16",
        "nnunet-archs plan -d 801 -tr CAggNetTrainer_2epochs --match PlainConvUNetPlans --by memory",
        "nnunet-archs plan -d 801 -tr UNetSharpTrainer_checkpoint_2epochs --gpu-memory 12 --base-width 16",
        "nnUNetv2_plan_experiment -d 801",
        "nnunet-archs plan -d 801 -tr VNetTrainer_2epochs --match nnUNetPlans --by parameters",
    ]


def test_plans_that_nobody_can_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path, STUDY + "plans: MyPlans\n")
    assert main(["study", "run", str(tmp_path / "mine.yaml")]) == 2
    assert f"plans MyPlans of PlainConvUNet are not there for {HIPPOCAMPUS}" in capsys.readouterr().err


def test_plans_without_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path, STUDY.replace("2d, 3d_fullres", "2d, 3d_lowres"))
    write_plans(tmp_path, **{"2d": {"data_identifier": "data", "architecture": {}}})
    assert main(["study", "run", str(study.file)]) == 2
    assert f"nnUNetPlans of {HIPPOCAMPUS} has no 3d_lowres, but 2d" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["study", "run", str(study.file), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "nnUNetv2_plan_experiment -d 801",
        "nnUNetv2_train 801 2d 0 -tr PlainConvUNetTrainer_2epochs -p nnUNetPlans -device cpu",
    ]
    assert len(lines) == 1 + 2 * 2 * 2
    assert sorted(tmp_path.rglob("*")) == before


def test_splits_are_nnunets(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    folder = tmp_path / "nnUNet_preprocessed" / HIPPOCAMPUS
    planned = {"data_identifier": "data", "architecture": {}}
    write_plans(tmp_path, **{"2d": planned, "3d_fullres": planned})
    (folder / "data").mkdir()
    cases = [f"c{i}" for i in range(7)]
    for case in cases:
        (folder / "data" / f"{case}.npz").touch()
    write_splits(study, HIPPOCAMPUS)
    file = folder / "splits_final.json"
    expected = generate_crossval_split(cases, seed=12345, n_splits=5)
    assert json.loads(file.read_text()) == expected
    file.write_text(json.dumps(expected[:2]))
    write_splits(study, HIPPOCAMPUS)
    assert json.loads(file.read_text()) == expected[:2]
    check_folds(study, HIPPOCAMPUS)


def test_folds_that_a_data_set_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path)
    (tmp_path / "nnUNet_preprocessed" / HIPPOCAMPUS / "splits_final.json").write_text("[{}]")
    assert main(["study", "run", str(study.file), "--dry-run"]) == 2
    assert f"folds: {HIPPOCAMPUS} has no fold 1, but [0]; say folds: [0]" in capsys.readouterr().err


def test_a_cascade_without_its_first_stage_or_some_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_cascade(tmp_path)
    check(study)
    for old, new, why in (
        ("[3d_lowres, 3d_cascade_fullres]", "3d_cascade_fullres", "needs 3d_lowres; name that too"),
        ("[0, 1, 2]", "[0, 1]", "a cascade needs all 3 of its first stage"),
    ):
        study.file.write_text(study.text.replace(old, new))
        assert main(["study", "run", str(study.file)]) == 2
        assert why in capsys.readouterr().err


def test_a_command_that_fails(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    with pytest.raises(ValueError, match=r"trial failed: 3 \(all of it: .*preparation\.log\)"):
        run_command(study, "trial", ["bash", "-c", "echo 3; exit 1"])
    assert last_line(tmp_path / "none.log") == "it printed nothing"


OWN = """
  - {trainer: PlainConvUNetTrainer, plans: PlainConvUNetPlans}
  - {trainer: CAggNetTrainer, plans: CAggNetPlans}
  - {trainer: VNetTrainer, plans: VNet_memory_of_CAggNetPlans}
"""
TWO_GB = "was made for 2 GB, width 4, CAggNetTrainer"


def write_planned(root: Path, name: str, made: dict[str, object] | None, *, batch_size: int = 2) -> None:
    """Plans of a name, with a record of what they were made for."""
    one: dict[str, object] = {
        "data_identifier": "data",
        "architecture": {},
        "patch_size": [8],
        "batch_size": batch_size,
    }
    planned = {**one, BUDGET: made} if made else one
    write_plans(root, name, **{"2d": planned, "3d_fullres": planned})


def made_for(
    trainer: str, gpu_memory: float | None, base_width: int | None = None, match: str = ""
) -> dict[str, object]:
    by = {"match": match, "by": "memory"} if match else {}
    return budget(trainer, gpu_memory=gpu_memory, base_width=base_width, **by)


def refusal(root: Path, planning: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What a dry run refuses; nothing where it does not."""
    study = make_study(root, STUDY.replace(" [PlainConvUNetTrainer, CAggNetTrainer]", OWN) + planning)
    code = main(["study", "run", str(study.file), "--dry-run", *options])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) in ((0, 0), (2, 1))
    return error


def test_plans_for_another_budget_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A study that asks for 24 GB had compared networks planned for 2 GB and for 24."""
    write_planned(tmp_path, "CAggNetPlans", made_for("CAggNetTrainer", 2, 4))
    error = refusal(tmp_path, "planning: {gpu_memory: 24}\n", capsys)
    assert f"CAggNetPlans of {HIPPOCAMPUS}: {TWO_GB}, and the study asks for 24 GB; give --replan" in error
    assert not refusal(tmp_path, "planning: {gpu_memory: 2, base_width: 4}\n", capsys)
    # a width that the study does not ask for is the network's own
    assert TWO_GB in refusal(tmp_path, "planning: {gpu_memory: 2}\n", capsys)


def test_without_planning_plans_have_to_be_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_planned(tmp_path, "CAggNetPlans", made_for("CAggNetTrainer", 2, 4))
    # the others would be made for 8 GB
    assert f"{TWO_GB}, and the study asks for 8 GB" in refusal(tmp_path, "", capsys)
    write_planned(tmp_path, "PlainConvUNetPlans", made_for("PlainConvUNetTrainer", 2, 4))
    assert not refusal(tmp_path, "", capsys)


def test_plans_that_do_not_say_for_what_they_were_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_planned(tmp_path, "CAggNetPlans", None)
    assert "does not say for what it was made" in refusal(tmp_path, "planning: {gpu_memory: 8}\n", capsys)


@pytest.mark.parametrize("changed", [{"made": made_for("CAggNetTrainer", 8)}, {"batch_size": 3}])
def test_plans_that_match_what_is_another_now(
    changed: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two, planning = made_for("CAggNetTrainer", 2), "planning: {gpu_memory: 2}\n"
    write_planned(tmp_path, "CAggNetPlans", two)
    write_planned(tmp_path, "VNet_memory_of_CAggNetPlans", made_for("VNetTrainer", 2, match="CAggNetPlans"))
    assert not refusal(tmp_path, planning, capsys)
    write_planned(tmp_path, "CAggNetPlans", **{"made": two, **changed})
    error = refusal(tmp_path, planning.replace("2", f"{changed.get('made', two)['gpu_memory']}"), capsys)
    assert "was made for as much memory as CAggNetPlans, 2 GB, VNetTrainer, and CAggNetPlans is another now" in error


def test_replanning_when_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_planned(tmp_path, "CAggNetPlans", made_for("CAggNetTrainer", 2, 4))
    write_planned(tmp_path, "VNet_memory_of_CAggNetPlans", made_for("VNetTrainer", 2, 4, match="CAggNetPlans"))
    study = make_study(tmp_path, STUDY.replace(" [PlainConvUNetTrainer, CAggNetTrainer]", OWN))
    study.file.write_text(study.text + "planning: {gpu_memory: 24}\n")
    command = ["study", "run", str(study.file), "--dry-run", "--replan"]
    assert main(command) == 0
    plans = [line for line in capsys.readouterr().out.splitlines() if line.startswith("nnunet-archs plan")]
    assert plans == [
        "nnunet-archs plan -d 801 -tr PlainConvUNetTrainer_2epochs --gpu-memory 24",
        "nnunet-archs plan -d 801 -tr CAggNetTrainer_2epochs --gpu-memory 24 --overwrite",
        "nnunet-archs plan -d 801 -tr VNetTrainer_2epochs --match CAggNetPlans --by memory --overwrite",
    ]
    finish(next(job for job in jobs_of(study) if job.network.name == "VNet"))
    assert main(command) == 2
    assert "was trained with the VNet_memory_of_CAggNetPlans that --replan would replace" in capsys.readouterr().err


def test_plans_that_were_moved_from_another_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They go on naming nnU-Net's data, which is of another spacing here."""
    for name, spacing in (("nnUNetPlans", [1.0, 1.0]), ("CAggNetPlans", [2.0, 2.0])):
        planned = {"data_identifier": "nnUNetPlans_2d", "architecture": {}, "spacing": spacing}
        write_plans(tmp_path, name, **{"2d": planned})
    text = STUDY.replace("[2d, 3d_fullres]", "2d").replace(
        "CAggNetTrainer]", "{trainer: VNetTrainer, plans: CAggNetPlans}]"
    )
    study = make_study(tmp_path, text)
    assert main(["study", "run", str(study.file)]) == 2
    error = capsys.readouterr().err
    assert "CAggNetPlans/2d of" in error
    assert "names the data nnUNetPlans_2d, which nnUNetPlans preprocesses otherwise (spacing [1.0, 1.0]" in error
