"""What inference needs to know beside the weights: the content of model.json."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunet_archs.files import read_json
from nnunet_archs.trainers.base import PaperTrainer

from .trained import TrainedModel
from .weights import INPUT, OUTPUT, fusion_of

# of model.json: raised when an older reader would read it wrongly
FORMAT_VERSION = 1
MODEL_JSON = "model.json"
VERSIONS = ("nnunet-archs", "nnunetv2", "torch", "onnx", "onnxruntime", "safetensors")


def read_facts(folder: Path, *, wrote: str = "nnunet-archs export") -> dict[str, Any]:
    """What the model.json says of a folder that the command `wrote`.

    Raises:
        ValueError: if there is none that this version reads.
    """
    file = folder / MODEL_JSON
    if not file.is_file():
        raise ValueError(f"{folder} has no {MODEL_JSON}; give a folder that {wrote} wrote")
    facts = read_json(file)
    if facts.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{file} has format_version {facts.get('format_version')}, of another version of nnunet-archs, where this "
            f"one reads {FORMAT_VERSION}; export the model again, or install what wrote it: {facts.get('versions')}"
        )
    return facts


def is_as_exported(file: Path, sha256: str) -> bool:
    """Whether a file of weights is there, with the content of which model.json has the hash."""
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def model_facts(model: TrainedModel) -> dict[str, Any]:
    """The facts of a model, as JSON takes them.

    Raises:
        ValueError: if its plans lack one of them.
    """
    try:
        return {
            "format_version": FORMAT_VERSION,
            "dataset": model.plans.dataset_name,
            "plans": model.plans.plans_name,
            "configuration": model.configuration_name,
            "previous_stage": model.configuration.previous_stage_name,
            "trainer": model.trainer.__name__,
            "network": network_facts(model),
            "preprocessing": preprocessing_facts(model),
            "sliding_window": sliding_window_facts(model),
            "output": output_facts(model),
            "versions": versions(),
        }
    except KeyError as error:
        raise ValueError(
            f"{model.source.folder}: its plans.json or dataset.json lacks {error}; it is of another version of "
            "nnU-Net: plan and train with this one, or export with that one"
        ) from error


def network_call(model: TrainedModel) -> tuple[str, dict[str, Any]]:
    """The network's class, as a dotted path, and its arguments, as in plans."""
    if issubclass(model.trainer, PaperTrainer):
        return model.trainer.network_path(), model.trainer.network_arguments(model.configuration)
    return model.configuration.network_arch_class_name, model.configuration.network_arch_init_kwargs


def network_facts(model: TrainedModel) -> dict[str, Any]:
    """The network's class, its arguments, and what goes in and comes out."""
    name, arguments = network_call(model)
    imported = model.configuration.network_arch_init_kwargs_req_import
    batch, channels, *patch = model.input_shape
    heads = model.labels.num_segmentation_heads
    return {
        "class": name,
        "arguments": arguments,
        "imported_arguments": [key for key in imported if key in arguments],
        "input_channels": channels,
        "num_classes": heads,
        "fusion": fusion_of(model.on_meta),
        "input": {"name": INPUT, "shape": [batch, channels, *patch], "type": "float32"},
        "output": {"name": OUTPUT, "shape": [batch, heads, *patch], "type": "float32"},
    }


def preprocessing_facts(model: TrainedModel) -> dict[str, Any]:
    """What is done to an image `(C, z, y, x)`, in the order of the keys."""
    plan, intensities = model.configuration, model.plans.foreground_intensity_properties_per_channel
    channels = model.source.dataset_json["channel_names"].values()
    schemes = zip(channels, plan.normalization_schemes, plan.use_mask_for_norm, strict=True)
    return {
        "reader": model.plans.plans["image_reader_writer"],
        "preprocessor": plan.preprocessor_name,
        "transpose": model.plans.transpose_forward,
        "crop_to_nonzero": True,
        "normalization": [
            {"channel": channel, "scheme": scheme, "inside_nonzero_only": masked, "intensities": intensities[str(i)]}
            for i, (channel, scheme, masked) in enumerate(schemes)
        ],
        "spacing": plan.spacing,
        "resampling": resampling_facts(model, "data"),
    }


def sliding_window_facts(model: TrainedModel) -> dict[str, Any]:
    """How windows are laid, weighted and mirrored, as nnU-Net does by default."""
    return {
        "patch_size": model.configuration.patch_size,
        "step": 0.5,
        "mirroring_axes": model.mirroring_axes,
        "gaussian": {"sigma": 0.125, "peak": 10},
        "accumulated_in": "float16",
    }


def output_facts(model: TrainedModel) -> dict[str, Any]:
    """What is done to the logits, in the order of the keys, and what they mean."""
    dataset_json, labels = model.source.dataset_json, model.labels
    return {
        "resampling": resampling_facts(model, "probabilities"),
        "activation": "sigmoid" if labels.has_regions else "softmax",
        "labels": dataset_json["labels"],
        "regions_class_order": dataset_json["regions_class_order"] if labels.has_regions else None,
        "ignore_label": labels.ignore_label,
        "transpose": model.plans.transpose_backward,
        "file_ending": dataset_json["file_ending"],
    }


def resampling_facts(model: TrainedModel, what: str) -> dict[str, Any]:
    """nnU-Net's function that resamples data or logits, and its arguments."""
    plan = model.configuration.configuration
    return {"function": plan[f"resampling_fn_{what}"], "arguments": plan[f"resampling_fn_{what}_kwargs"]}


def versions() -> dict[str, str]:
    """Versions of the distributions that are installed, of those that matter."""
    return {name: found for name in VERSIONS if (found := version_of(name))}


def version_of(distribution: str) -> str | None:
    """A distribution's version; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
