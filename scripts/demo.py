"""Plan, train, predict and evaluate with nnU-Net's own commands, on a phantom or on your images.

Run it again to resume.
"""

import argparse
import sys
import time
from pathlib import Path

from .options import add_device

EXAMPLE = "nnunet-archs demo --data Task04_Hippocampus -tr CAggNetTrainer -c 2d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments; those that nnU-Net has too mean the same here."""
    data_help = "your images instead of the phantom, only read: an nnU-Net raw data set, an MSD task folder, or "
    data_help += "a folder with images/ and labels/ of equal names"
    default = "default: %(default)s"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=data_help)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", default=Path("demo_run"), help=default)
    parser.add_argument("-tr", "--trainer", metavar="TRAINER", default="VNetSharpTrainer", help=default)
    configurations = ("2d", "3d_lowres", "3d_fullres")
    usual = "default: 3d_fullres, or 2d for images of one plane"
    parser.add_argument("-c", "--configuration", choices=configurations, help=usual)
    parser.add_argument("-f", "--fold", choices=("0", "1", "2", "3", "4", "all"), default="0", help=default)
    add_device(parser, "it trains and predicts")


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0, or 1 where a command of nnU-Net's failed. Raises ValueError for bad input."""
    from nnunet_archs.demo.choices import check_output, choose_configuration, choose_trainer
    from nnunet_archs.demo.data import prepare_dataset, source_of
    from nnunet_archs.demo.pipeline import Run, run_steps
    from nnunet_archs.demo.result import report
    from nnunet_archs.nnunet.commands import unwound_by_sigterm
    from nnunet_archs.nnunet.device import choose_device
    from nnunet_archs.nnunet.steps import StepError

    device = choose_device(args.device)
    trainer = choose_trainer(args.trainer, device)
    output = check_output(args.output, args.data)
    started = time.monotonic()
    dataset = prepare_dataset(args.data, output, args.configuration)
    seconds: dict[str, float | None] = {"raw data": time.monotonic() - started}
    is_flat = source_of(output / "nnUNet_raw" / dataset)["is_flat"]
    configuration = choose_configuration(args.configuration, is_flat=is_flat)
    demo = Run(output, dataset, trainer, configuration, args.fold, device)
    try:
        with unwound_by_sigterm():
            seconds |= run_steps(demo)
    except StepError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    report(demo, seconds)
    return 0
