"""Predict test images, check and zip the result for a challenge; or make a container.

The models are those of -tr, -c and -p, or what nnU-Net's own search finds the best. nnU-Net's commands predict, average
and postprocess; an interrupted run resumes when it is started again.
"""

import argparse
from pathlib import Path

from .options import add_device, add_sliding_window

EXAMPLE = "nnunet-archs submit -d 4 -i imagesTs -o entry -tr CAggNetTrainer -p CAggNetPlans -c 3d_fullres"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those that nnU-Net has too mean the same."""
    parser.add_argument("-d", required=True, metavar="ID", dest="dataset", help="data set, by ID or name")
    parser.add_argument("-i", type=Path, metavar="IMAGES", dest="images", help="folder of the test images")
    parser.add_argument("-o", type=Path, metavar="OUT", dest="output", help="folder for predictions and submission.zip")
    parser.add_argument(
        "-tr", nargs="+", metavar="TRAINER", dest="trainers", help="default: nnU-Net's best; several are averaged"
    )
    parser.add_argument("-c", nargs="+", metavar="CONFIGURATION", dest="configurations")
    parser.add_argument("-p", nargs="+", metavar="PLANS", dest="plans")
    parser.add_argument("-f", nargs="+", metavar="FOLD", dest="folds", help="default: all five")
    add_device(parser, "it predicts")
    add_sliding_window(parser)
    parser.add_argument(
        "--rename", default="{case}", metavar="PATTERN", help="names of the files, such as '{case}_seg'"
    )
    parser.add_argument("--allow-empty", action="store_true", help="only warn about a file without foreground")
    parser.add_argument(
        "--geometry",
        choices=("SimpleITK", "nibabel", "none"),
        help="compare spacing and origin as this reads them; default: as the plans' reader",
    )
    parser.add_argument(
        "--container", type=Path, metavar="FOLDER", help="write a folder that builds a container, and predict nothing"
    )
    parser.add_argument(
        "--input-socket", nargs="+", metavar="SLUG", help="sockets of the container's images, one for each channel"
    )
    parser.add_argument("--output-socket", metavar="SLUG", help="socket of the container's segmentation")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="time that the container has for one case")
    dicom = "the images are DICOM series, one folder each; write DICOM segmentations, too"
    parser.add_argument("--dicom", action="store_true", help=dicom)
    parser.add_argument(
        "--check-only", type=Path, metavar="ZIP", help="check this zip file or folder, and predict nothing"
    )


def run(args: argparse.Namespace) -> int:
    """Predict, check and zip; or only check."""
    from nnunet_archs.deploy.submission import make_submission

    make_submission(args)
    return 0
