"""The benchmark: its counts against counts by hand, its rounds, its file, its tables, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import make_plans
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from torch import nn

from nnunet_archs.benchmark import run as benchmark
from nnunet_archs.benchmark.workloads import TOPOLOGIES, from_plans
from nnunet_archs.measure import counts
from nnunet_archs.measure import time as measures
from nnunet_archs.measure.memory import kept_for_backward, training_memory
from nnunet_archs.measure.time import Execution, Sample, mean_squares
from nnunet_archs.networks import UNetSharp
from nnunet_archs.networks.parts.fusion import FusionConv
from nnunet_archs.scripts.main import main
from nnunet_archs.trainers.registry import known

N_ROWS = 6  # of two networks in two forms, and nnU-Net's own


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """A plans file of two channels, in a folder of its own."""
    content = make_plans(2)
    content["configurations"]["tiny"]["normalization_schemes"] *= 2
    file = tmp_path / "plans" / "nnUNetPlans.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    return file


def arguments(
    plans: Path, file: Path | None = None, *more: str, networks: Sequence[str] = ("UNetSharp", "UNet")
) -> list[str]:
    options = ["--plans", str(plans), "--configuration", "tiny", "--forms", "textbook", "exact", "--device", "cpu"]
    return ["benchmark", *networks, *options, *(["--json", str(file)] if file else []), *more]


def rows_in(file: Path) -> dict[tuple[str, str], dict[str, Any]]:
    (rows,) = json.loads(file.read_text())["rows"].values()
    return {(row["network"], row["form"]): row for row in rows}


def tables_in(page: str) -> list[list[dict[str, str]]]:
    """The tables of a page, a row as its cells by the columns' names."""
    tables: list[list[list[str]]] = []
    previous = ""
    for line in page.splitlines():
        if line.startswith("|"):
            tables += [] if previous.startswith("|") else [[]]
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        previous = line
    return [[dict(zip(header, row, strict=True)) for row in rows] for header, _, *rows in tables]


def fake_samples(monkeypatch: pytest.MonkeyPatch, step: Callable[[str, int], float]) -> list[str]:
    """Take steps' times from a function of the network and the number of its call; returns the networks called."""
    called: list[str] = []

    def sample(build: Callable[[], nn.Module], shape: Sequence[int], execution: Execution) -> Sample:
        name = type(build()).__name__
        called.append(name)
        seconds = step(name, called.count(name) - 1)
        return Sample(seconds, seconds / 4, None)

    monkeypatch.setattr(benchmark, "sample", sample)
    return called


