"""Every system of every table of the five papers: a trainer builds it, or the list says why none does."""

import pytest

from nnunet_archs.fidelity.systems import SYSTEMS
from nnunet_archs.trainers.registry import resolve_paper

# as the papers' tables list them, spellings apart that the papers themselves vary
TABLES = {
    ("CAggNet", "Tables I and II"): ["FCN", "U-Net", "UNet++", "CAggNet"],
    ("CAggNet", "Table III"): [
        "CAggNet, BCE",
        "CAggNet, focal loss, alpha 0.5, gamma 1",
        "CAggNet, focal loss, alpha 0.25, gamma 2",
        "CAggNet, focal loss, alpha 0.5, gamma 2",
    ],
    ("CAggNet", "Tables IV and V"): ["U-Net", "UNet++", "CAggNet, BCE", "CAggNet"],
    ("FocusNet++", "Table 1"): [
        "FCN",
        "U-Net",
        "Wide U-Net",
        "R2U-Net",
        "BCDU-Net",
        "UNet++",
        "Attention U-Net",
        "FocusNet",
        "FocusNet++",
    ],
    ("FocusNet++", "Table 2"): ["U-Net", "UNet++", "BCDU-Net", "Attention U-Net", "FocusNet", "FocusNet++"],
    ("FocusNet++", "Table 3"): [
        "U-Net (half the width)",
        "BCDU-Net (half the width)",
        "Attention U-Net (half the width)",
        "FocusNet (half the width)",
        "FocusNet++ S",
    ],
    ("Improved-skip U-Net", "Tables 2 to 4"): ["U-Net", "Ours1", "Ours2", "FCN-8s"],
    ("Crosslink-Net", "Table II"): [
        f"lambda {weights}"
        for weights in (
            "1, 0, 0",
            "0.5, 0.5, 0",
            "0.2, 0.8, 0",
            "0.5, 0, 0.5",
            "0.2, 0, 0.8",
            "0.1, 0.4, 0.5",
            "0.2, 0.3, 0.5",
            "0.3, 0.2, 0.5",
            "0.4, 0.1, 0.5",
        )
    ],
    ("Crosslink-Net", "Table III"): [
        "VerCrosslink",
        "HorCrosslink",
        "U-Net",
        "Double2SingleNet",
        "SquareCrosslink",
        "Crosslink-Net",
    ],
    ("Crosslink-Net", "Table IV"): ["DenseUNet", "SPNet", "GridNet-core", "Crosslink-Net"],
    ("Crosslink-Net", "Tables V and VI"): ["U-Net", "Crossover-Net", "Inf-Net", "Crosslink-Net"],
    ("Crosslink-Net", "Table VII"): ["MSS-Unet", "FCN-PPM", "PR3D-Unet", "CU-Net", "C3D-Unet", "Crosslink-Net"],
    ("UNet#", "Table 1"): [
        "UNet",
        "WUNet",
        "UNet2+",
        "UNet3+",
        "UNet#",
        "V-Net",
        "WV-Net",
        "V-Net2+",
        "V-Net3+",
        "V-Net#",
    ],
    ("UNet#", "Table 2"): [
        "UNet (VGG16)",
        "UNet# (VGG16)",
        "UNet (ResNet101)",
        "UNet# (ResNet101)",
        "Mask R-CNN",
        "Mask R-CNN2+",
        "Mask R-CNN3+",
        "Mask R-CNN#",
    ],
    ("UNet#", "Table 3"): [
        "PSPNet",
        "DeepLabV3+",
        "ENet",
        "nnU-Net",
        "AttnUNet",
        "DUNet",
        "RA-UNet",
        "TransUNet",
        "UNet#",
        "UNet#(CGM)",
    ],
}


@pytest.mark.parametrize(("paper", "table"), TABLES, ids=lambda value: value)
def test_every_system_has_its_trainer_or_the_reason(paper, table, rows):
    for system in TABLES[paper, table]:
        row = rows[paper, system]
        assert row["trainer"] or row["note"], system


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_what_is_not_built_says_why(system):
    if system.trainer:
        assert resolve_paper(system.trainer)
    else:
        assert system.note.startswith("not built")
