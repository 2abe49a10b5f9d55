"""Trainers by name: ours, nnU-Net's, and those in the user's own folders."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout


def find_trainer(name: str) -> type:
    """Search as nnU-Net does, without its chatter.

    Raises:
        LookupError: if there is none of that name.
        ValueError: if a module in a folder of `nnUNet_extTrainer` raises something.
    """
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        try:
            return recursive_find_trainer_class_by_name(name)
        except Exception as error:  # nnU-Net imports every module there, and they raise what they like
            if "Could not find requested nnunet trainer" in str(error):
                raise LookupError(name) from error
            what = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"nnU-Net cannot search for {name}: a module in nnUNet_extTrainer raises {what}; fix or move it"
            ) from error
