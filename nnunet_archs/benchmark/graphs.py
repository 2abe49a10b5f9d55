"""A network exported to ONNX, and run in onnxruntime on the CPU, in a process of its own.

`python -m nnunet_archs.benchmark.graphs FOLDER THREADS` runs the graph in a folder on the input there, writes the
logits beside it, and prints what a run took, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nnunet_archs.deploy.peak import peak_of_this_process
from nnunet_archs.deploy.weights import load_onnx, write_onnx
from nnunet_archs.nnunet.commands import python_command

GRAPH, INPUT, LOGITS = "network.onnx", "input.pt", "logits.pt"


@dataclass(frozen=True)
class GraphSample:
    """Seconds that export took, and a run; bytes of memory at the peak of loading and running, None where unknown.

    `difference` is the most that a logit differs from the network's, whose weights are random.
    """

    export: float
    difference: float
    inference: float
    memory: int | None


def sample_graph(build: Callable[[], Any], patch: Sequence[int], threads: int) -> GraphSample:
    """Export a new network, and run its graph on a random patch `(1, C, *spatial)`.

    Raises:
        ValueError: if the graph cannot be run, with the last line that was printed.
    """
    network, x = build().eval().requires_grad_(False), torch.randn(*patch)
    network.decoder.deep_supervision = False
    with TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        content = write_onnx(network, x)
        seconds = time.perf_counter() - started
        (folder / GRAPH).write_bytes(content)
        torch.save(x, folder / INPUT)
        command = python_command("nnunet_archs.benchmark.graphs", name, str(threads))
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if process.returncode:
            said = process.stderr.strip().splitlines() or [f"exit code {process.returncode}, as when memory runs out"]
            raise ValueError(f"the graph of {type(network).__name__} cannot be run: {said[-1]}")
        difference = float((torch.load(folder / LOGITS) - network(x)).abs().max())
    return GraphSample(seconds, difference, **json.loads(process.stdout.splitlines()[-1]))


def main() -> None:
    """Load a graph and run it twice; print how long the second took, and what all took of memory."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    x = torch.load(folder / INPUT)
    before = peak_of_this_process()
    run = load_onnx(folder / GRAPH, {}, threads=threads)
    run(x)
    started = time.perf_counter()
    logits = run(x)
    seconds = time.perf_counter() - started
    after = peak_of_this_process()
    torch.save(logits, folder / LOGITS)
    print(json.dumps({"inference": seconds, "memory": after and before and after - before}))


if __name__ == "__main__":
    main()
