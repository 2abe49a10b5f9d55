"""Made-up DICOM series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

TEXTS = ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "StudyID")


def write_series(
    folder: Path,
    array: npt.NDArray[np.integer],
    spacing: Sequence[float] = (1, 1, 1),
    origin: Sequence[float] = (0, 0, 0),
    left_out: Sequence[int] = (),
    **attributes: object,
) -> None:
    """Write the slices of an array (z, y, x), spacing (z, y, x) and origin (x, y, z) in mm; files are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: generate_uid() for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for z, pixels in enumerate(array):
        if z in left_out:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = {
            **whole,
            **dict.fromkeys(TEXTS, ""),
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
            "Modality": "CT",
            "PatientID": "phantom",
            "PatientName": "Phantom",
            "PatientSex": "O",
            "StudyDate": "20260101",
            "StudyTime": "120000",
            "SeriesNumber": 1,
            "InstanceNumber": z + 1,
            "ImagePositionPatient": [origin[0], origin[1], origin[2] + z * spacing[0]],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": list(spacing[1:]),
            "SliceThickness": spacing[0],
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleIntercept": 0,
            "RescaleSlope": 1,
            "PixelData": pixels.astype(np.int16).tobytes(),
        }
        file = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        for key, value in {**values, **attributes}.items():
            if value is not None:
                setattr(file, key, value)
        file.save_as(folder / f"{z * 7 % 11}.dcm", enforce_file_format=True)
