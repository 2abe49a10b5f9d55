"""What all trainers share: the network from the plans, the checks, the supervision, the progress bar."""

from __future__ import annotations

import os
import pydoc
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn, optim
from tqdm import tqdm
from typing_extensions import Unpack, override

from nnunet_archs.losses import CrossEntropyLoss, DeepSupervisionLoss, SegmentationLoss
from nnunet_archs.losses.base import LabelKwargs
from nnunet_archs.networks import SegmentationNetwork, Topology
from nnunet_archs.networks.parts.contract import Supervision
from nnunet_archs.networks.parts.topology import PLANNED
from nnunet_archs.nnunet.datasets import check_folders
from nnunet_archs.nnunet.plans import check_data

from .curves import TensorBoardLogger, curves_are_wanted
from .memory import LossSetting, describe_memory, expected_memory, supervision_scales
from .optimisation import ADAM, MOMENTS, NNUNET, EpochRate, Optimisation, Optimiser, Schedule
from .options import Option
from .recipes import Recipe

Objective = Literal["paper", "CE", "nnunet"]


class PaperTrainer(nnUNetTrainer):
    """A paper's network, supervision and loss in nnU-Net's training.

    The objective "paper" is the paper's loss, "CE" cross-entropy in its place, and "nnunet" nnU-Net's own loss and
    supervision. `recipe` is the training of the paper that proposes the network or compares its own with it; `options`
    are the paper's own options of the name.
    """

    network_class: ClassVar[type[nn.Module]]
    paper_loss: ClassVar[type[SegmentationLoss] | None] = None  # None: that of the recipe, or cross-entropy
    objective: ClassVar[Objective] = "paper"
    recipe: ClassVar[Recipe | None] = None
    followed: ClassVar[str | None] = None  # the recipe's augmentation that is followed; None: nnU-Net's training
    own_optimisation: ClassVar[Optimisation] = NNUNET  # unless the objective is nnU-Net's
    optimiser: ClassVar[Optimiser | None] = None  # in place of that
    schedule: ClassVar[Schedule | None] = None
    supervision: ClassVar[Supervision | None] = None  # None: that of the objective
    checkpoint: ClassVar[bool] = False  # where the name does not say so, a plan may
    options: ClassVar[tuple[Option, ...]] = ()
    passed: ClassVar[tuple[str, ...]] = ()  # attributes that the network has as options, where they are set
    name_words: ClassVar[tuple[str, ...]] = ()  # the options in the trainer's name, as they are spelled there
    epochs: ClassVar[int | None] = None
    iterations: ClassVar[int | None] = None

    num_epochs: int
    save_every: int

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net reads the signature)
    ) -> None:
        # nnU-Net's constructor makes folders and files: what cannot be trained has to end before it
        try:
            check_folders("nnUNet_preprocessed", "nnUNet_results")
            self.check_fold(plans, configuration, fold)
            self.branch_stages = self.check_plans(plans, configuration, dataset_json)
            check_data(plans, configuration)
            with_curves = curves_are_wanted()
        except ValueError as error:
            end_command(error)
        super().__init__(plans, configuration, fold, dataset_json, device)
        if device.type == "cpu" and (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal():
            torch.set_num_threads(int(threads))  # nnU-Net's command has taken a thread for every core
        if with_curves and self.local_rank == 0:
            self.logger.loggers.append(TensorBoardLogger(Path(self.output_folder, "tensorboard")))
        recipe = self.followed_recipe()
        self.num_epochs = self.epochs or (recipe.epochs if recipe else self.num_epochs)
        if self.iterations is not None:
            # nnU-Net's proportion of training to validation
            self.num_val_iterations_per_epoch = max(1, self.iterations // 5)
            self.num_iterations_per_epoch = self.iterations
        # a stopped run loses at most a twentieth of the training, which patience may shorten, or an epoch
        length = recipe.patience if recipe and recipe.patience else self.num_epochs
        self.save_every = max(1, min(self.save_every, length // 20))
        # one output is no deep supervision, and nnU-Net's weight of it would be 0 / 0
        self.enable_deep_supervision = len(self.branch_stages) > 1
        self.progress = tqdm(disable=True)

    @classmethod
    def check_fold(cls, plans: dict[str, Any], configuration: str, fold: int) -> None:
        """Check that a fold can be trained; most trainers have nothing to check.

        Raises:
            ValueError: for one that cannot.
        """

    @classmethod
    def check_plans(cls, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> tuple[int, ...]:
        """Check that plans can be trained, and return the stages of the outputs that the loss compares.

        Raises:
            ValueError: for a topology or a patch that this network cannot take.
        """
        manager = PlansManager(plans)
        if configuration not in manager.available_configurations:
            known = ", ".join(manager.available_configurations)
            raise ValueError(f"configuration {configuration}: {manager.plans_name} has {known}; train one of these")
        chosen = manager.get_configuration(configuration)
        check_patch(chosen, f"{manager.plans_name}/{configuration}")
        with torch.device("meta"):
            network = cls.build_network_architecture(
                manager,
                chosen,
                determine_num_input_channels(manager, chosen, dataset_json),
                manager.get_label_manager(dataset_json).num_segmentation_heads,
            )
        return cls.supervised_stages(network, len(cls.stage_strides(chosen)))

    @classmethod
    def supervised_stages(cls, network: nn.Module, n_stages: int) -> tuple[int, ...]:
        """Stage of each output under deep supervision, the full resolution first."""
        assert isinstance(network, SegmentationNetwork)
        return network.branch_stages

    @classmethod
    def network_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """The network's options that the trainer's name decides."""
        return {"supervision": cls.chosen_supervision(), **cls.architecture_options(configuration)}

    @classmethod
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """Those among them that do not depend on the loss, so that a plan can state them for any trainer."""
        return {name: value for name in ("checkpoint", *cls.passed) if (value := getattr(cls, name))}

    @classmethod
    def chosen_supervision(cls) -> Supervision:
        """Which outputs the loss compares: as the name says, or as the objective implies."""
        return cls.supervision or ("nnunet" if cls.objective == "nnunet" else "paper")

    @classmethod
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """Arguments of the network beside or in place of the topology, for plans made for another network."""
        return {}

    @classmethod
    def stage_strides(cls, configuration: ConfigurationManager) -> Sequence[Sequence[int]]:
        """The stride of every stage along every axis, by which targets are made: the plan's."""
        return read_topology(configuration).strides

    @property
    def target_strides(self) -> Sequence[Sequence[int]]:
        """The same, of this training's plan."""
        return self.stage_strides(self.configuration_manager)

    @classmethod
    def dimensions(cls) -> tuple[int, ...]:
        """The numbers of axes that the network has."""
        return getattr(cls.network_class, "dimensions", (2, 3))

    @classmethod
    def serving_patch(cls, configuration: ConfigurationManager) -> tuple[int, ...]:
        """The patch that the network takes in place of a configuration's, no axis smaller: the same, for most."""
        return tuple(configuration.patch_size)

    @classmethod
    def planned_arguments(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """What a plan made for this trainer's network states, with the topology of another's."""
        own = cls.missing_in_plans(configuration) | cls.architecture_options(configuration)
        return {**topology_kwargs(configuration), **own}

    @classmethod
    def followed_recipe(cls) -> Recipe | None:
        """The recipe, where the trainer's name says that it is followed."""
        return None if cls.followed is None else cls.recipe

    @classmethod
    def optimisation(cls) -> Optimisation:
        """The optimiser, its rate and schedule: the recipe's, or the trainer's own with what its name changes."""
        if recipe := cls.followed_recipe():
            return recipe.optimisation
        own = NNUNET if cls.objective == "nnunet" else cls.own_optimisation
        if cls.optimiser == "Adam":
            own = replace(cls.recipe.optimisation if cls.recipe else ADAM, schedule=own.schedule)
        return replace(own, schedule=cls.schedule or own.schedule)

    @classmethod
    def moments(cls) -> int:
        """Tensors that the optimiser keeps for every parameter."""
        return MOMENTS[cls.optimisation().optimiser]

    @override
    def configure_optimizers(self) -> tuple[optim.Optimizer, Any]:
        chosen = self.optimisation()
        if chosen == NNUNET:
            stock: tuple[optim.Optimizer, Any] = super().configure_optimizers()
            return stock
        self.initial_lr, self.weight_decay = chosen.rate, chosen.weight_decay  # nnU-Net logs them
        optimizer = chosen.make(self.network.parameters())
        return optimizer, EpochRate(optimizer, chosen, self.num_epochs)

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network of `network_arguments`."""
        kwargs = cls.network_arguments(configuration_manager)
        network: nn.Module = get_network_from_plans(
            cls.network_path(),
            kwargs,
            [key for key in configuration_manager.network_arch_init_kwargs_req_import if key in kwargs],
            num_input_channels,
            num_output_channels,
            deep_supervision=enable_deep_supervision,
        )
        cls.freeze_unused(network)
        return network

    @classmethod
    def network_path(cls) -> str:
        """Where the network's class is imported from."""
        return f"{cls.network_class.__module__}.{cls.network_class.__qualname__}"

    @classmethod
    def network_arguments(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """The plan's arguments where the plan names this network, else its topology; with those of the trainer's name.

        Types are dotted paths, as in plans.
        """
        kwargs = configuration.network_arch_init_kwargs
        if pydoc.locate(configuration.network_arch_class_name) is not cls.network_class:
            kwargs = {**topology_kwargs(configuration), **cls.missing_in_plans(configuration)}
        return {**kwargs, **cls.network_options(configuration)}

    @classmethod
    def freeze_unused(cls, network: nn.Module) -> None:
        """Freeze what never gets a gradient, for which DDP would wait: nothing, in the networks here."""

    @override
    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        return supervision_scales(self)

    @override
    def _build_loss(self) -> nn.Module:
        return self.make_loss(self)

    @classmethod
    def make_loss(cls, setting: LossSetting) -> nn.Module:
        """The loss of the network's outputs in a setting: that of a trainer, or of one that is only planned."""
        if cls.objective == "nnunet":
            loss: nn.Module = nnUNetTrainer._build_loss(setting)
            return loss
        labels: LabelKwargs = {
            "regions": setting.label_manager.has_regions,
            "ignore_label": setting.label_manager.ignore_label,
            "batch_dice": setting.configuration_manager.batch_dice,
            "ddp": setting.is_ddp,
        }
        loss = CrossEntropyLoss(**labels) if cls.objective == "CE" else cls.new_loss(**labels)
        if not setting.enable_deep_supervision:
            return loss
        return DeepSupervisionLoss(loss, setting.branch_stages, cls.branch_weights(setting.branch_stages))

    @classmethod
    def new_loss(cls, **labels: Unpack[LabelKwargs]) -> SegmentationLoss:
        """The paper's loss for a data set's labels."""
        of_recipe = cls.recipe.loss if cls.recipe else CrossEntropyLoss
        return (cls.paper_loss or of_recipe)(**labels)

    @classmethod
    def branch_weights(cls, stages: Sequence[int]) -> list[float]:
        """Weight of each output: equal, or nnU-Net's with its supervision, halved from stage to stage, none at last."""
        weights = [1.0] * len(stages)
        if cls.chosen_supervision() == "nnunet":
            weights = [0.5**stage for stage in stages[:-1]] + [0.0]
        return [weight / sum(weights) for weight in weights]

    @override
    def on_train_start(self) -> None:
        super().on_train_start()  # it forks for the data loaders: nothing may have been computed before
        if self.local_rank == 0:
            try:
                self.print_to_log_file(self._describe_memory())
            except Exception as error:  # it informs: no training shall end for it
                self.print_to_log_file(f"The memory of a training step is not known: {error!r}")

    def _describe_memory(self) -> str:
        memory = expected_memory(
            type(self),
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
            half=self.device.type == "cuda",
            batch_size=self.batch_size,
        )
        dataset = self.plans_manager.dataset_name[7:10]
        return describe_memory(memory, self.device, dataset=dataset, trainer=type(self).__name__)

    @override
    def save_checkpoint(self, filename: str) -> None:
        # nnU-Net writes in place: killed meanwhile, it leaves half a file, from which nothing can go on
        unfinished = f"{filename}.unfinished"
        super().save_checkpoint(unfinished)
        if self.local_rank == 0 and not self.disable_checkpointing:
            os.replace(unfinished, filename)

    @override
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._show_progress("training", self.num_iterations_per_epoch)

    @override
    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self._advance(super().train_step(batch))

    @override
    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        self.progress.close()
        super().on_train_epoch_end(train_outputs)

    @override
    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._show_progress("validation", self.num_val_iterations_per_epoch)

    @override
    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self._advance(super().validation_step(batch))

    @override
    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        self.progress.close()
        super().on_validation_epoch_end(val_outputs)

    def _show_progress(self, what: str, total: int) -> None:
        # disable=None: shown on a terminal only
        disable = None if self.local_rank == 0 else True
        self.progress = tqdm(total=total, desc=f"Epoch {self.current_epoch} {what}", leave=False, disable=disable)

    def _advance(self, result: dict[str, Any]) -> dict[str, Any]:
        self.progress.set_postfix(loss=f"{float(result['loss']):.4f}", refresh=False)
        self.progress.update()
        return result


def topology_kwargs(configuration: ConfigurationManager) -> dict[str, Any]:
    """The topology among the arguments that a plan gives its network, as the plan spells it."""
    kwargs = configuration.network_arch_init_kwargs
    return {name: kwargs[name] for name in PLANNED if name in kwargs}


def read_topology(configuration: ConfigurationManager) -> Topology:
    """The topology of a plan.

    Raises:
        ValueError: for one that cannot work.
    """
    kwargs = topology_kwargs(configuration)
    for key in configuration.network_arch_init_kwargs_req_import:
        if kwargs.get(key):
            kwargs[key] = pydoc.locate(kwargs[key])
    return Topology(**kwargs)


def check_patch(configuration: ConfigurationManager, name: str) -> None:
    """Check a plan's topology and its patch, whichever network is built: nnU-Net's own check neither.

    Raises:
        ValueError: for a topology that cannot work, or a patch that its strides do not divide.
    """
    topology = read_topology(configuration)
    patch = list(configuration.patch_size)
    if len(patch) != topology.dim:
        raise ValueError(
            f"patch_size={patch} of {name} has {len(patch)} axes, its network {topology.dim} axes; plan again"
        )
    for axis, (size, stride) in enumerate(zip(patch, topology.total_stride, strict=True)):
        if size % stride:
            raise ValueError(
                f"patch_size={patch} of {name}: axis {axis} is not divisible by {stride}, the product of its strides; "
                f"plan with {-(-size // stride) * stride} there, or with fewer strides"
            )
    if tuple(patch) == topology.total_stride:
        raise ValueError(
            f"patch_size={patch} of {name} leaves one voxel at the deepest stage, which cannot be normalised; plan "
            "with a larger patch, or with fewer strides"
        )


def end_command(error: ValueError) -> NoReturn:
    """End one of nnU-Net's commands with one line and exit code 2, where it would print a traceback."""
    print(f"nnunet-archs: error: {error}", file=sys.stderr)
    raise SystemExit(2)
