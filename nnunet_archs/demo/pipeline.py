"""The steps of the demo: which of nnU-Net's commands, with which arguments, and what tells that one is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgenerators.utilities.file_and_folder_operations import load_json, save_json

from nnunet_archs.nnunet.commands import for_training, going_on, nnunet_command, variables, without_workers
from nnunet_archs.nnunet.datasets import dataset_id
from nnunet_archs.nnunet.steps import Step, run_step
from nnunet_archs.plans.resize import resize_plans

STOCK_PLANS, SMALL_PLANS = "nnUNetPlans", "nnUNetPlans_small"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


@dataclass(frozen=True)
class Run:
    """What is trained, on what and where: the values that nnU-Net's folder names are made of."""

    output: Path
    dataset: str
    trainer: str
    configuration: str
    fold: str
    device: str

    @property
    def plans(self) -> str:
        """Return the name of the plans: nnU-Net's own on CUDA, for which they were made."""
        return STOCK_PLANS if self.device == "cuda" else SMALL_PLANS

    @property
    def raw(self) -> Path:
        """Return the folder of the raw data set."""
        return self.output / "nnUNet_raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        """Return the folder of the plans and the preprocessed data."""
        return self.output / "nnUNet_preprocessed" / self.dataset

    @property
    def parts(self) -> tuple[str, str, str]:
        """Return data set, model and fold as nnU-Net's folder names below nnUNet_results."""
        model = f"{self.trainer}__{self.plans}__{self.configuration}"
        return self.dataset, model, f"fold_{self.fold}"

    @property
    def results(self) -> Path:
        """Return the folder of the trained fold."""
        return self.output.joinpath("nnUNet_results", *self.parts)

    @property
    def is_held_out(self) -> bool:
        """Return whether there are cases to test on; too few labelled cases are all trained on."""
        return any((self.raw / "labelsTs").iterdir())

    @property
    def predictions(self) -> Path:
        """Return the folder of the predictions of the held-out cases, or where there are none of the fold's own."""
        if not self.is_held_out:
            return self.results / "validation"
        return self.output.joinpath("predictions", *self.parts)

    @property
    def name(self) -> str:
        """Return a name for the run's other files."""
        return "__".join(self.parts)

    @property
    def dataset_id(self) -> str:
        """Return the data set's number, as nnU-Net's commands take it."""
        return dataset_id(self.dataset)

    def log(self, step: str) -> Path:
        """Return the log file of a step."""
        return self.output / "logs" / f"{self.name}__{step}.log"

    def on_cpu(self, *arguments: str) -> tuple[str, ...]:
        """Return the arguments on a CPU, nothing elsewhere."""
        return arguments if self.device == "cpu" else ()


def run_steps(run: Run) -> dict[str, float | None]:
    """Run nnU-Net's commands; return the seconds of each, None where it was done before.

    Raises StepError for a command that fails, ValueError for a configuration that nnU-Net does not plan.
    """
    environment = make_environment(run)
    seconds = {"plan and preprocess": run_step(plan_step(run), environment)}
    write_plans(run)
    seconds["train"] = run_step(train_step(run), {**environment, **for_training(run.device)})
    if run.is_held_out:
        seconds["predict"] = run_step(predict_step(run), environment)
        seconds["evaluate"] = run_step(evaluate_step(run), environment)
    return seconds


def make_environment(run: Run) -> dict[str, str]:
    """Return the environment for nnU-Net's commands: all is below the output folder, whatever is set now."""
    return {**variables(run.device), **{folder: str(run.output / folder) for folder in FOLDERS}}


def plan_step(run: Run) -> Step:
    """Return the step that makes fingerprint, plans and the preprocessed data of one configuration."""
    command = [nnunet_command("nnUNetv2_plan_and_preprocess"), "-d", run.dataset_id, "-c", run.configuration]
    return Step(
        "Plan and preprocess",
        [*command, "--verify_dataset_integrity", *run.on_cpu("-npfp", "1", "-np", "1")],
        run.output / "logs" / f"{run.dataset}__{run.configuration}__plan.log",
        products=[run.preprocessed / f"{STOCK_PLANS}.json"],
        stamp=run.preprocessed / f"{STOCK_PLANS}_{run.configuration}.done",
    )


def write_plans(run: Run) -> None:
    """Write the smaller plans beside nnU-Net's, unless those are used."""
    stock = load_json(str(run.preprocessed / f"{STOCK_PLANS}.json"))
    if run.configuration not in stock["configurations"]:
        planned = ", ".join(stock["configurations"])
        raise ValueError(f"--configuration {run.configuration}: nnU-Net plans none for these images; use {planned}")
    if run.plans == STOCK_PLANS:
        return
    plans = resize_plans(stock, run.plans)
    save_json(plans, str(run.preprocessed / f"{run.plans}.json"), sort_keys=False)
    print(f"  {run.plans}, smaller than nnU-Net's for this device: {_describe(plans, run.configuration)}")


def train_step(run: Run) -> Step:
    """Return the step that trains and validates one fold, from the newest checkpoint that there is."""
    command = [nnunet_command("nnUNetv2_train"), run.dataset_id, run.configuration, run.fold]
    return Step(
        f"Train {run.trainer}, {run.configuration}, fold {run.fold}, on {run.device}",
        [*command, "-tr", run.trainer, "-p", run.plans, "-device", run.device, *going_on(run.results)],
        run.log("train"),
        products=[run.results / "checkpoint_final.pth", run.results / "validation" / "summary.json"],
    )


def predict_step(run: Run) -> Step:
    """Return the step that predicts the held-out cases."""
    model = ["-tr", run.trainer, "-p", run.plans, "-c", run.configuration, "-f", run.fold]
    folders = ["-i", str(run.raw / "imagesTs"), "-o", str(run.predictions)]
    command = [nnunet_command("nnUNetv2_predict"), "-d", run.dataset_id, *folders, *model]
    return Step(
        "Predict the held-out cases",
        [*command, "-device", run.device, *without_workers(run.device)],
        run.log("predict"),
        products=[run.predictions / label.name for label in (run.raw / "labelsTs").iterdir()],
        inputs=[run.results / "checkpoint_final.pth"],
        stamp=run.predictions / "predict.done",
    )


def evaluate_step(run: Run) -> Step:
    """Return the step that compares the predictions with the held-out labels."""
    command = [nnunet_command("nnUNetv2_evaluate_folder"), str(run.raw / "labelsTs"), str(run.predictions)]
    # Prediction leaves a copy of both files beside its results.
    files = ["-djfile", str(run.predictions / "dataset.json"), "-pfile", str(run.predictions / "plans.json")]
    return Step(
        "Evaluate",
        [*command, *files, *run.on_cpu("-np", "1")],
        run.log("evaluate"),
        products=[run.predictions / "summary.json"],
        inputs=[run.predictions / "predict.done"],
    )


def _describe(plans: Mapping[str, dict[str, dict[str, object]]], configuration: str) -> str:
    chosen = plans["configurations"][configuration]
    return f"batch {chosen['batch_size']}, patch {chosen['patch_size']} voxels"
