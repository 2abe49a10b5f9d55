"""Convert images and labels, or a paper's data set in its official layout, to an nnU-Net raw data set.

Takes an nnU-Net raw data set, a task of the Medical Segmentation Decathlon (volumes of four axes are split), a folder
with images/ and labels/ of equal names, or an official layout; docs/convert.md lists them. The folder is only read, and
nothing is downloaded. The new data set is there whole or not at all.
"""

import argparse
from pathlib import Path

EXAMPLE = "nnunet-archs convert stage1_train -d 501 --layout dsb2018 --size 256 --split caggnet"

LAYOUTS = (
    *("dsb2018", "glas", "isic2018", "liver400", "isbi2012", "york"),
    *("covid19", "covid19-classes", "kits19", "lits", "brats19", "luna16", "lidc"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those that nnU-Net has too mean the same."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the images and labels")
    named = "ID of the new data set, or its whole name, such as Dataset501_Nuclei"
    parser.add_argument("-d", required=True, metavar="ID", dest="dataset", help=named)
    recognised = f"default: recognised by the files; one of {', '.join(LAYOUTS)}"
    parser.add_argument("--layout", choices=LAYOUTS, metavar="LAYOUT", help=recognised)
    parser.add_argument(
        "--split", metavar="SPLIT", help="split of an official layout; default: the first in docs/convert.md"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="seed of a random split")
    parser.add_argument("--size", type=positive, metavar="PIXELS", help="resize pictures to squares")
    window = "store CT as bytes, from LOW and below (0) to HIGH and above (255)"
    parser.add_argument("--window", type=float, nargs=2, metavar=("LOW", "HIGH"), help=window)
    readers = "LIDC-IDRI's XML files: for luna16, take the readers' contours in place of balls"
    parser.add_argument("--annotations", type=Path, metavar="FOLDER", help=readers)
    held_out = "if a folder of images and labels has no labelled test cases, keep a fifth for testing"
    parser.add_argument("--hold-out", action="store_true", help=held_out)
    binary = "labels are ids of instances: make all above 0 foreground"
    parser.add_argument("--binary", action="store_true", help=binary)
    instances = "labels are ids of instances: each becomes a core and a border of this width (as 2voxels or 0.5mm; "
    instances += "default: 2voxels), and `nnunet-archs instances` makes instances of the predictions"
    parser.add_argument("--instances", nargs="?", const="2voxels", metavar="WIDTH", help=instances)
    cropped = "crop an nnU-Net raw data set to what this trained model predicts in fold_*/validation; predictions of "
    cropped += "test cases may follow in another folder"
    parser.add_argument("--crop-to", type=Path, nargs="+", metavar="MODEL_FOLDER", help=cropped)
    margin = "margin of the crop, such as 10mm or 8voxels; default: %(default)s"
    parser.add_argument("--margin", default="10mm", metavar="LENGTH", help=margin)


def positive(text: str) -> int:
    """A whole number above 0."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def run(args: argparse.Namespace) -> int:
    """Check everything, write the data set, and say what comes next."""
    from nnunet_archs.convert.making import convert, summary
    from nnunet_archs.nnunet.commands import unwound_by_sigterm

    with unwound_by_sigterm():
        print(summary(convert(args)))
    return 0
