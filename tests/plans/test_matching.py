"""Plans of equal budget: the patch and batch of given plans, and no more of memory or parameters."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from planning import HIPPOCAMPUS, set_folders, write_datasets

from nnunet_archs.nnunet.plans import BUDGET
from nnunet_archs.nnunet.plans import budget as made_for
from nnunet_archs.plans.matching import match, parameters, peak_memory
from nnunet_archs.plans.planner import WIDTH_STEP, planner_class, with_base_width
from nnunet_archs.trainers.registry import resolve_paper

COSTS = {"memory": peak_memory, "parameters": parameters}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plans for nnU-Net's own network, and their dataset.json."""
    root = tmp_path_factory.mktemp("matching")
    with pytest.MonkeyPatch.context() as patch:
        write_datasets(root)
        set_folders(root, patch)
        plain = resolve_paper("PlainConvUNetTrainer")
        planner = planner_class(plain, 8)(HIPPOCAMPUS, plain, gpu_memory=8)
        return planner.plan(), planner.dataset_json


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("CAggNetTrainer", "memory"),
        ("CAggNetTrainer", "parameters"),
        ("FocusNetPlusPlusTrainer", "parameters"),
    ],
)
def test_the_widest_network_within_the_budget(given: Any, name: str, by: Any) -> None:
    plans, dataset_json = given
    before = deepcopy(plans)
    trainer, plain = resolve_paper(name), resolve_paper("PlainConvUNetTrainer")
    matched = match(plans, trainer, dataset_json, by)
    assert plans == before
    for configuration in ("2d", "3d_fullres"):
        theirs, ours = (PlansManager(p).get_configuration(configuration) for p in (plans, matched))
        untouched, kept = (
            {key: value for key, value in of.configuration.items() if key not in ("architecture", BUDGET)}
            for of in (theirs, ours)
        )
        assert untouched == kept
        sizes = {"gpu_memory": 8, "base_width": None}
        assert ours.configuration[BUDGET] == made_for(trainer.__name__, **sizes, match=plans["plans_name"], by=by)
        budget = COSTS[by](PlansManager(plans), dataset_json, plain, theirs)
        assert COSTS[by](PlansManager(matched), dataset_json, trainer, ours) <= budget
        wider = deepcopy(matched)
        width = ours.network_arch_init_kwargs["features_per_stage"][0] + WIDTH_STEP
        own = wider["configurations"][configuration]
        own["architecture"] = with_base_width(own["architecture"], width)
        wide = PlansManager(wider).get_configuration(configuration)
        assert COSTS[by](PlansManager(wider), dataset_json, trainer, wide) > budget


def test_a_network_that_no_trainer_has_is_refused(given: Any) -> None:
    plans = deepcopy(given[0])
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "somewhere.Else"
    with pytest.raises(ValueError, match=r"somewhere.Else is the network of no trainer here"):
        match(plans, resolve_paper("CAggNetTrainer"), given[1], "memory")


def test_a_width_that_the_name_states_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="its name says how wide the network is"):
        match(given[0], resolve_paper("FocusNetPlusPlusTrainer_S"), given[1], "memory")
