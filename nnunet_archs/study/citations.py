"""The methods paragraph of a study, ready for a paper, and what it cites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mode
from typing import Any

from nnunet_archs.fidelity.published import PUBLISHED
from nnunet_archs.trainers.registry import known, resolve_paper, split

from .wording import count, listed


@dataclass(frozen=True)
class Reference:
    """A work as a paper's list of references has it, and where it is."""

    text: str
    link: str = ""


NNUNET = Reference(
    'Isensee, Jaeger, Kohl, Petersen, Maier-Hein: "nnU-Net: a self-configuring method for deep learning-based '
    'biomedical image segmentation", Nature Methods 18, 203–211, 2021',
    "https://doi.org/10.1038/s41592-020-01008-z",
)
REVISITED = Reference(
    'Isensee, Wald, Ulrich, Baumgartner, Roy, Maier-Hein, Jaeger: "nnU-Net Revisited: A Call for Rigorous Validation '
    'in 3D Medical Image Segmentation", MICCAI 2024',
    "https://arxiv.org/abs/2404.09556",
)
SURFACE_DICE = Reference(
    'Nikolov et al.: "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy: Deep Learning '
    'Algorithm Development and Validation Study", Journal of Medical Internet Research 23(7), e26151, 2021',
    "https://doi.org/10.2196/26151",
)
WILCOXON = Reference(
    'Wilcoxon: "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1(6), 80–83, 1945',
    "https://doi.org/10.2307/3001968",
)
HOLM = Reference(
    'Holm: "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2), 65–70, '
    "1979",
)
HODGES_LEHMANN = Reference(
    'Hodges, Lehmann: "Estimates of Location Based on Rank Tests", Annals of Mathematical Statistics 34(2), 598–611, '
    "1963",
    "https://doi.org/10.1214/aoms/1177704172",
)
NNUNETS_OTHERS = {"ResidualEncoderUNetTrainer": REVISITED}


def reference_of(trainer: str) -> Reference:
    """The paper of a trainer's network; nnU-Net's, if it is none of the networks here."""
    name, _ = split(trainer, known())
    if not name:
        return NNUNET
    found: Any = resolve_paper(name)
    network = found.network_class
    for cited in (found, network):  # nnU-Net's network with another's loss is the loss' paper
        if getattr(cited, "citation", ""):
            return Reference(cited.citation, cited.link)
    # its module is its paper's; some of that module's rows are of papers that compare with it
    papers = [row.paper for row in PUBLISHED if row.network.__module__ == network.__module__]
    return Reference(mode(papers).citation, mode(papers).link) if papers else NNUNETS_OTHERS.get(name, NNUNET)


def held_out_sentence(n_folds: int) -> str:
    """What predicted the test set."""
    who = f"the ensemble of the {n_folds} folds' networks, and by each of them alone" if n_folds > 1 else "that network"
    compared = "; on it, ensembles were compared" if n_folds > 1 else ""
    return f"A held-out test set, used neither for training nor for validation, was predicted by {who}{compared}."


def methods(study: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> tuple[str, list[Reference]]:
    """The paragraph, with numbers of its references, and these."""
    trainers = {entry["network"]: entry["trainer"] for entry in entries}
    cited = list(
        dict.fromkeys([NNUNET, *map(reference_of, trainers.values()), SURFACE_DICE, WILCOXON, HOLM, HODGES_LEHMANN])
    )

    def cite(reference: Reference) -> str:
        return f"[{cited.index(reference) + 1}]"

    versions = study["versions"]
    named = [f"{name} {cite(reference_of(trainer))}" for name, trainer in trainers.items()]
    epochs = sorted({entry["epochs"] for entry in entries})
    against = f"every network against {study['baseline']}" if study["baseline"] else "all pairs of networks"
    left_out = "; those that a missing run left some network without were left out" if study["missing"] else ""
    sentences = [
        f"We trained {listed(named)} in nnU-Net {cite(NNUNET)} (version {versions['nnunetv2']}, with nnunet-archs "
        f"{versions['nnunet-archs']} and PyTorch {versions['torch']}) on {listed(study['datasets'])}, "
        f"{'configuration' if len(study['configurations']) == 1 else 'configurations'} "
        f"{listed(study['configurations'])}, for {listed([str(n) for n in epochs])} "
        f"{'epoch' if epochs == [1] else 'epochs'}.",
        f"All networks shared nnU-Net's cross-validation splits; {count(len(study['folds']), 'fold')} "
        f"{'was' if len(study['folds']) == 1 else 'were'} trained, and each case was predicted by the network of the "
        "fold that had left it out.",
        *([held_out_sentence(len(study["folds"]))] if study["test"] else []),
        "Predictions were measured by Dice, recall, precision, the 95th percentile of the Hausdorff distance and "
        f"surface Dice {cite(SURFACE_DICE)} at a tolerance of {study['tolerance_mm']:g} mm (surface-distance "
        f"{versions['surface-distance']}), averaged over the labels of a case.",
        f"Cases were pooled over folds{left_out}. We compared {against}, paired by case, with two-sided Wilcoxon "
        f"signed-rank tests {cite(WILCOXON)}, adjusted by Holm's method {cite(HOLM)} within a dataset, configuration "
        f"and metric, and give Hodges–Lehmann differences {cite(HODGES_LEHMANN)} with 95% percentile bootstrap "
        f"intervals over cases (SciPy {versions['scipy']}).",
        "Since folds share training data, p-values are optimistic.",
    ]
    return " ".join(sentences), cited
