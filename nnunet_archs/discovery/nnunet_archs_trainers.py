"""Where nnU-Net finds the trainers: each is made from its name when nnU-Net asks for it.

nnU-Net imports this module from the folder in `nnUNet_extTrainer`, tests names with `hasattr`, and forgets
the module again. So nothing lives here: the classes belong to `nnunet_archs.trainers`, imported as usual.
"""


def __getattr__(name: str) -> type:
    """Trainer of that name (PEP 562)."""
    # The import system asks for names too (`__path__`): torch and nnU-Net are not loaded for those.
    if name.startswith("_") or "Trainer" not in name:
        raise AttributeError(name)
    from nnunet_archs.trainers import registry

    try:
        trainer = registry.made(name)
    except ValueError as error:
        from nnunet_archs.trainers.base import end_command

        end_command(error)
    if trainer is None:
        raise AttributeError(name)
    return trainer
