"""Pretrained weights of timm's models, from files that are there: nothing is downloaded.

They are looked for in the file that the variable NNUNET_ARCHS_ENCODER_WEIGHTS names, or in the folder that it names, as
<model>.safetensors or <model>.pth; without the variable in the caches of Hugging Face and of torch, where timm puts
what it downloads.

What a model was trained on is normalised with the mean of all its images (ImageNet's), and nnU-Net normalises every
image by itself. An image of other channels than a file's three gets that file's first convolution summed or repeated
over the channels, as timm has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, hub

from .backbones import TimmEncoder, extra

VARIABLE = "NNUNET_ARCHS_ENCODER_WEIGHTS"
SUFFIXES = (".safetensors", ".pth")


def find_weights(model: str) -> Path:
    """The file with a model's weights.

    Raises:
        ValueError: if there is none.
    """
    given = os.environ.get(VARIABLE)
    if given:
        named = Path(given)
        files = [named / f"{model}{suffix}" for suffix in SUFFIXES] if named.is_dir() else [named]
        for file in files:
            if file.is_file():
                return file
        wanted = " or ".join(f"{model}{suffix}" for suffix in SUFFIXES)
        raise ValueError(f"{VARIABLE}={given} is neither a file nor a folder with {wanted}; put that there")
    for file in cached(model):
        return file
    raise ValueError(
        f"there are no weights of {model} here, and none are downloaded; set {VARIABLE} to a file of them, or "
        f"have timm download its own once: python -c \"import timm; timm.create_model('{model}', pretrained=True)\""
    )


def cached(model: str) -> Iterator[Path]:
    """The files with a model's weights that timm has downloaded."""
    known = extra("timm").get_pretrained_cfg(model)
    if known is None:
        return
    if known.hf_hub_id:
        for name in ("model.safetensors", "pytorch_model.bin"):
            file = extra("huggingface_hub").try_to_load_from_cache(known.hf_hub_id, name)
            if isinstance(file, str):
                yield Path(file)
    if known.url:
        file = Path(hub.get_dir(), "checkpoints", Path(known.url).name)
        if file.is_file():
            yield file


def load_weights(encoder: TimmEncoder, file: Path) -> None:
    """Give an encoder's model the weights in a file, of the model with or without its classifier.

    Raises:
        ValueError: if the file cannot be read, or lacks some of them.
    """
    models = extra("timm.models")
    try:
        stored: dict[str, Tensor] = models.load_state_dict(str(file), weights_only=True)
        found = {plain_key(key): value for key, value in stored.items()}
    except Exception as error:  # whatever reading a file that holds something else raises
        raise ValueError(f"{file} cannot be read as weights ({str(error).splitlines()[0]}); give another") from error
    own = encoder.body.state_dict()
    for key, value in own.items():
        loaded = found.get(plain_key(key))
        if loaded is None and key.endswith("num_batches_tracked"):
            continue
        if loaded is not None and value.ndim == 4 and loaded.ndim == 4 and loaded.shape[1] == 3 != value.shape[1]:
            loaded = models.adapt_input_conv(value.shape[1], loaded)
        if loaded is None or loaded.shape != value.shape:
            has = "lacks it" if loaded is None else f"has it in the shape {list(loaded.shape)}"
            raise ValueError(
                f"{file} holds no weights of {encoder.model}: {key} has the shape {list(value.shape)}, and the file "
                f"{has}; give another"
            )
        own[key] = loaded
    encoder.body.load_state_dict(own)


def plain_key(key: str) -> str:
    """A parameter's name, the same in a whole model and in one that gives maps: the levels of both are joined."""
    return key.removeprefix("model.").replace(".", "_")
