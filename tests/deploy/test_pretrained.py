from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from models import NAME, save_model

from nnunet_archs.deploy.export import export
from nnunet_archs.deploy.pretrained import from_pretrained
from nnunet_archs.deploy.trained import open_folder, open_model

OUT = Path("out")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def validate(folder: Path, fold: int, dice: dict[str, float], mean: float) -> None:
    """Write nnU-Net's summary of a fold's validation."""
    (folder / f"fold_{fold}" / "validation").mkdir()
    summary = {"mean": {key: {"Dice": value} for key, value in dice.items()}, "foreground_mean": {"Dice": mean}}
    (folder / f"fold_{fold}" / "validation" / "summary.json").write_text(json.dumps(summary))


def test_a_card_that_the_hub_reads() -> None:
    folder = save_model(folds=(0, 1), target="regions")
    validate(folder, 0, {"(1, 2)": 0.5, "2": 0.25}, 0.375)
    validate(folder, 1, {"(1, 2)": 0.75, "2": float("nan")}, 0.75)
    export(folder, "safetensors", None, OUT)
    card = ModelCard.load(OUT / "README.md", ignore_metadata_errors=False)
    assert (card.data.library_name, card.data.license, card.data.pipeline_tag) == (
        "nnunet-archs",
        "other",
        "image-segmentation",
    )
    assert {"nnunet", "2d", "safetensors"} <= set(card.data.tags)
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results == {
        "Dice, mean, mean of 2 folds": 0.5625,
        "Dice, whole, mean of 2 folds": 0.625,
        "Dice, lesion, mean of 2 folds": 0.25,
    }
    assert "| 0 | 0.3750 | 0.5000 | 0.2500 |\n| 1 | 0.7500 | 0.7500 | – |\n" in card.text
    assert NAME in card.text


def test_loaded_from_a_folder_and_from_the_hubs_cache(tmp_path: Path) -> None:
    folder = save_model(folds=(0, 1))
    facts = export(folder, "safetensors", None, OUT)
    source = open_folder(folder)
    trained = open_model(source, source.load("0"))
    x = torch.randn(2, *facts["network"]["input"]["shape"][1:])
    with torch.no_grad():
        expected = (trained.with_weights("0")(x) + trained.with_weights("1")(x)) / 2
    model = from_pretrained(OUT)
    assert model.facts == json.loads((OUT / "model.json").read_text())
    torch.testing.assert_close(model(x), expected)
    assert "Not measured" in (OUT / "README.md").read_text(encoding="utf-8")
    # as huggingface_hub keeps what it has downloaded
    kept = tmp_path / "hub" / "models--somebody--model"
    shutil.copytree(OUT, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    torch.testing.assert_close(from_pretrained("somebody/model", cache_dir=tmp_path / "hub")(x), expected)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    for name in ("somebody/else", "no such: name"):
        with pytest.raises(ValueError, match=r"is no folder here, .* USER/MODEL"):
            from_pretrained(name, cache_dir=tmp_path)
    folder = save_model()
    with pytest.raises(ValueError, match=r"no model\.json"):
        from_pretrained(folder)
    facts = export(folder, "safetensors", None, OUT)
    with (OUT / "fold_0.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"fold_0\.safetensors is missing, or not as model\.json has it"):
        from_pretrained(OUT)
    (OUT / "model.json").write_text(json.dumps({**facts, "format_version": 99}))
    with pytest.raises(ValueError, match="format_version 99"):
        from_pretrained(OUT)
