"""What `nnunet-archs list` prints, made once."""

from typing import Any

import pytest

from nnunet_archs.trainers.listing import listing


@pytest.fixture(scope="session")
def rows() -> dict[tuple[str, str], dict[str, Any]]:
    """The rows, by the paper and the name that it gives the system."""
    return {(row["paper"], row["configuration"] or row["trainer"]): row for row in listing()}
