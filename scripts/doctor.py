"""Check the installation and print a fix for each problem.

Exit code 1 where something has to be fixed.
"""

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from nnunet_archs.discovery import SEARCH, discovery_folder
from nnunet_archs.files import what_is_wrong_with_writing

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

EXAMPLE = "nnunet-archs doctor"
DISTRIBUTION = "nnunet-archs"
PROBE = "UNetSharpTrainer"
GIB = 2**30
# A worker of nnU-Net's that has done nothing but import torch holds this much, and nnU-Net starts eight.
WORKER_GIB = 0.9
DEFAULT_WORKERS = 8
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
COMPILE = "nnUNet_compile"


class Finding(NamedTuple):
    """One line of the report."""

    status: Literal["ok", "warn", "fix"]
    what: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print each finding as it comes; 1 where something has to be fixed."""
    broken = False
    for what, check in CHECKS.items():
        for finding in examine(what, check):
            print(f"{finding.status:<4}  {finding.what:<19}  {finding.text}", flush=True)
            broken |= finding.status == "fix"
    return int(broken)


def examine(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; a check that breaks is itself a finding."""
    try:
        yield from check()
    except Exception as error:
        yield Finding("fix", what, describe(error))


def describe(error: BaseException) -> str:
    """Error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def python() -> Iterator[Finding]:
    """Python against our own metadata."""
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(metadata(DISTRIBUTION)["Requires-Python"] or "")
    yield fits("Python", platform.python_version(), wanted, f"make an environment with Python {wanted}")


def dependencies() -> Iterator[Finding]:
    """Our requirements: torch and nnU-Net always, the others where they do not fit."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        remedy = f'pip install "{requirement}"'
        try:
            finding = fits(requirement.name, version(requirement.name), requirement.specifier, remedy)
        except PackageNotFoundError:
            finding = Finding("fix", requirement.name, f"not installed: {remedy}")
        if finding.status != "ok" or requirement.name in ("torch", "nnunetv2"):
            yield finding


def fits(what: str, installed: str, wanted: "SpecifierSet", remedy: str) -> Finding:
    """Compare a version with what is wanted."""
    if wanted.contains(installed, prereleases=True):
        return Finding("ok", what, installed)
    return Finding("fix", what, f"{installed} does not fit {wanted}: {remedy}")


def trainers() -> Iterator[Finding]:
    """nnU-Net's own search for one of our trainers."""
    searched = [folder for folder in os.environ.get(SEARCH, "").split(os.pathsep) if folder.strip()]
    for folder in searched:
        if not os.path.exists(folder):
            why = '"~" is not expanded' if folder.startswith("~") else "it does not exist"
            yield Finding("warn", SEARCH, f"nnU-Net skips {folder}: {why}")
    # Ours first, and what a user has of others' after it.
    rest = f"{os.pathsep}${SEARCH}" if any(map(os.path.exists, searched)) else ""
    problem = what_is_wrong_with_search() if searched else "not set"
    if problem:
        yield Finding("fix", SEARCH, f'{problem}: export {SEARCH}="$(nnunet-archs path){rest}"')
    else:
        yield Finding("ok", SEARCH, f"nnU-Net finds our trainers in {discovery_folder()}")


def what_is_wrong_with_search() -> str | None:
    """Why nnU-Net does not get our trainer from its own search; None where it does."""
    from nnunet_archs.nnunet.find import find_trainer
    from nnunet_archs.trainers.registry import resolve

    try:
        found = find_trainer(PROBE)
    except LookupError:
        return f"nnU-Net finds no {PROBE}"
    except SystemExit as error:  # nnU-Net imports every module of a folder: a setup.py ends it
        return f"a module in a searched folder ends nnU-Net ({describe(error)})"
    return None if found is resolve(PROBE) else f"nnU-Net finds the one of {found.__module__}, not ours"


