"""The run that is meant for a GPU, at toy size: its files, how it goes on, what errors and a lack of time do to it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_archs.benchmark.gpu import fusions, hippocampus, memory, run, times
from nnunet_archs.benchmark.gpu.parts import MAIN, Found
from nnunet_archs.benchmark.gpu.worker import Worker
from nnunet_archs.measure.memory import GIB
from nnunet_archs.scripts.main import main
from nnunet_archs.trainers.registry import known

N_BEFORE_THE_CUT = 4
GPU_TEST = """import pytest

@pytest.mark.gpu
def test_what_needs_a_gpu() -> None:
    assert 1 == 2

def test_what_needs_none() -> None:
    raise AssertionError
"""


def entries_in(folder: Path) -> dict[str, dict[str, Found]]:
    entries: dict[str, dict[str, Found]] = json.loads((folder / "gpu.json").read_text())["entries"]
    return {part: found for part, found in entries.items() if found}


def count_measurements(monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> list[Callable[[], Found]]:
    """The calls that workers get; the run is interrupted at one."""
    called: list[Callable[[], Found]] = []
    run_it = Worker.run

    def counted(self: Worker, take: Callable[[], Found], seconds: float) -> Found:
        called.append(take)
        if len(called) == last:
            raise KeyboardInterrupt
        return run_it(self, take, seconds)

    monkeypatch.setattr(Worker, "run", counted)
    return called


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNUNET_ARCHS_DATA", raising=False)
    tests, folder = tmp_path / "tests", tmp_path / "out"
    tests.mkdir()
    (tests / "test_marked.py").write_text(GPU_TEST)
    (tests / "test_unmarked.py").write_text("def test_nothing():\n    assert False\n")
    options = ["-o", str(folder), "-device", "cpu", "--tests", str(tests), "-tr", "UNetSharpTrainer"]
    with monkeypatch.context() as patched:
        count_measurements(patched, last=N_BEFORE_THE_CUT + 2)  # one more asks what machine it is
        assert main(["gpu", *options]) == 130
    cut = entries_in(folder)
    assert sum(map(len, cut.values())) == N_BEFORE_THE_CUT
    assert "Not measured yet: 2 of 4." in (folder / "gpu.md").read_text()
    assert main(["gpu", *options]) == 0
    found = entries_in(folder)
    for part, before in cut.items():
        assert found[part] | before == found[part]
    assert {part: len(of_part) for part, of_part in found.items()} == {
        "memory": 2,  # with _checkpoint
        "times": 4,  # two forms in 2D and 3D
        "fusions": 6,  # x2 at two stages and x4, in 2D and 3D
        "tests": 1,
        "ddp": 1,
    }
    assert not [entry for of_part in found.values() for entry in of_part.values() if "error" in entry]
    page = (folder / "gpu.md").read_text()
    assert "Not measured yet" not in page
    assert "Skipped: its folder is not known: give --data" in page
    (tested,) = found["tests"].values()
    assert tested["result"]["said"].startswith("1 failed, 1 deselected")
    assert "test_marked.py::test_what_needs_a_gpu" in page
    for source in found["fusions"].values():
        assert source["result"]["difference"] < 1e-5
    with monkeypatch.context() as patched:
        called = count_measurements(patched)
        assert main(["gpu", *options]) == 0
    assert len(called) == 1
    assert (folder / "gpu.md").read_text() == page
    assert main(["gpu", *options, "UNetTrainer"]) == 2


def test_a_worker_outlives_what_it_is_given(tmp_path: Path) -> None:
    with Worker(tmp_path / "log") as worker:
        assert worker.run(dict, 60) == {"result": {}}
        assert worker.run(partial(int, "x"), 60) == {"error": "ValueError: invalid literal for int() with base 10: 'x'"}
        assert worker.run(partial(os.remove, "no/such"), 60)["error"].startswith("FileNotFoundError: ")
        assert worker.run(partial(os._exit, 3), 60) == {"error": "its process died, exit code 3"}
        started = time.monotonic()
        assert worker.run(partial(time.sleep, 600), 0.5) == {"error": "not finished in 0 s", "cut": True}
        assert time.monotonic() - started < 300
        assert worker.run(dict, 60) == {"result": {}}
    assert "Traceback" in (tmp_path / "log").read_text()


def test_what_is_cut_off_comes_last_in_the_next_run(tmp_path: Path) -> None:
    part = times.part(["UNetSharpTrainer", "UNetTrainer"], run.TOY, "cuda")
    record = run.open_record(tmp_path, "", {}, {})
    first, second, *others = record.missing(part)
    record.of(part)[first.name] = {"seconds": 1, "error": "not finished in 1 s", "cut": True}
    record.of(part)[second.name] = {"seconds": 1, "error": "out of memory"}
    assert record.missing(part) == [*others, first]


class TestOnAGpu:
    def test_every_trainer_is_measured_those_of_the_papers_first(self, tmp_path: Path) -> None:
        trainers = run.chosen_trainers(None)
        assert tuple(trainers[: len(MAIN)]) == MAIN
        part = memory.part(trainers, run.FULL, "cuda")
        names = [measurement.name for measurement in run.open_record(tmp_path, "", {}, {}).missing(part)]
        assert [name.split(",")[0] for name in names[: len(MAIN)]] == [*MAIN]
        assert {name.split(",")[0] for name in names} >= {*known()}
        assert "UNetSharpTrainer, 3d-nnunet, compiled" in names
        assert "MaskRCNNTrainer, 2d-nnunet" in names

    def test_both_forms_eager_and_compiled(self) -> None:
        part = times.part(["UNetSharpTrainer", "PlainConvUNetTrainer"], run.FULL[:1], "cuda")
        names = [measurement.name for measurement in part.measurements]
        forms = [f"UNetSharpTrainer, {form}, 3d-nnunet" for form in ("textbook", "exact")]
        assert sorted(names) == sorted(
            name + end for name in [*forms, "PlainConvUNetTrainer, 3d-nnunet"] for end in ("", ", compiled")
        )

    def test_more_memory_than_planned_is_said(self) -> None:
        sizes = {"expected": 4 * GIB, "needed": 6 * GIB, "step": 0.1}
        page = memory.describe(
            {
                "A": {**sizes, "measured": 5 * GIB, "taken": 6.5 * GIB},
                "B": {**sizes, "measured": 3 * GIB, "taken": 5 * GIB},
            }
        )
        assert "| A | 4.00 | 5.00 | 1.25 | 6.00 | 6.50 | 0.1 |" in page
        assert "median 1.00, 0.75 to 1.25" in page
        assert "than the planner allows for: A." in page


def test_the_rules_constants_are_fitted() -> None:
    rng = np.random.default_rng(0)
    terms = rng.uniform(1, 100, (40, 5)) * [1e9, 1e8, 1e6, 1e9, 1e6]
    truth = np.array([2e-12, 3e-12, 8e-11, 5e-10])
    fused, upsampled = terms[:, :3] @ truth[:3], terms[:, 3:] @ truth[[0, 3]]
    np.testing.assert_allclose(fusions.fitted(terms, upsampled, fused), truth, rtol=1e-6)
    found: list[dict[str, Any]] = [
        {"terms": list(row), "upsampled": u, "fused": f, "rule": True}
        for row, u, f in zip(terms, upsampled, fused, strict=True)
    ]
    said = fusions.summary(found)
    always = fused.sum() / np.minimum(fused, upsampled).sum()
    assert f"the rule {always:.2f}, always fused {always:.2f}, " in said
    assert "with the fitted constants 1.00" in said
    assert "fitted here: 250, 1.5, 40." in said


DEMO = """
import sys
from pathlib import Path
fold = Path(sys.argv[1], "nnUNet_results", "Dataset001_H", sys.argv[2] + "__nnUNetPlans__3d_fullres", "fold_0")
(fold / "validation").mkdir(parents=True)
(fold / "training_log_1.txt").write_text("Epoch time: 60.0 s\\nEpoch time: 4.0 s\\n")
(fold / "training_log_2.txt").write_text("Epoch time: 6.0 s\\n")
(fold / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 0.875}}')
"""


class TestTrainings:
    def test_dice_and_epochs_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def demo(_: str, *options: str) -> list[str]:
            asked.extend(options)
            return [sys.executable, "-c", DEMO, options[4], options[6]]

        monkeypatch.setattr(hippocampus, "python_command", demo)
        part = hippocampus.part(MAIN, tmp_path, tmp_path / "trainings", "cuda")
        found = {measurement.name: {**measurement.take(), "took": 100.0} for measurement in part.measurements}
        names = [name + "_25epochs_100iterations" for name in hippocampus.TRAINED]
        assert found == {name: {"dice": 0.875, "epoch": 5.0, "epochs": 3, "took": 100.0} for name in names}
        assert asked[:3] == ["demo", "--data", str(tmp_path)]
        assert f"| {names[0]} | 0.8750 | 3 | 5 | 100 |" in part.describe(found)

    def test_one_that_fails_says_why(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fails = "import sys; print('planning'); sys.exit('nnunet-archs: error: there is no image')"
        monkeypatch.setattr(hippocampus, "python_command", lambda *_: [sys.executable, "-c", fails])
        with pytest.raises(ValueError, match=r"^there is no image$"):
            hippocampus.train("UNetTrainer_1epoch", str(tmp_path), str(tmp_path / "out"), "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "--minutes 0: give how long it may take"),
        (["-o", __file__], "is a file: give a folder"),
        (["-tr", "NoSuchTrainer"], "NoSuchTrainer: there is no such trainer"),
    ],
)
def test_refused(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "-device", "cpu", "-o", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
