"""The papers' augmentation: colours as other packages have them, and what is left of images and labels."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import make_sample
from skimage.color import hsv2rgb, rgb2hsv

from nnunet_archs.trainers.augmentation import HueSaturationValueTransform, to_hsv, to_rgb
from nnunet_archs.trainers.registry import resolve_paper


def picture() -> torch.Tensor:
    """Random colours, greys, black, white and pure ones."""
    pixels = np.random.default_rng(0).random((6, 4, 3))
    pixels[0] = [[0, 0, 0], [1, 1, 1], [0.3, 0.3, 0.3], [1, 0, 0]]
    pixels[1] = [[0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]
    return torch.from_numpy(pixels).permute(2, 0, 1)


def last_axis(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


class TestColours:
    def test_hsv_is_scikit_images(self) -> None:
        assert np.allclose(last_axis(to_hsv(picture())), rgb2hsv(last_axis(picture())), atol=1e-12)

    def test_back_again(self) -> None:
        assert torch.allclose(to_rgb(to_hsv(picture())), picture(), atol=1e-12)
        hsv = picture()
        assert np.allclose(last_axis(to_rgb(hsv)), hsv2rgb(last_axis(hsv)), atol=1e-12)

    def test_shifts(self) -> None:
        transformed = HueSaturationValueTransform(0.4, -0.3, 0.2)(image=picture())["image"]
        before, after = (last_axis(image).reshape(-1, 3) for image in (picture(), transformed))
        for given, pixel in zip(before, after, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*given)
            shifted = (hue + 0.4) % 1, max(saturation - 0.3, 0), min(value + 0.2, 1)
            assert np.allclose(pixel, colorsys.hsv_to_rgb(*shifted), atol=1e-12)

    def test_other_images_have_no_colour(self) -> None:
        image = torch.rand(1, 4, 4)
        assert torch.equal(HueSaturationValueTransform(0.4, 0.3, 0.2)(image=image)["image"], image)


RECIPES = ["UNetSharpTrainer_recipe", "CrosslinkNetTrainer_recipe", "CrosslinkNetTrainer_recipeCardiac"]


@pytest.mark.parametrize("patch", [[32, 32], [32, 24], [8, 16, 16]], ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_sizes_and_labels_stay(name: str, patch: list[int]) -> None:
    transforms = resolve_paper(name).get_training_transforms(patch, 0, [[1.0] * len(patch)], None, False)
    torch.manual_seed(0)
    np.random.seed(0)
    images = []
    for _ in range(12):
        sample = transforms(**make_sample(np.random.default_rng(0), patch, 3, None))
        (labels,) = sample["segmentation"]
        assert list(sample["image"].shape) == [3, *patch]
        assert list(labels.shape) == [1, *patch]
        assert set(labels.unique().tolist()) <= {0, 1, 2}
        images.append(sample["image"])
    assert len({image.sum().item() for image in images}) >= 4  # of the cardiac ones, there are four


@pytest.mark.parametrize("name", ["CAggNetTrainer_recipe", "CrosslinkNetTrainer_recipeKiTS"])
def test_no_augmentation(name: str) -> None:
    given = make_sample(np.random.default_rng(0), [32, 24], 1, None)
    transforms = resolve_paper(name).get_training_transforms([32, 24], 0, None, None, False)
    sample: dict[str, Any] = transforms(**{key: value.clone() for key, value in given.items()})
    assert torch.equal(sample["image"], given["image"])
    assert torch.equal(sample["segmentation"], given["segmentation"])


def test_zoom_is_larger_than_one_where_the_object_grows() -> None:
    patch, transforms = [64, 64], resolve_paper("CrosslinkNetTrainer_recipe").get_training_transforms
    disc = torch.zeros(1, *patch)
    disc[0, 24:40, 24:40] = 1
    np.random.seed(0)
    torch.manual_seed(0)
    areas = []
    for _ in range(200):
        sample = transforms(patch, 0, None, None, False)(image=disc.clone(), segmentation=disc.to(torch.int16))
        areas.append(float(sample["image"].sum()) / 256)
    zooms = np.sqrt(areas)
    assert 0.49 < zooms.min() < 0.55
    assert 1.7 < zooms.max() < 1.76
    assert np.mean(zooms) == pytest.approx((0.5 + 1.75) / 2, abs=0.06)


def test_cardiac_images_are_enlarged_twice_or_not_at_all() -> None:
    patch, transforms = [64, 64], resolve_paper("CrosslinkNetTrainer_recipeCardiac").get_training_transforms
    square = torch.zeros(1, *patch)
    square[0, 24:40, 24:40] = 1
    np.random.seed(0)
    areas = {
        round(float(transforms(patch, 0, None, None, False)(image=square.clone())["image"].sum()) / 256, 1)
        for _ in range(30)
    }
    assert areas == {1.0, 4.0}
