"""Whether a file is whole. Readers fill up what is missing with zeros, or leave pages out, and say nothing."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Callable
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile

import nibabel
import SimpleITK
import tifffile
from PIL import Image

CHUNK = 2**20  # bytes
GIPL_HEADER = 256  # bytes
PNG_END = b"IEND\xaeB`\x82"  # with its checksum


def check_whole(file: Path) -> None:
    """Check what the readers of a file's format do not; they notice the rest when they read it.

    Raises:
        ValueError: if a part of it is missing, or is not what was written.
    """
    check = next((check for endings, check in CHECKS.items() if file.name.lower().endswith(endings)), None)
    if check is None:
        return
    try:
        check(file)
    # Each of the libraries raises what it likes.
    except Exception as error:
        raise ValueError(f"{file} cannot be read to its end ({error}); replace it") from error


def check_gzipped_nifti(file: Path) -> None:
    """The whole stream is there, its checksum is right, and it holds all voxels."""
    with file.open("rb") as stream:
        check_length(unzipped_bytes(stream), nifti_bytes(file))


def check_nifti(file: Path) -> None:
    """It holds all voxels."""
    check_length(file.stat().st_size, nifti_bytes(file))


def check_nrrd(file: Path) -> None:
    """Where it is compressed, the whole stream is there, and its checksum is right."""
    with file.open("rb") as stream:
        header = list(takewhile(bytes.strip, iter(stream.readline, b"")))
        if any(re.fullmatch(rb"encoding: (gzip|gz)", line.strip()) for line in header):
            unzipped_bytes(stream)


def check_gipl(file: Path) -> None:
    """It holds all voxels."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    voxel = SimpleITK.Image([1] * reader.GetDimension(), reader.GetPixelID())
    check_length(file.stat().st_size, GIPL_HEADER + prod(reader.GetSize()) * voxel.GetSizeOfPixelComponent())


def check_png(file: Path) -> None:
    """All chunks are there, and their checksums are right."""
    with Image.open(file) as image:
        image.verify()
    if PNG_END not in file.read_bytes():
        raise EOFError("its last chunk is missing")


def check_bmp(file: Path) -> None:
    """It has the bytes that its header counts."""
    with file.open("rb") as stream:
        _, counted = struct.unpack("<2sI", stream.read(6))
    check_length(file.stat().st_size, counted)


def check_tiff(file: Path) -> None:
    """The chain of pages ends, and all their data is there."""
    with tifffile.TiffFile(file) as tiff:
        for page in tiff.pages:
            segments = page.aspage()
            ends = map(sum, zip(segments.dataoffsets, segments.databytecounts, strict=True))
            check_length(tiff.filehandle.size, max(ends, default=0))
        tiff.filehandle.seek(tiff.pages.next_page_offset or 0)
        (following,) = struct.unpack(tiff.tiff.offsetformat, tiff.filehandle.read(tiff.tiff.offsetsize))
    if following:
        raise EOFError(f"its page {len(tiff.pages) + 1} is missing")


def check_zip(file: Path) -> None:
    """All members are there, and their checksums are right."""
    with ZipFile(file) as archive:
        if broken := archive.testzip():
            raise EOFError(f"{broken} in it is broken")


def unzipped_bytes(stream: BinaryIO) -> int:
    """How many bytes a gzip stream holds, from here to its end. Raises where that is missing or its checksum wrong."""
    with gzip.open(stream) as unzipped:
        return sum(len(chunk) for chunk in iter(lambda: unzipped.read(CHUNK), b""))


def nifti_bytes(file: Path) -> int:
    """Bytes of an uncompressed NIfTI file with all its voxels, by its header."""
    data = nibabel.load(file).dataobj
    return int(data.offset + prod(data.shape) * data.dtype.itemsize)


def check_length(found: int, needed: int) -> None:
    """Raises EOFError where bytes are missing."""
    if found < needed:
        raise EOFError(f"it has {found:,} of {needed:,} bytes")


CHECKS: dict[tuple[str, ...], Callable[[Path], None]] = {
    (".nii.gz",): check_gzipped_nifti,
    (".nii",): check_nifti,
    (".nrrd",): check_nrrd,
    (".gipl",): check_gipl,
    (".png",): check_png,
    (".bmp",): check_bmp,
    (".tif", ".tiff"): check_tiff,
    (".npz",): check_zip,
}
