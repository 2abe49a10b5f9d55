"""The model card of an exported folder: README.md, with the metadata that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment

from .trained import TrainedFolder

FILE = "README.md"
TEMPLATE = "model-card.md"
MEAN = "mean"
LIBRARY = "nnunet-archs"

Scores = dict[str, dict[str, float]]  # the Dice of each fold's validation by label, and their mean


def model_card(source: TrainedFolder, facts: dict[str, Any]) -> str:
    """The card of a model of which model.json says these facts."""
    scores = {fold: fold_scores(source, fold) for fold in facts["weights"]["folds"]}
    scores = {fold: dice for fold, dice in scores.items() if dice}
    labels = list(dict.fromkeys(label for dice in scores.values() for label in dice))
    jinja = Environment(keep_trailing_newline=True, trim_blocks=True, autoescape=False)
    template = jinja.from_string(Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8"))
    channels = [how["channel"] for how in facts["preprocessing"]["normalization"]]
    values = {"facts": facts, "channels": channels, "scores": scores, "labels": labels}
    return template.render(values, metadata=metadata(facts, scores, labels).to_yaml())


def fold_scores(source: TrainedFolder, fold: str) -> dict[str, float]:
    """A fold's Dice by label, and their mean; empty where it was not validated."""
    means = source.validation(fold).get("mean", {})
    # as nnU-Net names its results: the label, or the tuple of a region's labels
    labels = source.dataset_json["labels"].items()
    names = {str(tuple(value) if isinstance(value, list) else value): name for name, value in labels}
    dice = {name: float(means[key]["Dice"]) for key, name in names.items() if key in means}
    mean = source.validation_dice(fold)
    return {name: value for name, value in {MEAN: mean, **dice}.items() if value is not None and isfinite(value)}


def metadata(facts: dict[str, Any], scores: Scores, labels: Sequence[str]) -> ModelCardData:
    """What the Hub reads; the licence is for whoever publishes the model to state."""
    dataset, configuration = facts["dataset"], facts["configuration"]
    name = f"{facts['trainer']} on {dataset}, {configuration}"
    folds = f"mean of {len(scores)} fold{'s' * (len(scores) > 1)}"
    results = [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=dataset,
            dataset_name=f"{dataset} (cross-validation)",
            metric_type="dice",
            metric_name=f"Dice, {label}, {folds}",
            metric_value=round(fmean(dice[label] for dice in scores.values() if label in dice), 4),
        )
        for label in labels
    ]
    n_axes = len(facts["sliding_window"]["patch_size"])
    return ModelCardData(
        library_name=LIBRARY,
        license="other",
        license_name="not-stated",
        pipeline_tag="image-segmentation",
        tags=["nnunet", "nnunetv2", "medical-imaging", f"{n_axes}d", facts["weights"]["format"]],
        model_name=name if results else None,
        eval_results=results or None,
        metrics=["dice"] if results else None,
    )
