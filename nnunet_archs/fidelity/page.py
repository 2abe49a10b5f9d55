"""docs/fidelity.md, from what papers state and print."""

from __future__ import annotations

from nnunet_archs.tables import markdown_table

from .papers import NNUNET, PAPERS, Paper
from .published import PUBLISHED
from .systems import SYSTEMS

HEAD = """# Fidelity

What each paper states, what is built here, and what its authors' released code does, where that is known. The code was
read, never copied. Written by `nnunet-archs fidelity > docs/fidelity.md`.

Unless something else is said, normalisation, activation, kernels and strides are the plan's. Sizes are counted as the
papers count theirs: with BatchNorm, for one class, without the heads of deep supervision. Where the built size differs
from the printed one, the last column says why."""

TRAINING = """## Training, in all papers

A bare trainer is the paper's network, supervision and loss in nnU-Net's training. Besides the optimiser, these points
differ from the papers:"""


def page() -> str:
    """The page, in Markdown."""
    return "\n\n".join([HEAD, *(_section(paper) for paper in PAPERS), _training()])


def _section(paper: Paper) -> str:
    link = f" [{paper.link.removeprefix('https://')}]({paper.link})" if paper.link else ""
    sizes = [
        (row.name, f"{row.dim}D", f"{row.built_parameters():,}", row.built(), row.printed, row.source, row.note)
        for row in PUBLISHED
        if row.paper is paper
    ]
    systems = [
        (system.name, system.source, f"`{system.trainer}`" if system.trainer else "none", system.note)
        for system in SYSTEMS
        if system.paper is paper
    ]
    readings = [(r.point, r.stated, r.built, r.released) for r in paper.readings]
    parts = [
        f"## {paper.name}",
        f"{paper.citation}.{link} Authors' code: {paper.code}.",
        markdown_table(("configuration", "", "parameters", "built", "printed", "where", "why they differ"), sizes),
    ]
    if systems:
        parts.append(markdown_table(("system without a printed size", "where", "trainer", ""), systems))
    parts.append(markdown_table(("", "the paper states", "built here", "released code"), readings))
    return "\n\n".join(parts)


def _training() -> str:
    readings = [(r.point, r.stated, r.built) for r in NNUNET]
    return "\n\n".join([TRAINING, markdown_table(("", "the papers state", "built here"), readings)])
