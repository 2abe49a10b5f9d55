"""The tests that need a GPU."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from nnunet_archs.nnunet.commands import python_command
from nnunet_archs.tables import markdown_table

from .parts import Findings, Found, Measurement, Part

MARK = "pytest.mark.gpu"


def part(tests: Path | None) -> Part:
    """Every test file that has the marker `gpu`."""
    if tests is None or not tests.is_dir():
        where = f"there is no {tests}" if tests else "their folder was not given"
        return Part("tests", "Tests marked gpu", 1, 0, [], describe, skipped=f"{where}: give --tests of a checkout")
    marked = [file for file in sorted(tests.rglob("test_*.py")) if MARK in file.read_text(encoding="utf-8")]
    measurements = [
        Measurement(str(file.relative_to(tests)), partial(run_file, str(file), str(tests.parent))) for file in marked
    ]
    return Part("tests", "Tests marked gpu", 1, 120, measurements, describe)


def run_file(file: str, folder: str) -> Found:
    """What pytest says of a file's tests: the lines of those that failed, and its last."""
    command = python_command("pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-rf", file)
    run = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(run.stdout)
    lines = [line.strip() for line in run.stdout.splitlines() if line.strip()]
    return {
        "code": run.returncode,
        "failed": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
        "said": lines[-1] if lines else "nothing",
    }


def describe(findings: Findings) -> str:
    """A row for each file, and the tests that failed."""
    rows = [[name, found["said"], "<br>".join(found["failed"])] for name, found in findings.items()]
    return markdown_table(["file", "pytest says", "failed"], rows)
