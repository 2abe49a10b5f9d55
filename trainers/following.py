"""Training by a paper's recipe: what `_recipe` in a trainer's name puts in place of nnU-Net's training."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import distributed
from typing_extensions import override

from .epochs import EpochLoader
from .wrapped import plain

if TYPE_CHECKING:
    from .recipes import Recipe

STATE = "nnunet_archs_recipe"  # in a checkpoint
# those that leave images in [0, 1], or as they are
UNIT_SCHEMES = {"RGBTo01Normalization", "RescaleTo01Normalization", "NoNormalization"}


class EarlyStop(Exception):
    """The training has gone on for as long as it may without gain."""


class RecipeTraining(nnUNetTrainer):
    """nnU-Net's training with a recipe's epochs, sampling, augmentation, selection and early stopping.

    It stands below `PaperTrainer`, which has the recipe's optimiser and length. `seed` is the run's. The best epoch so
    far, its value and its weights are None until there is one, and always for a recipe that keeps the last weights.
    """

    recipe: ClassVar[Recipe]
    followed: ClassVar[str]

    seed: int
    value: float = math.nan  # of the epoch's validation, by what the recipe selects
    best_value: float | None = None
    best_epoch: int | None = None
    best_weights: dict[str, torch.Tensor] | None = None

    @override
    def initialize(self) -> None:
        self.oversample_foreground_percent = 0.0
        super().initialize()
        seeds = [int(torch.randint(2**31, ()))]
        if self.is_ddp:
            distributed.broadcast_object_list(seeds, 0)
        (self.seed,) = seeds

    @override
    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, bool, Any, None]:
        self.inference_allowed_mirroring_axes = None
        return 0, False, self.configuration_manager.patch_size, None

    @classmethod
    def get_training_transforms(
        cls,
        patch_size: Sequence[int],
        rotation_for_DA: Any,
        deep_supervision_scales: Any,
        mirror_axes: Any,
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: Any = None,
        **labels: Any,
    ) -> BasicTransform:
        """The recipe's augmentation, then what nnU-Net makes of labels."""
        _, augmentation = cls.recipe.augmentations[cls.followed]
        targets = nnUNetTrainer.get_validation_transforms(deep_supervision_scales, **labels)
        return ComposeTransforms([*augmentation(patch_size), targets])

    @override
    def get_dataloaders(self) -> tuple[Any, Any]:
        rotation, flat, patch, mirrored = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        scales, manager = self._get_deep_supervision_scales(), self.label_manager
        labels = {
            "is_cascaded": self.is_cascaded,
            "foreground_labels": manager.foreground_labels,
            "regions": manager.foreground_regions if manager.has_regions else None,
            "ignore_label": manager.ignore_label,
        }
        training, validation = self.get_tr_and_val_datasets()
        processes = get_allowed_n_proc_DA()
        drawn = self.loader(
            training,
            self.get_training_transforms(patch, rotation, scales, mirrored, flat, **labels),
            seed=self.seed,
            first_epoch=self.current_epoch,
            n_workers=processes,
        )
        covered = self.loader(
            validation, self.get_validation_transforms(scales, **labels), n_workers=(processes + 1) // 2
        )
        self.num_iterations_per_epoch = drawn.n_batches
        self.num_val_iterations_per_epoch = covered.n_batches
        return self.augmenter(drawn), self.augmenter(covered)

    def loader(self, cases: Any, transforms: BasicTransform, **order: Any) -> EpochLoader:
        """Batches of cases."""
        patch = self.configuration_manager.patch_size
        return EpochLoader(
            cases,
            self.configuration_manager.batch_size,
            patch,
            patch,
            self.label_manager,
            transforms=transforms,
            rank=self.local_rank,
            world_size=distributed.get_world_size() if self.is_ddp else 1,
            **order,
        )

    def augmenter(self, loader: EpochLoader) -> Any:
        """The loader in processes of its own, whose batches come in order."""
        if loader.n_workers == 0:
            return SingleThreadedAugmenter(loader, None)
        pinned = self.device.type == "cuda"
        augmenter = MultiThreadedAugmenter(loader, None, loader.n_workers, pin_memory=pinned, wait_time=0.002)
        augmenter.restart()  # they fork, which must not be after the first computation
        return augmenter

    @override
    def on_train_start(self) -> None:
        super().on_train_start()
        others = set(self.configuration_manager.normalization_schemes) - UNIT_SCHEMES
        if others:
            self.print_to_log_file(
                f"The recipe of {self.recipe.paper.name} has images in [0, 1], and these plans have "
                f"{', '.join(sorted(others))}: name the channels rgb_to_0_1 or rescale_to_0_1 in dataset.json, then "
                "plan and preprocess again."
            )

    @override
    def run_training(self) -> None:
        try:
            super().run_training()
        except EarlyStop as stop:
            self.print_to_log_file(str(stop))
            self.on_train_end()

    @override
    def on_epoch_start(self) -> None:
        patience, best = self.recipe.patience, self.best_epoch
        if patience is not None and best is not None and self.current_epoch - 1 - best >= patience:
            raise EarlyStop(f"Epoch {best} was the best, and {patience} epochs brought no gain: training ends.")
        super().on_epoch_start()

    @override
    def on_train_epoch_start(self) -> None:
        # dropout as it would be without an interruption
        torch.manual_seed(
            int(np.random.SeedSequence([self.seed, self.current_epoch, self.local_rank]).generate_state(1)[0])
        )
        super().on_train_epoch_start()

    @override
    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().validation_step(batch)
        union = result["tp_hard"] + result["fp_hard"] + result["fn_hard"]
        overlaps = np.where(union > 0, result["tp_hard"] / np.maximum(union, 1), 1.0)
        return {**result, "IoU": float(overlaps.mean()), "size": len(batch["data"])}

    @override
    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        super().on_validation_epoch_end(val_outputs)
        if self.recipe.selection == "last":
            return
        found = [(float(output[self.recipe.selection]), output["size"]) for output in val_outputs]
        if self.is_ddp:
            shares: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(shares, found)
            found = [one for share in shares for one in share]
        values, sizes = zip(*found, strict=True)
        self.value = float(np.average(values, weights=sizes))

    @override
    def on_epoch_end(self) -> None:
        if self.recipe.selection == "last":
            super().on_epoch_end()
            return
        sign = 1 if self.recipe.selection == "IoU" else -1
        gained = not math.isnan(self.value) and (self.best_value is None or sign * (self.value - self.best_value) > 0)
        if gained:
            self.best_value, self.best_epoch = self.value, self.current_epoch
            weights = plain(self.network).state_dict()
            self.best_weights = {name: weight.detach().cpu().clone() for name, weight in weights.items()}
            self.print_to_log_file(f"New best validation {self.recipe.selection}: {self.value:.4f}")
        self._best_ema = math.inf  # nnU-Net's own choice is off
        super().on_epoch_end()
        if gained:
            self.current_epoch -= 1  # that epoch's checkpoint, as in nnU-Net's on_train_end
            self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_best.pth"))
            self.current_epoch += 1

    @override
    def on_train_end(self) -> None:
        if self.best_weights is not None:
            plain(self.network).load_state_dict(self.best_weights)
            self.best_weights = None  # the checkpoint has them as the network's
            self.print_to_log_file(f"The weights are those of epoch {self.best_epoch}.")
        super().on_train_end()

    @override
    def save_checkpoint(self, filename: str) -> None:
        super().save_checkpoint(filename)
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoint = torch.load(filename, map_location="cpu", weights_only=False)
            names = ("seed", "best_value", "best_epoch", "best_weights")
            torch.save({**checkpoint, STATE: {name: getattr(self, name) for name in names}}, filename)

    @override
    def load_checkpoint(self, filename: str) -> None:
        super().load_checkpoint(filename)
        for name, value in torch.load(filename, map_location="cpu", weights_only=False)[STATE].items():
            setattr(self, name, value)
