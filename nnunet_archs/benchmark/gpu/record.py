"""What a run has measured so far, in one JSON file and one page of Markdown, both written after every measurement."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_archs.benchmark.report import describe_run
from nnunet_archs.files import read_json, write_whole

from .parts import Findings, Found, Measurement, Part


@dataclass
class Record:
    """Entries by part and name: what a measurement gave or its error, and the seconds that it took."""

    folder: Path
    command: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    entries: dict[str, dict[str, Found]]

    def of(self, part: Part) -> dict[str, Found]:
        """A part's entries."""
        return self.entries.setdefault(part.name, {})

    def missing(self, part: Part) -> list[Measurement]:
        """What is to be measured: first what was not begun, then what was cut off before."""
        entries = self.of(part)
        ranked = sorted(part.measurements, key=lambda measurement: measurement.rank)
        fresh = [measurement for measurement in ranked if measurement.name not in entries]
        return fresh + [measurement for measurement in ranked if entries.get(measurement.name, {}).get("cut")]

    def save(self, parts: Iterable[Part]) -> None:
        """Write both files, each whole or not at all."""
        written = {
            "command": self.command,
            "settings": self.settings,
            "environment": self.environment,
            "entries": self.entries,
        }
        write_whole(self.folder / "gpu.json", json.dumps(written, indent=1) + "\n")
        write_whole(self.folder / "gpu.md", self.page(parts))

    def page(self, parts: Iterable[Part]) -> str:
        """The page: a section for each part."""
        head = ["# Measured on a GPU", f"`{self.command}`", describe_run(self.settings, self.environment)]
        if "CUDA" not in self.environment:
            head[0] = "# At toy size, on a CPU: a trial of the command, and no measurement"
        return "\n\n".join([*head, *(self.section(part) for part in parts)]) + "\n"

    def section(self, part: Part) -> str:
        """What a part gave, what failed, what is missing."""
        if part.skipped:
            return f"## {part.title}\n\nSkipped: {part.skipped}."
        entries = self.of(part)
        found = {name: {**entry["result"], "took": entry["seconds"]} for name, entry in by_measurement(part, entries)}
        failed = [f"- {name}: {entry['error']}" for name, entry in entries.items() if "error" in entry]
        n_missing = sum(measurement.name not in entries for measurement in part.measurements)
        said = [f"## {part.title}", *([part.describe(found)] if found else [])]
        said += [f"Without a result:\n\n{chr(10).join(failed)}"] if failed else []
        said += [f"Not measured yet: {n_missing} of {len(part.measurements)}."] if n_missing else []
        return "\n\n".join(said)


def by_measurement(part: Part, entries: Findings) -> list[tuple[str, Found]]:
    """The entries that have a result, in the order of the part's measurements."""
    named = [(measurement.name, entries.get(measurement.name, {})) for measurement in part.measurements]
    return [(name, entry) for name, entry in named if "result" in entry]


def open_record(folder: Path, command: str, settings: dict[str, Any], environment: dict[str, Any]) -> Record:
    """The record in a folder, or a new one.

    Raises:
        ValueError: if it was measured with other settings or elsewhere, or is none.
    """
    file = folder / "gpu.json"
    if not file.exists():
        return Record(folder, command, settings, environment, {})
    there = read_json(file)
    if {"command", "settings", "environment", "entries"} - there.keys():
        raise ValueError(f"{file} is no file of this command's; give another folder with -o")
    wanted = json.loads(json.dumps({**settings, **environment}))
    found = {**there["settings"], **there["environment"]}
    if differing := [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]:
        raise ValueError(
            f"{file} was measured with another value of {', '.join(differing)}; give another folder with -o, or the "
            f"command that made it: {there['command']}"
        )
    return Record(folder, there["command"], settings, environment, there["entries"])
