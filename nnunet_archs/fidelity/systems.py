"""The systems in the papers' tables whose size no table prints: the trainer that builds each, or why none does.

Those whose size is printed, or told by the authors' code, are in `published.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .papers import CAGGNET, CROSSLINK, FOCUSNET, UNET_SHARP, Paper


@dataclass(frozen=True, kw_only=True)
class System:
    """A system of a paper's table; without a `trainer` the note says why, and what comes nearest."""

    paper: Paper
    source: str
    name: str
    trainer: str = ""
    note: str = ""


def _systems(paper: Paper, source: str, *systems: tuple[str, ...]) -> tuple[System, ...]:
    """The systems of a table: name, trainer and note of each."""
    return tuple(
        System(paper=paper, source=source, name=name, trainer=trainer, note=" ".join(note))
        for name, trainer, *note in systems
    )


SYSTEMS = (
    *_systems(
        CAGGNET,
        "Tables I, II",
        ("U-Net", "ClassicalUNetTrainer"),
        ("UNet++", "UNetPlusPlusTrainer"),
    ),
    *_systems(
        CAGGNET,
        "Table III",
        ("CAggNet, BCE", "CAggNetTrainer_CE"),
        ("CAggNet, focal loss, alpha 0.5, gamma 1", "CAggNetTrainer_alpha50_gamma1"),
        ("CAggNet, focal loss, alpha 0.25, gamma 2", "CAggNetTrainer"),
        ("CAggNet, focal loss, alpha 0.5, gamma 2", "CAggNetTrainer_alpha50"),
    ),
    *_systems(FOCUSNET, "Table 1", ("FCN", "FCNTrainer", "which FCN, the paper does not say: FCN-8s here")),
    *_systems(
        CROSSLINK,
        "Table II",
        ("lambda 1, 0, 0", "CrosslinkNetTrainer_CE"),
        ("lambda 0.5, 0.5, 0", "CrosslinkNetTrainer_lambda550"),
        ("lambda 0.2, 0.8, 0", "CrosslinkNetTrainer_lambda280"),
        ("lambda 0.5, 0, 0.5", "CrosslinkNetTrainer_lambda505"),
        ("lambda 0.2, 0, 0.8", "CrosslinkNetTrainer_lambda208"),
        ("lambda 0.1, 0.4, 0.5", "CrosslinkNetTrainer_lambda145"),
        ("lambda 0.2, 0.3, 0.5", "CrosslinkNetTrainer_lambda235"),
        ("lambda 0.3, 0.2, 0.5", "CrosslinkNetTrainer_lambda325"),
        ("lambda 0.4, 0.1, 0.5", "CrosslinkNetTrainer"),
    ),
    *_systems(
        CROSSLINK,
        "Figure 7",
        ("attention at block 1", "CrosslinkNetTrainer_attention1"),
        ("attention at block 2", "CrosslinkNetTrainer_attention2"),
        ("attention at block 3", "CrosslinkNetTrainer"),
        ("attention at block 4", "CrosslinkNetTrainer_attention4"),
        ("attention at block 5", "CrosslinkNetTrainer_attention5"),
        ("attention at all blocks", "CrosslinkNetTrainer_attentionAll", "the mean of five losses, with a head each"),
    ),
    *_systems(
        CROSSLINK,
        "Table IV",
        (
            "GridNet-core",
            "",
            "not built: no code was found, and columns and widths are nowhere to be read; UNetPlusPlusTrainer is the "
            "nearest grid of resolutions",
        ),
    ),
    *_systems(
        CROSSLINK,
        "Tables V, VI",
        (
            "Crossover-Net",
            "",
            "not built: it classifies the centre pixel of two crossing patches of 100 x 20 pixels, one label a patch, "
            "which dense training has no place for; CrosslinkNetTrainer is its authors' later network",
        ),
    ),
    *_systems(
        CROSSLINK,
        "Table VII",
        ("MSS-Unet", "MSSUNetTrainer", "its size is decided by the plan, for it is nnU-Net's network"),
        (
            "FCN-PPM",
            "",
            "not built: no code was found, and its layers are nowhere to be read; PSPNetTrainer (2D) has the pyramid "
            "pooling",
        ),
        (
            "CU-Net",
            "ClassicalUNetTrainer",
            "3d_lowres, then 3d_cascade_fullres: nnU-Net's cascade adds the coarse labels as channels where CU-Net "
            "crops to the kidney",
        ),
        (
            "C3D-Unet",
            "ClassicalUNetTrainer",
            "3d_lowres, then 3d_cascade_fullres: nnU-Net's cascade adds the coarse labels as channels where C3D-Unet "
            "crops to the kidney",
        ),
    ),
    *_systems(
        UNET_SHARP,
        "Table 3",
        ("nnU-Net", "PlainConvUNetTrainer", "its size is decided by the plan"),
        ("PSPNet", "PSPNetTrainer"),
        ("DeepLabV3+", "DeepLabV3PlusTrainer"),
        ("AttnUNet", "AttentionUNetTrainer"),
        ("UNet#(CGM)", "UNetSharpTrainer_CGM"),
    ),
)
