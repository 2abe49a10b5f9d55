"""Trainers by name: ours, nnU-Net's, and those in the user's own folders."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout


def find_trainer(name: str) -> type:
    """Search as nnU-Net does, without its chatter.

    Raises:
        LookupError: if there is none of that name.
    """
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        try:
            return recursive_find_trainer_class_by_name(name)
        except RuntimeError as error:
            if "Could not find requested nnunet trainer" not in str(error):
                raise
            raise LookupError(name) from error
