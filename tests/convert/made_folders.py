"""Small made-up data sets in official layouts."""

import numpy as np
import tifffile
from skimage.io import imsave


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(*shape, seed=0):
    return rng(seed).integers(0, 256, shape, dtype=np.uint8)


def disc(shape, centre, radius):
    rows, columns = np.indices(shape)
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def write(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    imsave(file, array, check_contrast=False)


def make_dsb2018(folder):
    """RGBA, grey and odd sizes; nuclei that touch; files that do not belong there."""
    for i, shape in enumerate([(24, 30, 4), (25, 17, 4), (20, 20), (16, 40, 4), (24, 24, 4), (31, 16, 3)]):
        case = folder / "stage1_train" / f"id{i}"
        write(case / "images" / f"id{i}.png", picture(*shape, seed=i))
        for nucleus, column in enumerate((5, 8, 13)):
            write(case / "masks" / f"nucleus{nucleus}.png", 255 * disc(shape[:2], (8, column), 3).astype(np.uint8))
        (case / "masks" / "._nucleus0.png").write_bytes(b"what macOS leaves in archives")
    (folder / "stage1_train" / "notes.txt").write_text("a stray file")
    return folder


def make_glas(folder):
    """Ids of glands up to 255, in train, test A and test B; landscape and portrait."""
    for i, name in enumerate(["train_1", "train_2", "train_10", "testA_1", "testA_2", "testB_1"]):
        shape = (20, 30) if i % 2 else (36, 16)
        ids = np.zeros(shape, dtype=np.uint8)
        for gland, row in ((1, 4), (2, 9), (255, 15)):
            ids[disc(shape, (row, 8), 3)] = gland
        write(folder / f"{name}.bmp", picture(*shape, 3, seed=i))
        write(folder / f"{name}_anno.bmp", ids)
    (folder / "Grade.csv").write_text("name,grade\n")
    return folder


def make_isic2018(folder):
    for i in range(10):
        name = f"ISIC_{i:07}"
        write(folder / "ISIC2018_Task1-2_Training_Input" / f"{name}.jpg", picture(24, 32, 3, seed=i))
        mask = 255 * disc((24, 32), (10, 14), 7).astype(np.uint8)
        write(folder / "ISIC2018_Task1_Training_GroundTruth" / f"{name}_segmentation.png", mask)
    return folder


def make_liver400(folder):
    for part, n in (("train", 3), ("val", 2)):
        for i in range(n):
            grey = picture(20, 24, seed=i)
            write(folder / part / f"{i:03}.png", np.stack([grey] * 3, axis=-1) if i else grey)
            write(folder / part / f"{i:03}_mask.png", 255 * disc((20, 24), (8, 9), 5).astype(np.uint8))
    return folder


def make_isbi2012(folder):
    folder.mkdir(parents=True, exist_ok=True)
    cells = np.stack([255 * disc((16, 18), (8, 8), 3 + i % 4).astype(np.uint8) for i in range(10)])
    tifffile.imwrite(folder / "train-volume.tif", picture(10, 16, 18), photometric="minisblack")
    tifffile.imwrite(folder / "train-labels.tif", cells, photometric="minisblack")
    return folder


# how to make each, and a file without which it is not whole
MADE = {
    "dsb2018": (make_dsb2018, "stage1_train/id3/images/id3.png"),
    "glas": (make_glas, "testA_2.bmp"),
    "isic2018": (make_isic2018, "ISIC2018_Task1-2_Training_Input/ISIC_0000003.jpg"),
    "liver400": (make_liver400, "val/001.png"),
    "isbi2012": (make_isbi2012, "train-labels.tif"),
}
