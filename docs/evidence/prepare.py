"""What the studies of this folder begin with, from nothing but the data: raw data sets, fingerprints and small plans.

    python docs/evidence/prepare.py FOLDER [nuclei membranes hippocampus sarcoma-ct sarcoma-ct-pet]

FOLDER holds the four data sets' folders of `images` and `labels`; nnU-Net's variables say where all else goes. What is
there already is kept. The studies make all other plans and the preprocessed data.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from nnunet_archs.plans.resize import Caps, resize_plans

# Widths go in steps of 4. At 20 features every network has one that takes more than half of the memory, but for
# ResidualEncoderUNet, whose 8 features take too little; it is matched to 22, in 32 bits still less than 20 take.
# The second and third are the first again, so that repeats have folders of their own.
SMALL = {
    "nnUNetPlans_small": 20,
    "nnUNetPlans_small22": 22,
    "nnUNetPlans_small_second": 20,
    "nnUNetPlans_small_third": 20,
}
DISAGREES = "STS_019"  # its CT and PET masks are of other places


@dataclass(frozen=True)
class Source:
    """A data set: its name for nnU-Net, the folder that it is made of, and for each channel of CT what files end in."""

    name: str
    folder: str
    channels: tuple[str, ...] = ()


SOURCES = {
    "nuclei": Source("Dataset501_Nuclei", "dsb2018_nuclei"),
    "membranes": Source("Dataset502_Membranes", "isbi2012_membrane"),
    "hippocampus": Source("Dataset503_Hippocampus", "msd_task04_hippocampus"),
    "sarcoma-ct": Source("Dataset504_SarcomaCT", "ibsi_sts_ct_pet_mr", ("CT",)),
    "sarcoma-ct-pet": Source("Dataset505_SarcomaCTPET", "ibsi_sts_ct_pet_mr", ("CT", "PET")),
}


def main() -> None:
    """Prepare the data sets that the command names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", nargs="*", choices=[[], *SOURCES])
    args = parser.parse_args()
    for name in args.sources or SOURCES:
        source = SOURCES[name]
        if not Path(str(nnUNet_raw), source.name).exists():
            make_raw(source, args.folder / source.folder)
        preprocessed = Path(str(nnUNet_preprocessed), source.name)
        for file, command in (
            ("dataset_fingerprint.json", ["nnUNetv2_extract_fingerprint", "--verify_dataset_integrity", "-np", "1"]),
            ("nnUNetPlans.json", ["nnUNetv2_plan_experiment"]),
        ):
            if not (preprocessed / file).exists():
                subprocess.run([*command, "-d", source.name[7:10]], check=True)
        stock = load_json(str(preprocessed / "nnUNetPlans.json"))
        for plans, features in SMALL.items():
            if not (preprocessed / f"{plans}.json").exists():
                text = json.dumps(resize_plans(stock, plans, caps=caps(features)), indent=4)
                (preprocessed / f"{plans}.json").write_text(text, encoding="utf-8")


def caps(features: int) -> Caps:
    """Plans for one core of a processor: patches of 128 x 128 or about 32 x 32 x 32, batches of 2."""
    return Caps(
        base_features=features,
        max_features=8 * features,
        batch_size={2: 2, 3: 2},
        patch_voxels={2: 128**2, 3: 2**15},
    )


def make_raw(source: Source, folder: Path) -> None:
    """A data set in nnU-Net's raw format."""
    if source.channels:
        make_sarcoma(Path(str(nnUNet_raw), source.name), folder, source.channels)
    else:
        subprocess.run(["nnunet-archs", "convert", str(folder), "-d", source.name], check=True)


def make_sarcoma(made: Path, folder: Path, channels: Sequence[str]) -> None:
    """The sarcomas on the grid of their CT, for each channel has its own: PET is interpolated linearly."""
    for part in ("imagesTr", "labelsTr"):
        (made / part).mkdir(parents=True)
    cases = sorted({file.name.removesuffix("_CT.nii.gz") for file in folder.glob("labels/*_CT.nii.gz")} - {DISAGREES})
    for case in cases:
        shutil.copy(folder / "labels" / f"{case}_CT.nii.gz", made / "labelsTr" / f"{case}.nii.gz")
        grid = sitk.ReadImage(str(folder / "images" / f"{case}_CT.nii.gz"), sitk.sitkFloat32)
        for i, channel in enumerate(channels):
            image = sitk.ReadImage(str(folder / "images" / f"{case}_{channel}.nii.gz"), sitk.sitkFloat32)
            sitk.WriteImage(sitk.Resample(image, grid), str(made / "imagesTr" / f"{case}_{i:04d}.nii.gz"))
    description = {
        "channel_names": {str(i): channel for i, channel in enumerate(channels)},
        "labels": {"background": 0, "tumour": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (made / "dataset.json").write_text(json.dumps(description, indent=4), encoding="utf-8")


if __name__ == "__main__":
    main()
