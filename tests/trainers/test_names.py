from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hand_made import make_dataset_json, make_plans
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_archs.trainers.names import OPTIONS
from nnunet_archs.trainers.registry import UnknownTrainer, known, paper_trainers, resolve, resolve_paper

SPELLED = [option.spelling.replace("<N>", "7") for option in OPTIONS]
CPU = torch.device("cpu")


def make(name: str, n_axes: int = 3) -> nnUNetTrainer:
    return resolve_paper(name)(make_plans(n_axes), "tiny", 0, make_dataset_json(), CPU)


def error_of(name: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (every caller looks at the message)
        resolve_paper(name)
    return str(caught.value)


def test_all_networks_and_options_are_there() -> None:
    networks = ["UNetSharp", "VNetSharp", "UNetPlusPlus", "VNetPlusPlus", "UNet", "VNet"]
    assert {f"{network}Trainer" for network in [*networks, "PlainConvUNet", "ResidualEncoderUNet"]} <= set(known())
    assert {"7epochs", "7iterations", "DiceCE", "noDS", "NoMirroring"} <= set(SPELLED)


@pytest.mark.parametrize("option", SPELLED)
def test_one_option(option: str) -> None:
    name = f"UNetSharpTrainer_{option}"
    cls = resolve_paper(name)
    assert cls.__name__ == name
    assert issubclass(cls, resolve_paper("UNetSharpTrainer"))
    assert cls is not resolve_paper("UNetSharpTrainer")
    assert resolve_paper(name) is cls
    assert pickle.loads(pickle.dumps(cls)) is cls
    assert make(name).output_folder == str(
        Path(make("UNetSharpTrainer").output_folder_base).with_name(f"{name}__HandMadePlans__tiny") / "fold_0"
    )


def test_numbers_reach_the_trainer() -> None:
    trainer = make("VNetSharpTrainer_30epochs_20iterations")
    assert trainer.num_epochs == 30
    assert trainer.num_iterations_per_epoch == 20
    assert trainer.num_val_iterations_per_epoch == 4
    assert make("VNetSharpTrainer_3iterations").num_val_iterations_per_epoch == 1


def test_length_is_that_of_nnunet_otherwise() -> None:
    stock = nnUNetTrainer(make_plans(3), "tiny", 0, make_dataset_json(), CPU)
    trainer = make("VNetSharpTrainer_DiceCE")
    for attribute in ("num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "save_every"):
        assert getattr(trainer, attribute) == getattr(stock, attribute)


@pytest.mark.parametrize(("epochs", "save_every"), [(1, 1), (10, 1), (100, 5), (2000, 50)])
def test_short_training_is_saved_more_often(epochs: int, save_every: int) -> None:
    assert make(f"UNetTrainer_{epochs}epochs").save_every == save_every


def test_checkpoint_reaches_the_blocks() -> None:
    def recomputed(name: str) -> bool:
        trainer = make(name)
        trainer.initialize()
        return trainer.network.topology.checkpoint

    assert recomputed("CAggNetTrainer_checkpoint")
    assert not recomputed("CAggNetTrainer")


@pytest.mark.parametrize("name", ["PlainConvUNetTrainer", "ResidualEncoderUNetTrainer"])
def test_networks_of_nnunet_know_no_checkpoint(name: str) -> None:
    message = error_of(f"{name}_checkpoint")
    assert f"{name} has no option _checkpoint; the options are" in message
    assert message.count("_checkpoint") == 1


@pytest.mark.parametrize(
    ("option", "axes"), [("", (0, 1, 2)), ("_NoMirroring", None), ("_onlyMirror01", (0, 1)), ("_NoDA", None)]
)
@pytest.mark.parametrize("name", ["UNetSharpTrainer", "PlainConvUNetTrainer"])
def test_mirroring_at_inference(name: str, option: str, axes: tuple[int, ...] | None) -> None:
    trainer = make(name + option)
    *_, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert mirrored == axes
    assert trainer.inference_allowed_mirroring_axes == axes


def test_loss_and_supervision_options() -> None:
    def losses(name: str) -> tuple[str, bool]:
        trainer = make(name)
        trainer.initialize()
        inner = getattr(trainer.loss, "loss", trainer.loss)
        return type(inner).__name__, trainer.enable_deep_supervision

    assert losses("UNetSharpTrainer") == ("HybridLoss", True)
    assert losses("UNetSharpTrainer_DiceCE") == ("DC_and_CE_loss", True)
    assert losses("UNetSharpTrainer_noDS") == ("HybridLoss", False)
    assert losses("UNetSharpTrainer_DiceCE_noDS") == ("DC_and_CE_loss", False)
    assert losses("PlainConvUNetTrainer_noDS") == ("DC_and_CE_loss", False)


@pytest.mark.parametrize(
    "name",
    [
        "UNetSharpTrainer_4epochs_6iterations_DiceCE_noDS_NoMirroring",
        "UNetSharpTrainer_NoMirroring_noDS_DiceCE_6iterations_4epochs",
    ],
)
def test_options_combine_in_any_order(name: str) -> None:
    trainer = make(name)
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert trainer.__class__.__name__ == name
    assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (4, 6)
    assert (trainer.objective, trainer.enable_deep_supervision) == ("nnunet", False)
    assert trainer.inference_allowed_mirroring_axes is None


@pytest.mark.parametrize(
    "word", ["bogus", "0epochs", "05epochs", "-1epochs", "epochs", "5 epochs", "1e3epochs", "5Epochs", "dicece", ""]
)
def test_unknown_option_is_named_beside_those_that_exist(word: str) -> None:
    message = error_of(f"UNetSharpTrainer_5iterations_{word}")
    assert f"UNetSharpTrainer has no option _{word};" in message
    listed = message.split("he options are ")[1].split(", ")
    own = resolve_paper("UNetSharpTrainer").options
    assert listed == [*(f"_{option.spelling}" for option in OPTIONS), "_recipe", *(f"_{o.spelling}" for o in own)]


@pytest.mark.parametrize(
    ("first", "second"),
    [("5epochs", "5epochs"), ("5epochs", "6epochs"), ("noDS", "noDS"), ("NoMirroring", "NoDA"), ("NoDA", "DA5")],
)
def test_repeated_and_contradictory_options_are_named(first: str, second: str) -> None:
    message = error_of(f"VNetSharpTrainer_{first}_DiceCE_{second}")
    assert f"_{first} and _{second}" in message
    assert "keep one" in message


@pytest.mark.parametrize("name", ["PlainConvUNetTrainer_DiceCE", "ResidualEncoderUNetTrainer_5epochs_DiceCE"])
def test_option_without_effect_is_named(name: str) -> None:
    message = error_of(name)
    assert "_DiceCE" in message
    assert "leave it out" in message


@pytest.mark.parametrize(
    ("word", "nearest"), [("5epoks", "<N>epochs"), ("dicece", "DiceCE"), ("nods", "noDS"), ("Checkpoint", "checkpoint")]
)
def test_the_nearest_option_is_named(word: str, nearest: str) -> None:
    assert f"did you mean _{nearest}?" in error_of(f"UNetSharpTrainer_{word}")


def test_one_epoch_as_nnunet_spells_it() -> None:
    assert make("UNetSharpTrainer_1epoch").num_epochs == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("UNetSharp", "UNetSharpTrainer"),
        ("CAgNetTrainer", "CAggNetTrainer"),
        ("CAgNetTrainer_5epochs", "CAggNetTrainer"),
    ],
)
def test_the_nearest_trainer_is_named(name: str, nearest: str) -> None:
    with pytest.raises(UnknownTrainer, match=rf"^{name}: there is no such trainer; did you mean {nearest}\?"):
        resolve(name)