class TestNumbers:
    def test_counts_and_samples(self, plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "benchmark.json"
        command = arguments(plans, file, "--repeats", "2", "--threads", "1")
        assert main(command) == 0
        rows = rows_in(file)
        forms = [(network, form) for network in ("UNetSharp", "UNet") for form in ("textbook", "exact")]
        assert list(rows) == [("PlainConvUNet", ""), ("ResidualEncoderUNet", ""), *forms]
        workload = from_plans(plans, "tiny")
        assert workload.shape == (2, 2, 32, 24)
        for (name, form), row in rows.items():
            with torch.device("meta"):
                network = benchmark.build(workload, name, form)
            counts = row["counts"]
            assert counts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
            assert counts["kept_bytes"] == kept_for_backward(network, workload.shape)
            assert row["expected_peak"] == training_memory(network, workload.shape, mean_squares, half=True).peak
            assert len(row["samples"]) == 2
            assert all(sample[what] > 0 for sample in row["samples"] for what in ("step", "inference"))
            assert all(sample["peak"] is None for sample in row["samples"])
        page = capsys.readouterr().out
        assert f"`nnunet-archs {' '.join(command)}`" in page
        versions = f"nnunet-archs {version('nnunet-archs')}, torch {torch.__version__}"
        assert f"CPU threads 1, float32, {versions}, Python 3." in page
        assert "Patch 32 x 24, batch 2, input channels 2, classes 2; 3 stages of 4, 8, 8 features." in page
        self.check_tables(page, rows)

    def check_tables(self, page: str, rows: dict[tuple[str, str], dict[str, Any]]) -> None:
        everything, forms, reference = tables_in(page)
        assert [(row["network"], row["form"]) for row in everything] == list(rows)
        for line, row in zip(everything, rows.values(), strict=True):
            assert line["parameters"] == f"{row['counts']['parameters']:,}"
            steps = [sample["step"] for sample in row["samples"]]
            assert line["step, s"] == f"{median(steps):.4g} ({min(steps):.4g} to {max(steps):.4g})"
            assert "peak, GiB" not in line
        for line in forms:
            textbook, exact = (rows[line["network"], form]["counts"] for form in ("textbook", "exact"))
            assert line["kept"] == f"{textbook['kept_bytes'] / exact['kept_bytes']:.2f}"
            assert line["counted"] == f"{textbook['multiply_adds'] / exact['multiply_adds']:.2f}"
            times = [
                median(s["inference"] for s in rows[line["network"], form]["samples"]) for form in ("textbook", "exact")
            ]
            assert line["inference"] == f"{times[0] / times[1]:.2f}"
        plain = rows["PlainConvUNet", ""]["counts"]["kept_bytes"]
        for line in reference:
            quantities = ("kept", "expected peak", "step", "inference a multiply-add")
            assert list(line) == [
                "network",
                *(f"{name}, {form}" for name in quantities for form in ("textbook", "exact")),
            ]
            kept = rows[line["network"], "exact"]["counts"]["kept_bytes"]
            assert line["kept, exact"] == f"{kept / plain:.2f}"

    def test_multiply_adds_are_those_of_the_convolutions(self, plans: Path, tmp_path: Path) -> None:
        file = tmp_path / "benchmark.json"
        assert main(arguments(plans, file, "--repeats", "0", networks=["UNet"])) == 0
        counted: list[int] = []

        def count(conv: nn.Conv2d, _: Any, y: torch.Tensor) -> None:
            counted.append(y.numel() * conv.weight[0].numel())

        workload = from_plans(plans, "tiny")
        network = benchmark.build(workload, "UNet", "textbook")
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        network(torch.zeros(workload.shape))
        # stages of 4, 8 and 8 features, two convolutions each, two decoder stages of two, and the head
        assert len(counted) == 2 * 3 + 2 * 2 + 1
        assert counted[0] == 2 * (32 * 24) * (2 * 4 * 9)
        row = rows_in(file)["UNet", "textbook"]
        assert row["counts"]["multiply_adds"] == row["counts"]["needed"] == sum(counted)
        assert row["samples"] == []

    def test_what_falls_on_zeros_is_not_needed(
        self, plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def idle(self: FusionConv, sources: Sequence[torch.Tensor], size: Sequence[int] | None = None) -> int:
            return 10 * sources[0].shape[0] + len(sources)

        monkeypatch.setattr(FusionConv, "idle_multiply_adds", idle, raising=False)
        file = tmp_path / "benchmark.json"
        assert main(arguments(plans, file, "--repeats", "0")) == 0
        rows = rows_in(file)
        # UNet# has nodes of 2, 2 and 4 sources in the batch of 2, U-Net two of 2
        expected = {("UNetSharp", "exact"): 3 * 20 + 8, ("UNet", "exact"): 2 * 20 + 4}
        for name, row in rows.items():
            assert row["counts"]["multiply_adds"] - row["counts"]["needed"] == expected.get(name, 0)

    def test_checkpoint_beside_exact(self, plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = arguments(plans, None, "--repeats", "0", "--forms", "exact", "checkpoint", networks=["UNetSharp"])
        assert main(command) == 0
        page = capsys.readouterr().out
        everything, forms, _ = tables_in(page)
        assert [row["form"] for row in everything] == ["", "", "exact", "checkpoint"]
        assert "Checkpoint / exact:" in page
        assert forms[0]["needed multiply-adds"] == forms[0]["counted"] == "1.00"
        assert float(forms[0]["kept"]) < 0.8

    @pytest.mark.parametrize(("topology", "expected"), [("2d-paper", 2.71), ("3d-paper", 3.53)])
    def test_needed_multiply_adds_at_the_papers_widths(
        self, topology: str, expected: float, capsys: pytest.CaptureFixture[str]
    ) -> None:
        # each value that is interpolated counts as two multiply-adds
        assert (
            main(["benchmark", "UNetSharp", "--topology", topology, "--repeats", "0", "--forms", "textbook", "exact"])
            == 0
        )
        _, forms, _ = tables_in(capsys.readouterr().out)
        assert float(forms[0]["needed multiply-adds"]) == pytest.approx(expected, abs=0.011)

    def test_every_network_is_measured_by_default(
        self, plans: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # each is built, as above; counting all of them would take half a minute
        monkeypatch.setattr(benchmark, "count", lambda *_, **__: counts.Counts(1, 1, 1, 1))
        monkeypatch.setattr(benchmark, "training_memory", lambda *_, **__: SimpleNamespace(peak=1))
        assert main(arguments(plans, None, "--repeats", "0", "--forms", "exact", networks=[])) == 0
        printed = capsys.readouterr()
        everything, *_ = tables_in(printed.out)
        named = {row["network"] for row in everything}
        assert {"PlainConvUNet", "ResidualEncoderUNet", "UNetSharp", "CAggNet", "FocusNetPlusPlus"} <= named
        assert len(everything) == len(named)
        # those whose own strides do not divide the patch are left out, and said
        left_out = {"SwinUNETR", "UNETR", "MedNeXt", "DeepLabV3Plus", "TransUNet", "InfNet"}
        left_out |= {f"MaskRCNN{form}" for form in ("", "PlusPlus", "3Plus", "Sharp")}
        assert {name.removesuffix("Trainer") for name in known()} - named == left_out
        assert all(f"{name} is left out: " in printed.err for name in left_out)

    def test_networks_have_their_papers_supervision(self, plans: Path) -> None:
        workload = from_plans(plans, "tiny")
        network = benchmark.build(workload, "UNetSharp", "exact")
        assert len(network(torch.zeros(workload.shape))) == len(UNetSharp.paper_branches(2)) == 4
        # the output, and the attention of both branches
        network = benchmark.build(workload, "CrosslinkNet", "exact")
        assert len(network(torch.zeros(workload.shape))) == 3

    def test_a_step_trains_and_inference_does_not(self, plans: Path) -> None:
        seen: list[tuple[bool, bool, type]] = []
        workload = from_plans(plans, "tiny")
        networks: list[nn.Module] = []

        def build() -> nn.Module:
            network = benchmark.build(workload, "UNetSharp", "exact")
            network.register_forward_hook(
                lambda net, _, y: seen.append((net.training, torch.is_grad_enabled(), type(y)))
            )
            networks.append(network)
            return network

        torch.manual_seed(0)
        before = {
            key: value.clone() for key, value in benchmark.build(workload, "UNetSharp", "exact").state_dict().items()
        }
        torch.manual_seed(0)
        measures.sample(build, workload.shape, Execution(torch.device("cpu"), None, False))
        assert seen == [(True, True, list), (False, False, torch.Tensor)]
        after = networks[0].state_dict()
        assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("conv.weight"))

    def test_mixed_precision(self, plans: Path) -> None:
        types: list[torch.dtype] = []

        def build() -> nn.Module:
            network = benchmark.build(from_plans(plans, "tiny"), "UNet", "exact")
            network.encoder.register_forward_hook(lambda net, _, y: types.append(y[0].dtype))
            return network

        measures.sample(build, (2, 2, 32, 24), Execution(torch.device("cpu"), torch.bfloat16, False))
        assert types == [torch.bfloat16] * 2


class TestTopologies:
    @pytest.mark.parametrize("name", TOPOLOGIES)
    def test_the_patch_fits(self, name: str) -> None:
        workload = TOPOLOGIES[name]
        strides = workload.topology.total_stride
        assert not any(np.remainder(workload.patch_size, strides))
        assert math.prod(workload.patch_size) > math.prod(strides)

    @pytest.mark.parametrize(
        ("name", "spacing"), [("3d-anisotropic", (3.6, 0.625, 0.625)), ("3d-nnunet", (1, 1, 1)), ("2d-nnunet", (1, 1))]
    )
    def test_nnunets_are_what_its_rules_give(self, name: str, spacing: Sequence[float]) -> None:
        workload = TOPOLOGIES[name]
        _, strides, kernels, patch, _ = get_pool_and_conv_props(spacing, workload.patch_size, 4, 999)
        # of the eighth stage that 512 x 512 has, nnU-Net's seven here are the first
        n_stages = workload.topology.n_stages
        assert tuple(map(tuple, strides[:n_stages])) == workload.topology.strides
        assert tuple(map(tuple, kernels[:n_stages])) == workload.topology.kernel_sizes
        assert tuple(patch) == workload.patch_size

    def test_plain_conv_unet_has_nnunets_size(self) -> None:
        with torch.device("meta"):
            network = benchmark.build(TOPOLOGIES["3d-nnunet"], "PlainConvUNet", "")
        assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 1) == 31.2


class TestRounds:
    def test_rows_take_turns_and_the_first_round_does_not_count(
        self, plans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        called = fake_samples(monkeypatch, lambda name, call: [100, 3, 1, 8][call] * (2 if name == "UNet" else 1))
        options = ["--forms", "exact", "--repeats", "3"]
        assert main([*arguments(plans), *options]) == 0
        assert called == ["PlainConvUNet", "ResidualEncoderUNet", "UNetSharp", "UNet"] * 4
        everything, reference = tables_in(capsys.readouterr().out)
        assert [row["step, s"] for row in everything] == ["3 (1 to 8)"] * 3 + ["6 (2 to 16)"]
        assert everything[0]["inference, s"] == "0.75 (0.25 to 2)"
        assert [row["step, exact"] for row in reference] == ["1.00", "2.00"]

    def test_a_stopped_run_goes_on(
        self, plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "benchmark.json"
        command = arguments(plans, file, "--repeats", "3")

        def stop_in_the_third_round(name: str, call: int) -> float:
            if name == "UNet" and call == 4:
                raise KeyboardInterrupt
            return call

        fake_samples(monkeypatch, stop_in_the_third_round)
        assert main(command) == 130
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name]
        stopped = rows_in(file)
        assert [len(row["samples"]) for row in stopped.values()] == [1] * N_ROWS
        called = fake_samples(monkeypatch, lambda name, call: 50.0)
        capsys.readouterr()
        assert main(command) == 0
        # a round to warm up, and the two that are missing
        assert len(called) == 3 * N_ROWS
        page = capsys.readouterr().out
        for name, row in rows_in(file).items():
            assert row["counts"] == stopped[name]["counts"]
            assert row["samples"][:1] == stopped[name]["samples"]
            assert [sample["step"] for sample in row["samples"][1:]] == [50.0] * 2
        called.clear()
        assert main(command) == 0
        assert (called, capsys.readouterr().out) == ([], page)

    def test_what_does_not_fit_is_left_out(
        self, plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "benchmark.json"

        def step(name: str, call: int) -> float:
            if name == "UNetSharp":
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return 2.0

        called = fake_samples(monkeypatch, step)
        command = arguments(plans, file, "--repeats", "2")
        assert main(command) == 0
        assert called.count("UNetSharp") == 2
        assert called.count("UNet") == 6
        everything, forms, reference = tables_in(capsys.readouterr().out)
        found = {(row["network"], row["form"]): row["step, s"] for row in everything}
        assert found["UNetSharp", "textbook"] == found["UNetSharp", "exact"] == "out of memory"
        assert found["UNet", "exact"] == "2 (2 to 2)"
        assert [row["step"] for row in forms] == ["-", "1.00"]
        assert float(forms[0]["kept"]) > 1
        assert [row["step, exact"] for row in reference] == ["-", "1.00"]
        called.clear()
        assert main(command) == 0
        assert called == []

    def test_every_row_is_compiled_once(
        self, plans: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        graphs: list[object] = []

        def backend(graph: Callable[..., object], _: object) -> Callable[..., object]:
            graphs.append(graph)
            return graph

        def compile_(self: nn.Module, **options: Any) -> None:
            self._compiled_call_impl = torch.compile(self._call_impl, backend=backend, **options)

        monkeypatch.setattr(nn.Module, "compile", compile_)
        monkeypatch.setattr(counts, "kept_compiled", lambda *_: 3 * 2**30)
        networks = ["UNet", "UNetPlusPlus", "ClassicalUNet"]
        assert main(arguments(plans, None, "--forms", "exact", "--repeats", "2", "--compile", networks=networks)) == 0
        # more than torch's limit of 8; training and inference
        assert len(graphs) == 2 * (2 + len(networks))
        everything, *_ = tables_in(capsys.readouterr().out)
        for row in everything:
            assert row["kept compiled, GiB"] == "3.000"
            assert float(row["compiled / eager"]) > 0
            assert float(row["eager, s"].split()[0]) > 0


class TestRefusals:
    def refused(self, command: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
        assert main(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        return err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["UNetFlat"], "UNetFlatTrainer: there is no such trainer; did you mean UNet"),
            (["Topology"], "TopologyTrainer: there is no such trainer"),
            (["UNet", "--topology", "4d"], "--topology='4d': give one of 2d-paper, 3d-paper, 2d-nnunet, "),
            (["UNet", "--forms", "exact", "fast"], "--forms='fast': give one of textbook, exact, checkpoint"),
            (["UNet", "--repeats", "-1"], "--repeats -1: give the number"),
            (["UNet", "--threads", "0"], "--threads 0: give 1 or more"),
            (["UNet", "--device", "cpu", "--amp", "fp16"], "--amp fp16 is for CUDA"),
            (["UNet", "--graph", "--compile"], "--graph is timed on the CPU, in float32"),
            (["UNet", "--plans", "plans.json"], "--plans and -c go together"),
            (["UNet", "--configuration", "2d"], "--plans and -c go together"),
            (["UNet", "--json", "no/such/folder/file.json"], "--json no/such/folder/file.json cannot be written"),
        ],
    )
    def test_arguments(
        self,
        options: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        default = [] if "--json" in options else ["--json", "file.json"]
        assert message in self.refused(["benchmark", *options, *default], capsys)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_cuda_where_there_is_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        error = self.refused(["benchmark", "UNet", "--device", "cuda"], capsys)
        assert "-device cuda: torch finds none on this machine; use cpu" in error

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "cannot be read"),
            ("not JSON", "cannot be read"),
            ("[1, 2]", "holds no JSON object"),
            ('{"labels": {}}', "is not a plans file"),
            ('{"configurations": {"tiny": {"patch_size": 3}}}', "is not a plans file"),
        ],
    )
    def test_a_file_that_is_no_plans_file(
        self, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plans = tmp_path / "plans.json"
        if content is not None:
            plans.write_text(content)
        error = self.refused(arguments(plans, tmp_path / "benchmark.json"), capsys)
        assert str(plans) in error
        assert message in error
        assert not (tmp_path / "benchmark.json").exists()

    def test_plans_that_cannot_be_built(self, plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
        content = json.loads(plans.read_text())
        content["configurations"]["tiny"]["patch_size"] = [30, 24]
        plans.write_text(json.dumps(content))
        assert "axis 0 is not divisible by 4" in self.refused(arguments(plans), capsys)

    def test_a_configuration_that_the_plans_have_not(self, plans: Path, capsys: pytest.CaptureFixture[str]) -> None:
        error = self.refused([*arguments(plans), "--configuration", "3d_fullres"], capsys)
        assert "-c='3d_fullres': give one of tiny" in error

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": {"a": [{}]}}', '{"configurations": {}}'])
    def test_another_kind_of_file_is_not_overwritten(
        self, content: str, plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "other.json"
        file.write_text(content)
        assert f"--json {file} is not a file of this command's" in self.refused(arguments(plans, file), capsys)
        assert file.read_text() == content

    def test_a_file_of_other_settings_is_not_overwritten(
        self, plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "benchmark.json"
        assert main(arguments(plans, file, "--repeats", "0", networks=["UNet"])) == 0
        capsys.readouterr()
        written = file.read_text()
        command = arguments(plans, file, "--repeats", "1", "--amp", "bf16", networks=["UNet"])
        assert "measured with another value of repeats, amp; give another file" in self.refused(command, capsys)
        again = arguments(plans, file, "--repeats", "0", networks=["UNet"])
        for where, key, value in (("settings", "forms", ["exact"]), ("environment", "torch", "1.0")):
            other = json.loads(written)
            other[where][key] = value
            file.write_text(json.dumps(other))
            assert f"another value of {key}; give another file" in self.refused(again, capsys)
        content = json.loads(plans.read_text())
        content["configurations"]["tiny"]["batch_size"] = 3
        plans.write_text(json.dumps(content))
        file.write_text(written)
        assert "another value of workloads; give another file" in self.refused(again, capsys)
        assert file.read_text() == written


def test_graphs_are_exported_and_run(plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "benchmark.json"
    options = ["--plans", str(plans), "--configuration", "tiny", "--forms", "exact", "--json", str(file)]
    command = ["benchmark", "UNet", *options, "--graph", "--threads", "1", "--repeats", "1"]
    assert main(command) == 0
    everything, reference = tables_in(capsys.readouterr().out)
    for line, row in zip(everything, rows_in(file).values(), strict=True):
        (sample,) = row["samples"]
        assert sample["export"] > 0 < sample["inference"]
        assert 0 < sample["difference"] < 1e-4
        # weights at the least
        assert sample["memory"] > 4 * row["counts"]["parameters"]
        assert line["memory, GiB"].startswith(f"{sample['memory'] / 2**30:.4g} (")
    assert list(reference[0]) == [
        "network",
        *(f"{what}, exact" for what in ("kept", "expected peak", "export", "memory", "inference a multiply-add")),
    ]
    needed = {name: row["counts"]["needed"] for (name, _), row in rows_in(file).items()}
    seconds = {name: row["samples"][0]["inference"] for (name, _), row in rows_in(file).items()}
    rate = seconds["UNet"] / needed["UNet"] / (seconds["PlainConvUNet"] / needed["PlainConvUNet"])
    assert reference[0]["inference a multiply-add, exact"] == f"{rate:.2f}"
    # what is there is not measured again
    assert main(command) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_peak_of_memory_on_a_gpu(plans: Path, tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    command = arguments(plans, file, "--repeats", "1", "--amp", "bf16", "--device", "cuda", networks=["UNet"])
    assert main(command) == 0
    for row in rows_in(file).values():
        # weights and their gradients, in float32
        assert row["samples"][0]["peak"] > 8 * row["counts"]["parameters"]
