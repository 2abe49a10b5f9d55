"""Read images with nnU-Net's own readers."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json


def reader_for(dataset_json: Mapping[str, Any], example: Path) -> BaseReaderWriter:
    """Return nnU-Net's reader for a data set. Raises ValueError where none reads the example."""
    try:
        with _silence():
            return determine_reader_writer_from_dataset_json(dict(dataset_json), str(example), verbose=False)()
    except RuntimeError as error:
        raise ValueError(f"{example} cannot be read as an image by nnU-Net: replace it") from error


def read_image(reader: BaseReaderWriter, files: Iterable[Path]) -> tuple[npt.NDArray[np.float32], Sequence[float]]:
    """Return an array (channel, z, y, x) and its spacing in mm. Raises ValueError for files that are no images."""
    names = [str(file) for file in files]
    try:
        with _silence():
            array, properties = reader.read_images(names)
    # Each of nnU-Net's readers, and the libraries below them, raises what it likes.
    except Exception as error:
        raise ValueError(f"{', '.join(names)} cannot be read as an image by nnU-Net: replace it") from error
    return array, properties["spacing"]


@contextmanager
def _silence() -> Iterator[None]:
    """Swallow what nnU-Net's readers print about a file they cannot read: the error says it."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
