import argparse
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_archs.demo import data as raw
from nnunet_archs.demo import pipeline
from nnunet_archs.demo.choices import CPU_LENGTH, GPU_LENGTH, check_output, choose_configuration, choose_trainer
from nnunet_archs.demo.phantom import write_phantom
from nnunet_archs.demo.result import format_dice, mean_dice
from nnunet_archs.discovery import SEARCH
from nnunet_archs.nnunet.datasets import label_names
from nnunet_archs.nnunet.device import choose_device
from nnunet_archs.nnunet.steps import Step, StepError, run_step
from nnunet_archs.scripts import demo
from nnunet_archs.scripts.main import main


def parse(*arguments):
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(list(map(str, arguments)))


def make_run(output, **changes):
    values = {"trainer": "VNetSharpTrainer", "configuration": "3d_fullres", "fold": "0", "device": "cpu"}
    return pipeline.Run(output, "Dataset007_Phantom", **{**values, **changes})


def make_step(tmp_path, code, **changes):
    command = [sys.executable, "-c", code]
    return Step("Do it", command, tmp_path / "logs" / "it.log", **{"products": [tmp_path / "product"], **changes})


# --- what is asked for


def test_our_trainer_gets_a_length_unless_it_sets_one(capsys):
    assert choose_trainer("VNetSharpTrainer_noDS", "cpu") == "VNetSharpTrainer_noDS" + CPU_LENGTH
    assert choose_trainer("VNetSharpTrainer", "cuda") == "VNetSharpTrainer" + GPU_LENGTH
    assert CPU_LENGTH in capsys.readouterr().out
    for name in ("VNetSharpTrainer_3epochs", "VNetSharpTrainer_5iterations_noDS", "nnUNetTrainer_5epochs"):
        assert choose_trainer(name, "cpu") == name


@pytest.mark.parametrize("name", ["VNetSharpTrainer_noSuchOption", "NoSuchTrainer"])
def test_bad_trainer_leaves_nothing(tmp_path, name):
    with pytest.raises(ValueError, match=name.split("_")[-1]):
        demo.run(parse("--trainer", name, "--output", tmp_path / "out", "--device", "cpu"))
    assert not (tmp_path / "out").exists()


def test_missing_device():
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ValueError, match=f"-device {missing}: .*; use cpu"):
        choose_device(missing)


def test_bad_data_leaves_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="is empty"):
        demo.run(parse("--data", tmp_path / "data", "--output", tmp_path / "out", "--device", "cpu"))
    assert not (tmp_path / "out").exists()


def test_output_in_the_data_folder(tmp_path):
    with pytest.raises(ValueError, match="only read"):
        check_output(tmp_path / "data" / "out", tmp_path / "data")


def test_images_of_one_plane_have_2d_only():
    assert choose_configuration(None, is_flat=True) == "2d"
    assert choose_configuration(None, is_flat=False) == "3d_fullres"
    with pytest.raises(ValueError, match="use 2d"):
        choose_configuration("3d_fullres", is_flat=True)


# --- the raw data


def test_raw_data_is_made_once_for_each_source(tmp_path, capsys):
    data, output = tmp_path / "Dataset012_My-Images", tmp_path / "out"
    write_phantom(data)
    assert raw.prepare_dataset(None, output, None) == "Dataset001_Phantom"
    assert raw.prepare_dataset(data, output, None) == "Dataset002_My_Images"
    assert raw.prepare_dataset(data, output, None) == "Dataset002_My_Images"
    assert "is there already" in capsys.readouterr().out
    os.utime(data / "dataset.json", (0, 0))
    assert raw.prepare_dataset(data, output, None) == "Dataset003_My_Images"
    assert "has changed" in capsys.readouterr().out
    assert not list((output / "nnUNet_raw").glob(".*"))


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def write_half(folder: Path) -> None:
        (folder / "imagesTr").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(raw, "write_phantom", write_half)
    with pytest.raises(KeyboardInterrupt):
        raw.prepare_dataset(None, tmp_path, None)
    assert not list((tmp_path / "nnUNet_raw").iterdir())


# --- the steps


def test_environment_is_below_the_output_folder(tmp_path, monkeypatch):
    results = pipeline.FOLDERS[2]
    monkeypatch.setenv(results, "/elsewhere")
    monkeypatch.setenv(SEARCH, "/mine")
    environment = pipeline.make_environment(make_run(tmp_path))
    assert environment[results] == str(tmp_path / results)
    assert environment[SEARCH].split(os.pathsep)[1:] == ["/mine"]
    assert os.environ[results] == "/elsewhere"


def test_training_goes_on_from_the_newest_checkpoint(tmp_path):
    run = make_run(tmp_path)
    run.results.mkdir(parents=True)
    assert pipeline.train_step(run).command[-2:] == ["-device", "cpu"]
    (run.results / "checkpoint_best.pth").touch()
    assert pipeline.train_step(run).command[-1] == "--c"
    (run.results / "checkpoint_final.pth").touch()
    assert pipeline.train_step(run).command[-1] == "--val"
    (run.results / "validation").mkdir()
    (run.results / "validation" / "summary.json").touch()
    assert pipeline.train_step(run).is_done()


