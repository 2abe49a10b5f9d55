"""The command `nnunet-archs`."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from .completion import OPTION, add_completion, complete_values

SUBCOMMANDS = {
    "path": "Print the folder in which nnU-Net finds the trainers.",
    "list": "List the trainers and options, or the papers' own training.",
    "doctor": "Check the installation and print a fix for each problem.",
    "convert": "Convert images and labels, or a paper's data set in its official layout, to an nnU-Net raw data set.",
    "instances": "Turn predictions into instance maps, in which every object has an id of its own.",
    "slicer": "Write segmentations for 3D Slicer: every label with its name and a colour.",
    "plan": "Plan for a trainer's network: patch and batch that fit a GPU, or a width that matches other plans.",
    "study": "Train, measure and compare networks, from one file.",
    "submit": "Predict test images, check and zip the result for a challenge; or make a container.",
    "info": "Show what is in a trained model's folder, what inference costs, and whether it runs here.",
    "prune": "Measure the levels of a trained UNet#, UNet++, V-Net# or V-Net++, and cut one out.",
    "export": "Export a trained network with all that inference needs: ONNX, safetensors or torch.",
    "predict": "Predict a folder of images with an exported ONNX folder, in ONNX Runtime on the CPU.",
    "fidelity": "Print docs/fidelity.md: what papers state, what is built here, and how released code differs.",
    "benchmark": "Measure multiply-adds, memory and time of the networks, in the papers' form and in ours.",
    "gpu": "Measure in 25 minutes what only a GPU can tell, in one page of Markdown and one JSON file.",
    "demo": "Plan, train, predict and evaluate with nnU-Net's own commands, on a phantom or on your images.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        try:
            args = parse(sys.argv[1:] if argv is None else argv)
            return args.run(args) or 0
        finally:
            sys.stdout.flush()  # a closed pipe (`| head`) shows here, not in the interpreter's shutdown
    except ValueError as error:
        print(f"nnunet-archs: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The interpreter flushes standard output once more: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "the disk is full: make room, and run this again" if full else "put that right, and run this again"
        print(f"nnunet-archs: error: {error}; {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("nnunet-archs: interrupted", file=sys.stderr)
        return 130


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse `argv`, importing only the subcommand that it names, or all for the shell's completion of all.

    The help where it names none.
    """
    parser = argparse.ArgumentParser(
        prog="nnunet-archs", description="Segmentation architectures from papers as nnU-Net v2 trainers."
    )
    parser.add_argument("--version", action=_Version, help="print the versions that matter and exit")
    add_completion(parser)
    is_for_completion = any(argument.startswith(OPTION) for argument in argv)
    subparsers = parser.add_subparsers(metavar="command")
    for name, line in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=line, description=line, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in argv or is_for_completion:
            module = import_module(f"nnunet_archs.scripts.{name}")
            module.add_arguments(subparser)
            complete_values(subparser)
            subparser.set_defaults(run=module.run)
            subparser.epilog = f"example:\n  {module.EXAMPLE}"
    parser.set_defaults(run=lambda _: parser.print_help())
    return parser.parse_args(argv, argparse.Namespace(argv=list(argv)))


class _Version(argparse.Action):
    """Print the versions, which are looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(", ".join(f"{name} {_installed(name)}" for name in ("nnunet-archs", "nnunetv2", "torch")))
        parser.exit()


def _installed(name: str) -> str:
    """Version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
