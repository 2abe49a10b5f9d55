"""Read images with nnU-Net's own readers, once they are known to be whole."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import (
    determine_reader_writer_from_dataset_json,
    recursive_find_reader_writer_by_name,
)

from .datasets import normal_form
from .whole import check_whole

Array: TypeAlias = npt.NDArray[np.float32]

ROUNDING = 1e-6  # of probabilities


def reader_for(dataset_json: Mapping[str, Any], example: Path) -> BaseReaderWriter:
    """Return nnU-Net's reader for a data set. Raises ValueError where none reads the example."""
    try:
        with _silence():
            return determine_reader_writer_from_dataset_json(normal_form(dataset_json), str(example), verbose=False)()
    except RuntimeError as error:
        raise ValueError(f"{example} cannot be read as an image by nnU-Net: replace it") from error


def reader_of(plans: Mapping[str, Any]) -> BaseReaderWriter:
    """The reader that plans name. Raises ValueError where nnU-Net has none of that name."""
    name = plans.get("image_reader_writer")
    try:
        return recursive_find_reader_writer_by_name(str(name))()
    except RuntimeError as error:
        raise ValueError(
            f"plans name the reader {name}, which nnU-Net does not have; put it into nnunetv2.imageio"
        ) from error


def read_image(reader: BaseReaderWriter, files: Iterable[Path]) -> tuple[Array, Sequence[float]]:
    """An array (channel, z, y, x) and its spacing in mm.

    Raises:
        ValueError: for files that are not images, not whole, or not on one grid.
    """
    first, *others = files
    image, spacing = _read(reader.read_images, first, [str(first)])
    channels = [image]
    for file in others:
        more, theirs = _read(reader.read_images, file, [str(file)])
        if more.shape != image.shape or not np.allclose(spacing, theirs):
            raise ValueError(f"{file} and {first.name} differ in size or spacing; resample one to the other")
        channels.append(more)
    return np.concatenate(channels), spacing


def read_labels(reader: BaseReaderWriter, file: Path) -> tuple[Array, Sequence[float]]:
    """A label map (z, y, x) and its spacing in mm.

    Raises:
        ValueError: for a file that is not an image, or not whole.
    """
    labels, spacing = _read(reader.read_seg, file, str(file))
    return labels[0], spacing


def read_foreground(file: Path, labels: npt.NDArray[Any]) -> Array | None:
    """The probability (z, y, x) that a voxel is no background, saved beside a predicted label map; None without one.

    nnU-Net saves it with `--save_probabilities`, or `--npz` in training.

    Raises:
        ValueError: for a file that is not whole, or not of these labels (z, y, x).
    """
    try:
        with np.load(file) as archive:
            probabilities = archive["probabilities"]
    except FileNotFoundError:
        return None
    # what is no such archive, or half of one, raises what it likes
    except Exception as error:
        raise ValueError(f"{file} cannot be read as nnU-Net's probabilities: predict anew, or move it away") from error
    if probabilities.shape[1:] == labels.shape and labels.max(initial=0) < len(probabilities):
        chosen = np.take_along_axis(probabilities, labels[None].astype(np.intp), axis=0)[0]
        if (chosen >= probabilities.max(axis=0) - ROUNDING).all():
            return 1 - probabilities[0]
    raise ValueError(f"{file} holds the probabilities of other labels than those beside it: move it away")


def _read(read: Callable[[Any], Any], file: Path, what: Any) -> tuple[Array, Sequence[float]]:
    check_whole(file)
    try:
        with _silence():
            array, properties = read(what)
    # Each of nnU-Net's readers, and the libraries below them, raises what it likes.
    except Exception as error:
        raise ValueError(f"{file} cannot be read as an image by nnU-Net: replace it") from error
    return array, properties["spacing"]


@contextmanager
def _silence() -> Iterator[None]:
    """Swallow what nnU-Net's readers print about a file they cannot read: the error says it."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
