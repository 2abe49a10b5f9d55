"""What trainers share whose network can stand on others' encoders: nnU-Net's residual one, or a model of timm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from typing_extensions import override

from nnunet_archs.networks.parts.backbones import RESIDUAL, TimmEncoder, is_timms, timm_strides
from nnunet_archs.networks.parts.pretrained import find_weights, load_weights
from nnunet_archs.networks.parts.stages import check_patch, next_patch, with_stages

from .base import PaperTrainer, end_command, topology_kwargs
from .options import Option
from .wrapped import plain

# timm's models that have a word of their own: their name without its underscore
MODELS = ("vgg11", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101")


def on_encoder(spelling: str, meaning: str, value: str | None = None) -> Option:
    """An option that names the encoder."""
    return Option(spelling=spelling, meaning=meaning, group="encoder", attribute="encoder", value=value)


class EncoderTrainer(PaperTrainer):
    """A grid on the encoder that its name says, or else on that of the plan or of the network itself.

    A model of timm has stages of its own, to which any plan in 2D is brought; its patch has to be a multiple of their
    strides.
    """

    options: ClassVar[tuple[Option, ...]] = (
        on_encoder(RESIDUAL, "on nnU-Net's residual encoder", RESIDUAL),
        *(on_encoder(model.replace("_", ""), f"on timm's {model}, 2D", model) for model in MODELS),
        on_encoder("timm-<model>", "on timm's model of that name, its underscores written as hyphens, 2D"),
        Option(
            spelling="pretrained",
            meaning="timm's encoder begins with weights from NNUNET_ARCHS_ENCODER_WEIGHTS or timm's cache",
            group="pretraining",
            attribute="pretrained",
            value=True,
        ),
    )
    encoder: ClassVar[str] = ""
    pretrained: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check a name.

        Raises:
            ValueError: where `_pretrained` stands without a model of timm.
        """
        super().__init_subclass__(**kwargs)
        if cls.pretrained and not is_timms(cls.encoder):
            raise ValueError(
                f"{cls.__name__}: weights are there for models of timm alone; name one, as in _vgg16_pretrained, or "
                "leave _pretrained out"
            )

    @classmethod
    def encoder_arguments(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        """What the encoder of the name decides of the network: a model's stages, or the blocks of a ResEnc plan."""
        if is_timms(cls.encoder):
            dim = len(configuration.patch_size)
            return with_stages(topology_kwargs(configuration), timm_strides(cls.encoder), dim)
        blocks = configuration.network_arch_init_kwargs.get("n_blocks_per_stage")
        return {} if blocks is None or cls.encoder != RESIDUAL else {"n_blocks_per_stage": blocks}

    @classmethod
    @override
    def architecture_options(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return super().architecture_options(configuration) | ({"encoder": cls.encoder} if cls.encoder else {})

    @classmethod
    @override
    def missing_in_plans(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        return super().missing_in_plans(configuration) | cls.encoder_arguments(configuration)

    @classmethod
    @override
    def network_arguments(cls, configuration: ConfigurationManager) -> dict[str, Any]:
        arguments = super().network_arguments(configuration) | cls.encoder_arguments(configuration)
        if is_timms(cls.encoder):
            arguments.pop("n_blocks_per_stage", None)  # of a plan for the residual encoder
        return arguments

    @classmethod
    @override
    def stage_strides(cls, configuration: ConfigurationManager) -> Sequence[Sequence[int]]:
        own: Sequence[Sequence[int]] | None = cls.encoder_arguments(configuration).get("strides")
        return own or super().stage_strides(configuration)

    @classmethod
    @override
    def dimensions(cls) -> tuple[int, ...]:
        return (2,) if is_timms(cls.encoder) else super().dimensions()

    @classmethod
    @override
    def serving_patch(cls, configuration: ConfigurationManager) -> tuple[int, ...]:
        patch = super().serving_patch(configuration)
        return next_patch(patch, cls.total_stride(len(patch))) if is_timms(cls.encoder) else patch

    @classmethod
    def total_stride(cls, dim: int) -> list[int]:
        """The product of a model's strides, along every axis."""
        return [math.prod(timm_strides(cls.encoder))] * dim

    @classmethod
    @override
    def check_plans(cls, plans: dict[str, Any], configuration: str, dataset_json: dict[str, Any]) -> tuple[int, ...]:
        stages = super().check_plans(plans, configuration, dataset_json)
        if is_timms(cls.encoder):
            chosen = PlansManager(plans).get_configuration(configuration)
            patch = [int(size) for size in chosen.patch_size]
            check_patch(cls.__name__, patch, cls.serving_patch(chosen), cls.total_stride(len(patch)))
        return stages

    @override
    def initialize(self) -> None:
        super().initialize()
        try:
            check_synchronised(self.network)
        except ValueError as error:
            end_command(error)

    @override
    def run_training(self) -> None:
        if self.begins_pretrained:
            try:
                find_weights(self.encoder)
            except ValueError as error:
                end_command(error)
        super().run_training()

    @override
    def on_train_start(self) -> None:
        super().on_train_start()  # it forks for the data loaders: nothing may have been computed before
        if self.begins_pretrained:
            encoder = plain(self.network).encoder
            assert isinstance(encoder, TimmEncoder)
            try:
                file = find_weights(self.encoder)
                load_weights(encoder, file)
            except ValueError as error:
                end_command(error)
            self.print_to_log_file(f"The encoder starts with the weights in {file}")

    @property
    def begins_pretrained(self) -> bool:
        """Whether a training begins with pretrained weights; one that continues has its own."""
        return self.pretrained and self.current_epoch == 0


def check_synchronised(network: nn.Module) -> None:
    """Check that batch norms still are what they were after nnU-Net made them see the batches of all GPUs.

    Raises:
        ValueError: if timm had put activations into them, which are lost.
    """
    if any(isinstance(module, nn.SyncBatchNorm) and list(module.children()) for module in network.modules()):
        raise ValueError(
            "on several GPUs nnU-Net replaces batch norms, and the activations that timm has in those of this encoder "
            "would be lost; train it on one GPU, or take a VGG or a ResNet"
        )