def test_nnunets_own_trainers_are_resolved_but_take_no_options() -> None:
    assert resolve("nnUNetTrainer") is nnUNetTrainer
    with pytest.raises(ValueError, match="nnUNetTrainer is not a trainer of nnunet-archs"):
        resolve_paper("nnUNetTrainer")


OWN = sorted({option.spelling for trainer in paper_trainers() for option in trainer.options})


@pytest.mark.parametrize("spelling", OWN)
def test_option_of_some_trainers(spelling: str) -> None:
    word = spelling.replace("<N>", "1").replace("<P>", "30").replace("<ABC>", "235").replace("<model>", "test-vit2")
    needed = "_vgg16" if word == "pretrained" else ""
    for trainer in paper_trainers():
        name = trainer.__name__
        if spelling in [option.spelling for option in trainer.options]:
            assert resolve_paper(f"{name}_{word}{needed}").__name__ == f"{name}_{word}{needed}"
        else:
            assert f"{name} has no option _{word};" in error_of(f"{name}_{word}")


@pytest.mark.parametrize("word", ["alpha0", "alpha100", "alpha2.5", "alpha", "gamma0"])
def test_focal_settings_are_checked(word: str) -> None:
    assert f"has no option _{word};" in error_of(f"CAggNetTrainer_{word}")


def test_focal_settings_reach_the_loss() -> None:
    trainer = make("CAggNetTrainer_alpha50_gamma1_noDS")
    trainer.initialize()
    assert (trainer.loss.alpha, trainer.loss.gamma) == (0.5, 1)


@pytest.mark.parametrize("option", ["CE", "DiceCE"])
def test_options_of_a_loss_that_is_replaced_are_named(option: str) -> None:
    message = error_of(f"CAggNetTrainer_alpha50_{option}")
    assert "_alpha50 is of the paper's loss" in message


def test_optimiser_of_the_paper_and_of_nnunet() -> None:
    def optimiser(name: str) -> tuple[str, float]:
        trainer = make(name)
        trainer.initialize()
        return type(trainer.optimizer).__name__, trainer.optimizer.param_groups[0]["lr"]

    assert optimiser("CAggNetTrainer") == ("Adam", 1e-3)
    assert optimiser("CAggNetTrainer_CE") == ("Adam", 1e-3)
    assert optimiser("CAggNetTrainer_DiceCE") == optimiser("UNetSharpTrainer") == ("SGD", 1e-2)


def test_nnunets_supervision_has_its_weights() -> None:
    trainer = make("UNetSharpTrainer_DS")
    trainer.initialize()
    assert trainer.loss.stages == (0, 1)
    assert trainer.loss.weights == (1.0, 0.0)
    assert make("UNetTrainer_DS").enable_deep_supervision
    assert not make("UNetTrainer").enable_deep_supervision
