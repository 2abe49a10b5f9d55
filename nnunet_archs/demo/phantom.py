"""Draw a small CT-like data set: bodies with a spine, an organ and, inside the organ, a lesion."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json
from scipy.ndimage import gaussian_filter

SHAPE = (16, 48, 48)  # voxels, in numpy's order z, y, x
SPACING = (3.0, 1.0, 1.0)  # mm, in the same order
SEED = 20240229
N_TRAINING, N_TEST = 12, 4
LABELS = {"background": 0, "organ": 1, "lesion": 2}
AIR, FAT, MUSCLE, BONE = -1000, -90, 45, 420  # HU

Image = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]


def draw_case(rng: np.random.Generator) -> tuple[Image, Labels]:
    """Return one case on the grid (z, y, x) of `SHAPE`: the image in HU and its label map."""
    size = np.multiply(SHAPE, SPACING)
    grid = np.stack(np.meshgrid(*[_axis(n, mm) for n, mm in zip(SHAPE, SPACING, strict=True)], indexing="ij"))
    wobble = gaussian_filter(rng.normal(size=SHAPE), np.divide(6.0, SPACING))
    wobble *= rng.uniform(0.04, 0.1) / wobble.std()

    def ellipsoid(centre: npt.ArrayLike, radii: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        offset = (grid - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(radii, (3, 1, 1, 1))
        return np.linalg.norm(offset, axis=0) * (1 + wobble) < 1

    endless = 10 * size[0]  # the body and the spine leave the image above and below
    body_radii = np.array([endless, rng.uniform(18, 21), rng.uniform(21, 24)])
    organ_centre = rng.uniform([-8, -5, -8], [8, 1, 2])
    organ_radii = rng.uniform([13, 8, 9], [19, 11, 13])
    direction = rng.normal(size=3)
    lesion_centre = organ_centre + 0.45 * organ_radii * direction / np.linalg.norm(direction)
    organ = ellipsoid(organ_centre, organ_radii)
    lesion = organ & ellipsoid(lesion_centre, rng.uniform([5.5, 3.5, 3.5], [8.5, 5.5, 5.5]))

    image = np.full(SHAPE, AIR, dtype=np.float64)
    image[ellipsoid([0, 0, 0], body_radii)] = FAT
    image[ellipsoid([0, 0, 0], body_radii - 2.5)] = MUSCLE
    image[ellipsoid([0, 13, 0], [endless, 4, 4])] = BONE
    image[organ] = rng.uniform(110, 150)
    image[lesion] = rng.uniform(200, 250)
    image = gaussian_filter(image, np.divide(0.6, SPACING)) + rng.normal(scale=rng.uniform(15, 25), size=SHAPE)
    return np.rint(image).astype(np.int16), (organ.astype(np.uint8) + lesion).astype(np.uint8)


def write_phantom(folder: Path) -> None:
    """Write the data set as nnU-Net's raw data into `folder`: 12 cases to train on, 4 in imagesTs and labelsTs."""
    rng = np.random.default_rng(SEED)
    for number in range(N_TRAINING + N_TEST):
        part = "Tr" if number < N_TRAINING else "Ts"
        image, labels = draw_case(rng)
        _write(image, folder / f"images{part}" / f"phantom_{number:03d}_0000.nii.gz")
        _write(labels, folder / f"labels{part}" / f"phantom_{number:03d}.nii.gz")
    generate_dataset_json(
        str(folder), {0: "CT"}, dict(LABELS), N_TRAINING, ".nii.gz",
        description="CT-like phantom drawn by nnunet-archs", license="CC0-1.0", converted_by="nnunet-archs",
    )  # fmt: skip


def _axis(n_voxels: int, spacing: float) -> npt.NDArray[np.float64]:
    """Return the voxels' positions along one axis in mm, 0 in the middle."""
    return spacing * (np.arange(n_voxels, dtype=np.float64) - (n_voxels - 1) / 2)


def _write(array: npt.NDArray[np.generic], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    sitk.WriteImage(image, str(path))