def data_folder(variable: str) -> Iterator[Finding]:
    """One of nnU-Net's folders: set, there, and written to for a trial."""
    value = os.environ.get(variable)
    if not value:
        remedy = f'export {variable}="$HOME/nnUNet/{variable}"; mkdir -p "${variable}"'
        yield Finding("fix", variable, f"not set: {remedy}")
    elif value.startswith("~"):
        remedy = f'export {variable}="{os.path.expanduser(value)}"'
        yield Finding("fix", variable, f'{value}: nnU-Net does not expand "~": {remedy}')
    elif not os.path.exists(value):
        yield Finding("fix", variable, f'{value} does not exist: mkdir -p "{value}"')
    elif not os.path.isdir(value):
        yield Finding("fix", variable, f"{value} is not a folder: export {variable} as one")
    else:
        problem = what_is_wrong_with_writing(value)
        free = f"{value}, {shutil.disk_usage(value).free / GIB:.1f} GiB free"
        # Training only reads the images, and they often lie on a shared, read-only disk.
        bad: Literal["warn", "fix"] = "warn" if variable == "nnUNet_raw" else "fix"
        if problem:
            yield Finding(bad, variable, f"{free}, but not writable ({problem}): chmod u+w, or another folder")
        else:
            yield Finding("ok", variable, free)


def gpu() -> Iterator[Finding]:
    """GPUs that torch can use."""
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = (size / GIB for size in torch.cuda.mem_get_info(index))
        name = torch.cuda.get_device_name(index)
        yield Finding("ok", f"GPU {index}", f"{name}, {total:.1f} GiB, {free:.1f} GiB free")
    if torch.cuda.is_available():
        return
    if torch.backends.mps.is_available():
        yield Finding("ok", "GPU", "Apple: train with -device mps")
    elif shutil.which("nvidia-smi"):
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        text = f"there is a driver, but torch is built for {build} and sees no GPU: reinstall torch for it"
        yield Finding("warn", "GPU", text)
    else:
        yield Finding("ok", "GPU", "none: training runs on the CPU with -device cpu")


def compilation() -> Iterator[Finding]:
    """torch.compile, which nnU-Net uses on CUDA unless told otherwise."""
    import torch

    wanted = os.environ.get(COMPILE, "true").lower() in ("true", "1", "t")
    needs = {"triton": find_spec("triton"), "a C compiler": os.environ.get("CC") or c_compiler()}
    missing = [name for name, found in needs.items() if not found]
    if not torch.cuda.is_available() or os.name == "nt":
        yield Finding("ok", "torch.compile", "off: nnU-Net compiles on CUDA only, and not on Windows")
    elif not wanted:
        yield Finding("ok", "torch.compile", f"off: {COMPILE}={os.environ[COMPILE]}")
    elif missing:
        text = f"on, but {' and '.join(missing)} missing: install, or export {COMPILE}=f"
        yield Finding("fix", "torch.compile", text)
    else:
        yield Finding("ok", "torch.compile", f"on, nnU-Net's default on CUDA: {COMPILE}=f turns it off")


def c_compiler() -> str | None:
    """Compiler with which triton builds its launchers."""
    return next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)


def processes() -> Iterator[Finding]:
    """Cores and memory, and nnU-Net's worker processes."""
    memory = memory_gib()
    size = "" if memory is None else f", {memory:.1f} GiB of memory"
    yield Finding("ok", "CPU", f"{os.cpu_count()} cores{size}")
    workers = count("nnUNet_def_n_proc", least=1)
    augmenting = count("nnUNet_n_proc_DA", least=0)
    if augmenting == 0:
        text = "0 is for training only: planning needs 1 or more (torch.set_num_threads)"
        yield Finding("warn", "nnUNet_n_proc_DA", text)
    if memory is not None and ((workers or DEFAULT_WORKERS) + 1) * WORKER_GIB > memory:
        fitting = max(1, int(memory / WORKER_GIB) - 1)
        text = f"{workers or DEFAULT_WORKERS} processes hold {WORKER_GIB} GiB each before any image: "
        yield Finding("warn", "nnUNet_def_n_proc", f"{text}export nnUNet_def_n_proc={fitting}")


def count(variable: str, least: int) -> int | None:
    """Whole number in an environment variable; None where it is not set."""
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.strip().isdecimal() or int(text) < least:
        raise ValueError(f"{variable}={text!r} is not a whole number from {least}: export {variable}=4")
    return int(text)


def memory_gib() -> float | None:
    """Memory this process may use: the machine's, or its container's where that is less."""
    if not hasattr(os, "sysconf"):
        return None
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return (min(physical, int(text)) if text.isdecimal() else physical) / GIB


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": python,
    "dependencies": dependencies,
    "nnUNet_extTrainer": trainers,
    **{name: partial(data_folder, name) for name in FOLDERS},
    "GPU": gpu,
    "torch.compile": compilation,
    "processes": processes,
}
