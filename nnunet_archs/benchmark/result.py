"""What a benchmark has measured so far, and the file that holds it between two runs of the command."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_archs.measure.counts import Counts
from nnunet_archs.measure.time import Sample

from .graphs import GraphSample


@dataclass
class Row:
    """A network in one form; nnU-Net's own have one form, without a name."""

    network: str
    form: str
    counts: Counts
    expected_peak: int  # bytes that a step of training takes under autocast
    samples: list[Sample | GraphSample] = field(default_factory=list)
    out_of_memory: bool = False
    first: float | None = None  # seconds of the first step, compilation included


@dataclass
class Result:
    """The rows of every workload, and all that their numbers depend on."""

    command: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    rows: dict[str, list[Row]]

    def save(self, file: Path | None) -> None:
        """Write the file, if there is to be one, whole or not at all.

        Raises:
            ValueError: if it cannot be written.
        """
        if file is None:
            return
        written = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            written.write_text(json.dumps(asdict(self), indent=2) + "\n")
            written.replace(file)
        except OSError as error:
            raise ValueError(f"--json {file} cannot be written ({error.strerror}); give another file") from error
        finally:
            written.unlink(missing_ok=True)


def load(file: Path, settings: dict[str, Any], environment: dict[str, Any]) -> Result:
    """The result in a file, of these settings and this environment.

    Raises:
        ValueError: if there is none in it, or one of others.
    """
    try:
        content = json.loads(file.read_text())
        rows = {name: [_row(**row) for row in rows] for name, rows in content.pop("rows").items()}
        result = Result(**content, rows=rows)
        there = {**result.settings, **result.environment}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"--json {file} is not a file of this command's ({error!r}); give another file") from error
    wanted = json.loads(json.dumps({**settings, **environment}))
    if differing := [key for key in {**wanted, **there} if wanted.get(key) != there.get(key)]:
        raise ValueError(
            f"--json {file} was measured with another value of {', '.join(differing)}; give another file, or the "
            f"command that made it: {result.command}"
        )
    return result


def _row(*, counts: dict[str, Any], samples: list[dict[str, Any]], **others: Any) -> Row:
    taken = [GraphSample(**sample) if "export" in sample else Sample(**sample) for sample in samples]
    return Row(counts=Counts(**counts), samples=taken, **others)
