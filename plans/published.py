"""Plans with the topology that a paper prints, and the patch and batch of its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import override

from nnunet_archs.fidelity.published import PUBLISHED, Published
from nnunet_archs.nnunet.plans import DEFAULT_MEMORY, budget
from nnunet_archs.trainers.base import PaperTrainer
from nnunet_archs.trainers.names import own_words
from nnunet_archs.trainers.recipes import Recipe

from .planner import CONFIGURATIONS, Limits, NetworkPlanner, architecture

OF_THE_PAPER = Limits("the paper", "the paper", None)


def published_rows(trainer: type[PaperTrainer], name: str = "") -> dict[int, Published]:
    """The rows of the papers' tables that a trainer's network is, by the number of axes; those of a name, if given.

    Of several, that of the trainer's own paper with most of the options in the trainer's name, then the first.

    Raises:
        ValueError: if there are none, or if nothing is known of how their paper trains.
    """
    recipe = trainer.recipe
    of_network = [row for row in PUBLISHED if row.network is trainer.network_class]
    if recipe is None or not of_network:
        raise ValueError(f"--published: no paper prints a size of {trainer.__name__}'s network; plan without it")
    told = own_words(trainer)
    fitting = [
        row
        for row in of_network
        if row.dim in recipe.patch_size and own_words(trainer, row.words) <= told and name in ("", row.name)
    ]
    if not fitting:
        known = ", ".join(f"{row.name}{row.words and f' (append {row.words})'}" for row in of_network)
        raise ValueError(f"--published {name}: of {trainer.__name__}'s network, papers print {known}; name one of them")
    fitting.sort(key=lambda row: (row.paper is recipe.paper, len(own_words(trainer, row.words))), reverse=True)
    return {dim: next(row for row in fitting if row.dim == dim) for dim in sorted({row.dim for row in fitting})}


class PublishedPlanner(NetworkPlanner):
    """nnU-Net's planner for all but topology, patch and batch; by default of the configurations that papers have."""

    def __init__(
        self,
        dataset: int | str,
        trainer: type[PaperTrainer],
        rows: Mapping[int, Published],
        *,
        configurations: Sequence[str] | None = None,
    ) -> None:
        names = configurations or [name for name in CONFIGURATIONS if name in ("2d", "3d_fullres")]
        wanted = [name for name in names if int(name[0]) in rows]
        if not wanted:
            raise ValueError(
                f"-c {' '.join(names)}: what papers print of {trainer.__name__}'s network has "
                f"{' and '.join(f'{axes} axes' for axes in rows)}; leave out -c"
            )
        super().__init__(dataset, trainer, gpu_memory=DEFAULT_MEMORY, configurations=wanted)
        assert trainer.recipe is not None
        self.recipe: Recipe = trainer.recipe
        self.rows = rows

    @override
    def static_estimate_VRAM_usage(self, *network: Any) -> float:
        return 1  # whatever nnU-Net begins with will do

    @override
    def architecture(self, planned: dict[str, Any]) -> dict[str, Any]:
        row = self.rows[len(planned["patch_size"])]
        return architecture(self.trainer, {**planned, "architecture": as_planned(row)})

    @override
    def serving_patch(self, planned: dict[str, Any]) -> tuple[int, ...]:
        axes = len(planned["patch_size"])
        return (self.recipe.patch_size[axes],) * axes if axes in self.rows else super().serving_patch(planned)

    @override
    def batch_size(self, planned: dict[str, Any], cap: int) -> int:
        return self.recipe.batch_size[len(planned["patch_size"])]

    @override
    def what_limits(self, name: str, planned: dict[str, Any], cap: int) -> Limits:
        return OF_THE_PAPER

    @override
    def made_for(self, planned: dict[str, Any]) -> dict[str, Any]:
        row = self.rows[len(planned["patch_size"])]
        return budget(self.trainer.__name__, gpu_memory=None, base_width=None, published=row.name)


def as_planned(row: Published) -> dict[str, Any]:
    """A row's topology as a plan spells it."""
    topology = row.topology()
    types = {key: path(topology[key]) for key in ("conv_op", "norm_op", "nonlin")}
    arguments = {
        **topology,
        **types,
        "features_per_stage": list(row.features),
        "kernel_sizes": [[3] * row.dim for _ in row.features],
        "strides": [[1 + (stage > 0)] * row.dim for stage in range(len(row.features))],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
    }
    imports = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {"network_class_name": "", "arch_kwargs": arguments, "_kw_requires_import": imports}


def path(of: type | None) -> str | None:
    """The dotted path of a type."""
    return None if of is None else f"{of.__module__}.{of.__qualname__}"
