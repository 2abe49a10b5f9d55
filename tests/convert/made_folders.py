"""Small made-up data sets in official layouts."""

import nibabel
import numpy as np
import SimpleITK
import tifffile
from scipy.io import savemat
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


def circle(centre, radius):
    """32 points (x, y), counted from 1 as MATLAB does."""
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1) + 1


def contours(centre, inner, outer):
    return np.concatenate([circle(centre, inner), np.zeros((1, 2)), circle(centre, outer)])


def make_york(folder, shape=(40, 60, 2, 3)):
    """Four subjects; the first slice of the last time is not annotated."""
    folder.mkdir(parents=True)
    for number in range(1, 5):
        cells = np.empty(shape[2:], dtype=object)
        for z, t in np.ndindex(cells.shape):
            cells[z, t] = contours((38.3, 17.6), 5 + number / 2, 9.5 + t)
        cells[0, -1] = np.array([[-99999.0]])
        volumes = rng(number).integers(0, 700, shape, dtype=np.int16)
        savemat(folder / f"sol_yxzt_pat{number}.mat", {"sol_yxzt": volumes})
        savemat(folder / f"manual_seg_32points_pat{number}.mat", {"manual_seg_32points": cells})
    return folder


def write_volume(file, array, spacing=(0.8, 0.7, 3.0)):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-12.0, 5.0, 40.0))
    SimpleITK.WriteImage(image, str(file))


def hounsfield(shape, seed=0):
    return rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def labelled(shape, *values):
    """A label map with a rod of each value."""
    array = np.zeros(shape, dtype=np.uint8)
    for row, value in enumerate(values):
        array[:, 2 + row, 3:9] = value
    return array


def make_covid19(folder):
    """Eight slices, the last two without any infection."""
    labels = labelled((8, 16, 20), 1, 2, 3)
    labels[6:] = 0
    write_volume(folder / "tr_im.nii.gz", hounsfield((8, 16, 20)).astype(np.float32))
    write_volume(folder / "tr_mask.nii.gz", labels)
    write_volume(folder / "val_im.nii.gz", hounsfield((2, 16, 20)))
    return folder


def make_kits19(folder):
    """The first axis of the files is the slice, as nibabel sees them, and the last with 3 mm the third in space."""
    for i in range(5):
        case = folder / "data" / f"case_{i:05}"
        write_turned(case / "imaging.nii.gz", hounsfield((6, 16, 20), seed=i))
        if i < 4:
            write_turned(case / "segmentation.nii.gz", labelled((6, 16, 20), 1, 2))
    return folder


def write_turned(file, array):
    """Axes (slice, y, x) of a NIfTI file with an affine that says so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.array([[0, 0, -0.8, 0], [0, -0.7, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(array, affine), file)


def make_lits(folder):
    for i in range(5):
        part = folder / f"Training Batch {1 + i % 2}"
        write_volume(part / f"volume-{i}.nii", hounsfield((6, 16, 20), seed=i))
        write_volume(part / f"segmentation-{i}.nii", labelled((6, 16, 20), 1, 2))
    return folder


def make_brats19(folder):
    for i in range(5):
        name = f"BraTS19_2013_{i}_1"
        case = folder / ("HGG" if i % 2 else "LGG") / name
        for seed, kind in enumerate(("t1", "t1ce", "t2", "flair")):
            write_volume(case / f"{name}_{kind}.nii.gz", hounsfield((6, 16, 20), seed))
        write_volume(case / f"{name}_seg.nii.gz", labelled((6, 16, 20), 1, 2, 4))
    return folder


def ring(centre, radius):
    """Pixels (x, y) of a square's edge, in order."""
    x, y = centre
    side = range(-radius, radius)
    top = [(x + i, y - radius) for i in side] + [(x + radius, y + i) for i in side]
    return top + [(x - i, y + radius) for i in side] + [(x - radius, y - i) for i in side]


