"""The command that plans: what it writes, prints, shares and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.experiment_planning.plans_for_pretraining.move_plans_between_datasets import move_plans_between_datasets
from planning import CT, HIPPOCAMPUS, set_folders, write_datasets

from nnunet_archs.nnunet.plans import BUDGET, budget, check_data, describe_budget
from nnunet_archs.scripts.main import main

SMALL = ["-d", "801", "-tr", "ClassicalUNetTrainer"]
NAME = "ClassicalUNetPlans"
TEN_GB: dict[str, Any] = {"gpu_memory": 10, "base_width": None}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a data set's plans; planning runs in this process."""
    write_datasets(tmp_path)
    set_folders(tmp_path, monkeypatch)
    monkeypatch.setattr("nnunet_archs.plans.making.default_num_processes", 1)
    return tmp_path / "nnUNet_preprocessed" / HIPPOCAMPUS


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def load(folder: Path, name: str) -> dict[str, Any]:
    plans: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return plans


class TestPlans:
    def test_files_and_table(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["plan", *SMALL, "CAggNetTrainer_5epochs", "-c", "2d", "--gpu-memory", "10"]) == 0
        output = capsys.readouterr().out
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in output.splitlines() if "|" in line]
        assert [row[:2] for row in rows[2:]] == [[NAME, "2d"], ["CAggNetPlans", "2d"]]
        for row in rows[2:]:
            cells = dict(zip(rows[0], row, strict=True))
            plan = load(folder, row[0])["configurations"]["2d"]
            assert cells["patch"] == " x ".join(map(str, plan["patch_size"]))
            assert cells["batch"] == str(plan["batch_size"])
            assert cells["of the GPU"] == f"{float(cells['memory, GiB']) / 10:.0%}"
            assert (cells["patch limited by"], cells["batch limited by"]) == ("image", "5% of the data")
            made = budget("ClassicalUNetTrainer" if row[0] == NAME else "CAggNetTrainer_5epochs", **TEN_GB)
            assert plan[BUDGET] == made
        # once: the second shares what the first will preprocess
        assert "  nnUNetv2_preprocess -d 801 -plans_name ClassicalUNetPlans -c 2d\n" in output
        assert output.count("nnUNetv2_preprocess") == 1
        assert "nnUNetv2_train 801 2d 0 -tr CAggNetTrainer_5epochs -p CAggNetPlans" in output
        assert load(folder, "CAggNetPlans")["plans_name"] == "CAggNetPlans"

    def test_forms_of_dataset_json(self, folder: Path, tmp_path: Path) -> None:
        """The same plans with `modality`, without `numTraining`, and with a reader that is null."""
        assert main(["plan", *SMALL, "-c", "2d"]) == 0
        documented = load(folder, NAME)
        file = tmp_path / "nnUNet_raw" / HIPPOCAMPUS / "dataset.json"
        dataset_json = json.loads(file.read_text())
        dataset_json["modality"] = dataset_json.pop("channel_names")
        del dataset_json["numTraining"]
        file.write_text(json.dumps(dataset_json | {"overwrite_image_reader_writer": None}))
        assert main(["plan", *SMALL, "-c", "2d", "--overwrite"]) == 0
        assert load(folder, NAME) == documented

    def test_preprocessed_data_is_shared_where_it_is_the_same(self, folder: Path, capsys: Any) -> None:
        main(["plan", "-d", "801", "-tr", "PlainConvUNetTrainer"])
        (folder / "PlainConvUNetPlans.json").rename(folder / "nnUNetPlans.json")
        stock = load(folder, "nnUNetPlans")
        stock["plans_name"] = "nnUNetPlans"
        for name, planned in stock["configurations"].items():
            planned["data_identifier"] = f"nnUNetPlans_{name}"
        stock["configurations"]["3d_fullres"]["spacing"][0] *= 2
        (folder / "nnUNetPlans.json").write_text(json.dumps(stock))
        (folder / "nnUNetPlans_2d").mkdir()
        for case in range(260):
            (folder / "nnUNetPlans_2d" / f"{case}.pkl").touch()
        before = contents(folder / "nnUNetPlans_2d")
        capsys.readouterr()
        assert main(["plan", *SMALL]) == 0
        made = load(folder, NAME)["configurations"]
        assert made["2d"]["data_identifier"] == "nnUNetPlans_2d"
        assert made["3d_fullres"]["data_identifier"] == f"{NAME}_3d_fullres"
        assert f"nnUNetv2_preprocess -d 801 -plans_name {NAME} -c 3d_fullres\n" in capsys.readouterr().out
        assert contents(folder / "nnUNetPlans_2d") == before

    def test_data_of_another_spacing_is_not_taken_for_its_own(self, folder: Path) -> None:
        main(["plan", *SMALL, "-c", "2d"])
        old = load(folder, NAME)
        identifier = old["configurations"]["2d"]["data_identifier"]
        assert main(["plan", *SMALL, "-c", "2d", "--overwrite"]) == 0
        assert load(folder, NAME)["configurations"]["2d"]["data_identifier"] == identifier
        old["configurations"]["2d"]["spacing"] = [3.0, 3.0]
        (folder / f"{NAME}.json").write_text(json.dumps(old))
        (folder / "broken.json").write_text("{")
        assert main(["plan", *SMALL, "-c", "2d", "--overwrite"]) == 0
        assert load(folder, NAME)["configurations"]["2d"]["data_identifier"] == f"{identifier}_2"

    def test_a_stage_alone_has_no_next_stage(self, folder: Path) -> None:
        main(["plan", *SMALL, "-c", "3d_fullres"])
        plans = load(folder, NAME) | {"plans_name": "CascadePlans"}
        low = plans["configurations"]["3d_fullres"] | {"next_stage": "3d_cascade_fullres"}
        cascade = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        plans["configurations"] |= {"3d_lowres": low, "3d_cascade_fullres": cascade}
        (folder / "CascadePlans.json").write_text(json.dumps(plans))
        command = ["plan", "-d", "801", "-tr", "UNetTrainer", "--match", "CascadePlans"]
        assert main([*command, "-c", "3d_lowres"]) == 0
        assert "next_stage" not in load(folder, "UNet_memory_of_CascadePlans")["configurations"]["3d_lowres"]
        assert main([*command, "-c", "3d_cascade_fullres", "--overwrite"]) == 0
        made = load(folder, "UNet_memory_of_CascadePlans")["configurations"]
        assert made["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
        assert made["3d_cascade_fullres"] == cascade

    def test_overwriting_keeps_other_configurations(self, folder: Path) -> None:
        main(["plan", *SMALL, "-c", "2d"])
        plans = load(folder, NAME)
        plans["configurations"] |= {"2d_small": {"inherits_from": "2d", "batch_size": 3}}
        plans["configurations"]["2d"]["batch_size"] = 1
        (folder / f"{NAME}.json").write_text(json.dumps(plans))
        assert main(["plan", *SMALL, "-c", "2d", "--overwrite"]) == 0
        made = load(folder, NAME)["configurations"]
        assert made["2d"]["batch_size"] > 1
        assert made["2d_small"] == {"inherits_from": "2d", "batch_size": 3}

    def test_matching(self, folder: Path, capsys: Any) -> None:
        main(["plan", *SMALL, "-c", "2d", "--gpu-memory", "10"])
        capsys.readouterr()
        command = ["plan", "-d", "801", "-tr", "CAggNetTrainer", "--match", NAME, "--by", "parameters"]
        assert main(command) == 0
        output = capsys.readouterr().out
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in output.splitlines() if "|" in line]
        cells = dict(zip(rows[0], rows[2], strict=True))
        assert 90 <= int(cells["parameters, of the plans'"].strip("%")) <= 100
        given, made = (load(folder, name) for name in (NAME, f"CAggNet_parameters_of_{NAME}"))
        for key in ("patch_size", "batch_size", "data_identifier"):
            assert made["configurations"]["2d"][key] == given["configurations"]["2d"][key]
        expected = budget("CAggNetTrainer", **TEN_GB, match=NAME, by="parameters")
        assert made["configurations"]["2d"][BUDGET] == expected
        assert describe_budget(expected) == f"as many parameters as {NAME}, 10 GB, CAggNetTrainer"

    def test_plans_that_nnunet_moves_to_another_data_set(self, folder: Path) -> None:
        main(["plan", *SMALL, "-c", "2d"])
        plans = load(folder, NAME)
        plans["configurations"]["2d"]["data_identifier"] = "nnUNetPlans_2d"
        (folder / f"{NAME}.json").write_text(json.dumps(plans))
        there = folder.with_name(CT)
        stock = plans | {"plans_name": "nnUNetPlans", "dataset_name": CT}
        stock["configurations"] = {"2d": plans["configurations"]["2d"] | {"spacing": [0.8, 0.8]}}
        (there / "nnUNetPlans.json").write_text(json.dumps(stock))
        move_plans_between_datasets(801, 802, NAME)
        with pytest.raises(
            ValueError, match=r"names the data nnUNetPlans_2d, which nnUNetPlans preprocesses otherwise"
        ):
            check_data(load(there, NAME), "2d")
        # as the documentation has it
        move_plans_between_datasets(801, 802, NAME, "From801Plans")
        moved = load(there, "From801Plans")
        assert moved["configurations"]["2d"]["data_identifier"] == "From801Plans_nnUNetPlans_2d"
        assert moved["configurations"]["2d"][BUDGET] == plans["configurations"]["2d"][BUDGET]
        check_data(moved, "2d")

    def test_without_processes_that_augment(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As training on a CPU may have it: nnU-Net's planner took as many threads, none."""
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        assert main(["plan", "-d", "801", "-tr", "PlainConvUNetTrainer", "-c", "2d"]) == 0

    def test_several_processes(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nnunet_archs.plans.making.default_num_processes", 2)
        assert main(["plan", *SMALL, "UNetTrainer", "-c", "2d"]) == 0
        assert load(folder, "UNetPlans")["configurations"].keys() == {"2d"}


@pytest.fixture(scope="module")
def other_plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("planned")
    write_datasets(root)
    with pytest.MonkeyPatch.context() as patch:
        set_folders(root, patch)
        assert main(["plan", *SMALL, "-c", "2d"]) == 0
    return load(root / "nnUNet_preprocessed" / HIPPOCAMPUS, NAME) | {"plans_name": "OtherPlans"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-d", "801", "-tr", "NoSuchTrainer"], "NoSuchTrainer: there is no such trainer"),
            (["-d", "801", "-tr", "CAggNetTrainer_L9"], "CAggNetTrainer has no option _L9"),
            (["-d", "899", "-tr", "CAggNetTrainer"], "nnU-Net finds no data set 899"),
            (["-d", "some", "-tr", "CAggNetTrainer"], "nnU-Net finds no data set some"),
            (["-d", "803", "-tr", "CAggNetTrainer"], "has no fingerprint; run nnUNetv2_extract_fingerprint -d 803"),
            ([*SMALL, "--gpu-memory", "0.5"], "--gpu-memory 0.5: ClassicalUNetTrainer takes"),
            ([*SMALL, "--gpu-memory", "-1"], "--gpu-memory -1: give the GB that the GPU has"),
            ([*SMALL, "--base-width", "0"], "--base-width 0: a network needs at least 1 feature"),
            ([*SMALL, "-c", "4d"], "-c='4d': give one of 2d, 3d_fullres"),
            ([*SMALL, "-c", "3d_lowres"], "-c 3d_lowres: Dataset801_Hippocampus has 3d_fullres"),
            ([*SMALL, "ClassicalUNetTrainer_5epochs"], "its plans are those of ClassicalUNetTrainer"),
            ([*SMALL, "--match", "NoPlans"], "--match NoPlans: Dataset801_Hippocampus has OldPlans, OtherPlans"),
            ([*SMALL, "--match", "dataset"], "--match dataset: that file holds no plans"),
            ([*SMALL, "--match", "OldPlans"], "--match OldPlans: an old nnU-Net made it"),
            ([*SMALL, "--gpu-memory", "inf"], "--gpu-memory inf: give the GB that the GPU has"),
            ([*SMALL, "--match", "OtherPlans", "-c", "3d_fullres"], "-c 3d_fullres: Dataset801_Hippocampus has none"),
            ([*SMALL, "--match", "OtherPlans", "--gpu-memory", "8"], "leave out --gpu-memory"),
            ([*SMALL, "--by", "memory"], "give --match PLANS"),
            (["-d", "801", "-tr", "UNetSharpTrainer_pruned1"], "a pruned network is cut out of a trained one"),
            (["-d", "801", "-tr", "UNetSharpTrainer_L3", "-c", "2d"], "level 3 is the whole network of 4 stages"),
            (["-d", "802", "-tr", "UNetTrainer"], "nnU-Net cannot read Dataset802_CT's raw data"),
            (["-d", "801", "-tr", "CrosslinkNetTrainer_3branches", "--match", "OtherPlans"], "needs a third axis"),
            (["-d", "801", "-tr", "UNetTrainer"], "UNetPlans.json exists; give --overwrite to replace it"),
        ],
    )
    def test_one_line_and_nothing_written(
        self,
        folder: Path,
        other_plans: dict[str, Any],
        arguments: list[str],
        message: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (folder / "UNetPlans.json").write_text("{}")
        raw = folder.parents[1] / "nnUNet_raw"
        (raw / "Dataset803_Unprinted").mkdir()
        (raw / "Dataset803_Unprinted" / "dataset.json").write_text("{}")
        for file in (raw / "Dataset802_CT" / "imagesTr").iterdir():
            file.unlink()
        # nnU-Net's planner copies it, whatever comes of the plans
        shutil.copyfile(raw / HIPPOCAMPUS / "dataset.json", folder / "dataset.json")
        (folder / "OtherPlans.json").write_text(json.dumps(other_plans))
        planned = other_plans["configurations"]["2d"]
        without = {key: value for key, value in planned.items() if key != "architecture"}
        old = other_plans | {"plans_name": "OldPlans", "configurations": {"2d": without}}
        (folder / "OldPlans.json").write_text(json.dumps(old))
        capsys.readouterr()
        before = contents(folder)
        assert main(["plan", *arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
        assert output.err.count("\n") == 1
        assert contents(folder) == before

    def test_folders_of_nnunet_that_are_not_set(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.delenv("nnUNet_raw", raising=False)
        assert main(["plan", *SMALL]) == 2
        assert "nnUNet_raw is not set; export nnUNet_raw=FOLDER" in capsys.readouterr().err
