"""Predict a folder of images with an exported ONNX folder, in ONNX Runtime on the CPU.

All but the network is nnU-Net's own, as in nnUNetv2_predict, and so are the files that it writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_sliding_window

EXAMPLE = "nnunet-archs predict unet_sharp -i imagesTs -o predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those that nnU-Net has too mean the same."""
    parser.add_argument("exported", type=Path, metavar="FOLDER", help="what nnunet-archs export --to onnx wrote")
    parser.add_argument("-i", type=Path, required=True, metavar="IMAGES", dest="images", help="folder of the images")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", dest="output", help="folder of the label maps")
    add_sliding_window(parser)
    parser.add_argument(
        "-prev_stage_predictions",
        "--prev-stage-predictions",
        type=Path,
        metavar="FOLDER",
        dest="previous",
        help="the first stage's label maps, for a cascade's second stage",
    )


def run(args: argparse.Namespace) -> int:
    """Predict."""
    from nnunet_archs.deploy.graph_prediction import predict

    predict(
        args.exported,
        args.images,
        args.output,
        step_size=args.step_size,
        mirroring=not args.no_mirroring,
        previous=args.previous,
    )
    return 0