def read_message(series, sessions):
    """An XML file of LIDC-IDRI's, of sessions that hold outlines (z, the image's UID, is an inclusion, points)."""

    def roi(z, image, inclusion, points):
        edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
        where = f"<imageZposition>{z}</imageZposition><imageSOP_UID>{image}</imageSOP_UID>"
        return f"<roi>{where}<inclusion>{str(inclusion).upper()}</inclusion>{edges}</roi>"

    nodules = [
        "<unblindedReadNodule>" + "".join(roi(*o) for o in outlines) + "</unblindedReadNodule>" for outlines in sessions
    ]
    read = "".join(f"<readingSession>{nodule}</readingSession>" for nodule in nodules)
    header = f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
    return f'<?xml version="1.0"?><LidcReadMessage xmlns="http://www.nih.gov">{header}{read}</LidcReadMessage>'


def make_dicom(folder, series, values, spacing=(0.7, 0.8, 2.5)):
    """A series of CT; the UIDs of its images from below upwards."""
    folder.mkdir(parents=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    uids = [f"{series}.{i}" for i in range(len(values))]
    for i, (plane, uid) in enumerate(zip(values, uids, strict=True)):
        image = SimpleITK.GetImageFromArray(plane)
        image.SetSpacing(spacing[:2])
        tags = {"0008|0018": uid, "0020|000d": "1.2.3", "0020|000e": series, "0008|0060": "CT", "0020|0013": str(i)}
        tags |= {"0020|0032": f"-10\\20\\{30 + spacing[2] * i}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        tags |= {"0028|1052": "0", "0028|1053": "1", "0018|0050": str(spacing[2])}
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{len(values) - i:06}.dcm"))
        writer.Execute(image)
    return uids


def make_lidc(folder):
    """Three of four readers see a nodule with a hole on slices 1 and 2, one sees another on slice 4."""
    for i in range(5):
        series = f"1.2.826.{i + 1}"
        place = folder / f"LIDC-IDRI-{i + 1:04}" / "study" / "series"
        uids = make_dicom(place, series, hounsfield((6, 24, 20), seed=i))
        nodule = [(30 + 2.5 * z, uids[z], True, ring((9, 12), 5)) for z in (1, 2)]
        nodule += [(30 + 2.5 * z, uids[z], False, ring((9, 12), 1)) for z in (1, 2)]
        small = [(40.0, uids[4], True, [(3, 3)])]
        sessions = [nodule, nodule, [*nodule, *small], [(40.0, uids[4], True, ring((9, 12), 4))]]
        (place / "max.xml").write_text(read_message(series, sessions))
    radiograph = folder / "LIDC-IDRI-0001" / "study" / "radiograph"
    radiograph.mkdir()
    (radiograph / "max.xml").write_text('<IdriReadMessage xmlns="http://www.nih.gov"></IdriReadMessage>')
    return folder


def make_luna16(folder):
    """Two subsets; a nodule in each scan but the last."""
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    for i in range(5):
        series = f"1.3.6.{i}"
        write_volume(folder / f"subset{i % 2}" / f"{series}.mhd", hounsfield((6, 24, 20), seed=i))
        if i < 4:
            rows.append(f"{series},-4.3,13.2,49.1,{6 + i}.5")
    (folder / "annotations.csv").write_text("\n".join(rows))
    return folder


# how to make each, and a file without which it is not whole
MADE = {
    "dsb2018": (make_dsb2018, "stage1_train/id3/images/id3.png"),
    "glas": (make_glas, "testA_2.bmp"),
    "isic2018": (make_isic2018, "ISIC2018_Task1-2_Training_Input/ISIC_0000003.jpg"),
    "liver400": (make_liver400, "val/001.png"),
    "isbi2012": (make_isbi2012, "train-labels.tif"),
    "york": (make_york, "manual_seg_32points_pat2.mat"),
    "covid19": (make_covid19, "tr_mask.nii.gz"),
    "kits19": (make_kits19, "data/case_00002/imaging.nii.gz"),
    "lits": (make_lits, "Training Batch 2/volume-3.nii"),
    "brats19": (make_brats19, "HGG/BraTS19_2013_3_1/BraTS19_2013_3_1_t1ce.nii.gz"),
    "luna16": (make_luna16, "annotations.csv"),
    "lidc": (make_lidc, None),
}