def test_five_labelled_cases_are_enough(tmp_path, monkeypatch, capsys):
    """None can be held out: what nnU-Net's own validation predicted is shown."""
    write_phantom(tmp_path / "data")
    for part in ("images", "labels"):
        shutil.rmtree(tmp_path / "data" / f"{part}Ts")
        for file in sorted((tmp_path / "data" / f"{part}Tr").iterdir())[5:]:
            file.unlink()
    headings = []

    def run_step(step, environment):
        headings.append(step.heading.split()[0])
        if headings[-1] == "Train":
            fold = step.products[0].parent
            truth = sorted((tmp_path / "out").glob("nnUNet_raw/*/labelsTr/*"))[0]
            (fold / "validation").mkdir(parents=True)
            shutil.copy(truth, fold / "validation")
            case = {"reference_file": str(truth), "metrics": {"1": {"Dice": 0.9}, "2": {"Dice": 0.7}}}
            summary = {"metric_per_case": [case], "mean": {}, "foreground_mean": {"Dice": 0.8}}
            (fold / "validation" / "summary.json").write_text(json.dumps(summary))

    monkeypatch.setattr(pipeline, "run_step", run_step)
    monkeypatch.setattr(pipeline, "write_plans", lambda run: None)
    command = ["demo", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main(command) == 0
    assert headings == ["Plan", "Train"]
    assert "Dice of the cases that nnU-Net validated on (none were held out)" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 2


def test_runs_do_not_share_folders(tmp_path):
    runs = [make_run(tmp_path, **{key: "x"}) for key in ("trainer", "configuration", "fold")]
    runs += [make_run(tmp_path), make_run(tmp_path, device="cuda")]
    (runs[0].raw / "labelsTs").mkdir(parents=True)
    (runs[0].raw / "labelsTs" / "case.nii.gz").touch()
    for path in ("results", "predictions", "name"):
        assert len({getattr(run, path) for run in runs}) == len(runs)


def test_step_runs_until_its_products_are_newer_than_its_inputs(tmp_path, capsys):
    source, product, stamp = tmp_path / "source", tmp_path / "product", tmp_path / "stamp"
    source.touch()
    step = make_step(tmp_path, f"open({str(product)!r}, 'w'); print('hello')", inputs=[source], stamp=stamp)
    assert run_step(step, os.environ) is not None
    assert step.log.read_text() == "hello\n"
    assert run_step(step, os.environ) is None
    assert "already done" in capsys.readouterr().out
    os.utime(source, (stamp.stat().st_mtime + 10,) * 2)
    assert not step.is_done()


@pytest.mark.parametrize("code", ["raise SystemExit('no luck')", "print('no luck')"])
def test_failed_step_says_what_failed_and_where_to_look(tmp_path, code):
    step = make_step(tmp_path, code)
    with pytest.raises(StepError, match="no luck") as error:
        run_step(step, os.environ)
    assert str(step.log) in str(error.value)
    assert not step.is_done()


def test_progress_a_case(tmp_path, capsys, monkeypatch):
    """It had said nothing for as long as it predicted."""
    monkeypatch.setattr("nnunet_archs.nnunet.steps.POLL_SECONDS", 0.05)
    products = [tmp_path / f"{case}{ending}" for case in ("a", "b.1", "c") for ending in (".nii.gz", ".npz")]
    for file in products[:2]:
        file.touch()  # by a run before
    code = "import pathlib, sys; [pathlib.Path(name).touch() for name in sys.argv[1:]]"
    step = make_step(tmp_path, code, products=products)
    run_step(replace(step, command=[*step.command, *map(str, products[2:])]), os.environ)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(",")[0] for line in lines if " of 3: " in line] == ["  2 of 3: b.1", "  3 of 3: c"]


def test_what_writes_no_cases_has_no_progress_of_them(tmp_path):
    run = make_run(tmp_path)
    (run.raw / "labelsTs").mkdir(parents=True)
    assert pipeline.train_step(run).cases() == {}
    assert pipeline.plan_step(run).cases() == {}


# --- the report


def test_dice_table_of_labels_regions_and_nothing():
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    table = format_dice({"a": {(1, 2): 0.5, 2: 1.0}, "b": {(1, 2): 0.25, 2: float("nan")}}, labels)
    assert [line.split() for line in table.splitlines()] == [
        ["case", "whole", "core", "mean"],
        ["a", "0.500", "1.000", "0.750"],
        ["b", "0.250", "-", "0.250"],
    ]
    assert np.isnan(mean_dice({1: float("nan")}))
    assert label_names(labels) == {0: "background", 1: "whole", 2: "core"}


@pytest.mark.slow
def test_demo_end_to_end_and_again(tmp_path, capsys):
    command = ["demo", "--output", str(tmp_path), "--trainer", "VNetSharpTrainer_NoMirroring_1epochs_1iterations"]
    assert main([*command, "--device", "cpu"]) == 0
    assert "mean foreground Dice" in capsys.readouterr().out
    assert len(list(tmp_path.glob("overlays/*.png"))) == 2
    assert len(list(tmp_path.glob("nnUNet_results/*/*/fold_0/progress.png"))) == 1
    summary = json.loads(next(tmp_path.glob("predictions/*/*/*/summary.json")).read_text())
    assert len(summary["metric_per_case"]) == 4
    assert main([*command, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("already done") == 4
