"""Segment an image as nnUNetv2_predict does, with a network that `nnunet-archs export --to onnx` wrote.

python sliding_window.py EXPORTED_FOLDER SEGMENTATION.nii.gz IMAGE_0000.nii.gz [IMAGE_0001.nii.gz ...]

It needs numpy, scipy, SimpleITK and onnxruntime; not nnU-Net, not nnunet-archs, not torch.
"""

import json
import sys
from itertools import chain, combinations, product
from pathlib import Path

import numpy as np
import onnxruntime
import SimpleITK
from scipy.ndimage import binary_fill_holes, gaussian_filter, zoom


def main(folder: Path, output: str, files: list[str]) -> None:
    """Read, preprocess, predict with every fold, and write the segmentation; all arrays are (C, z, y, x)."""
    model = json.loads((folder / "model.json").read_text())
    before, window, after = model["preprocessing"], model["sliding_window"], model["output"]
    if before["reader"] not in ("SimpleITKIO", "NibabelIO") or model["previous_stage"]:
        raise SystemExit(f"{before['reader']} and cascades are not in this example")
    images = [SimpleITK.ReadImage(file) for file in files]
    data = np.stack([SimpleITK.GetArrayFromImage(image) for image in images]).astype(np.float32)
    spacing = images[0].GetSpacing()[::-1]
    if is_flat := images[0].GetDimension() == 2:  # one slice, far from any other
        data, spacing = data[:, None], (999 * max(spacing), *spacing)
    data = data.transpose(0, *(a + 1 for a in before["transpose"]))
    spacing = [spacing[a] for a in before["transpose"]]
    whole, nonzero = data.shape[1:], binary_fill_holes((data != 0).any(0))
    box = tuple(slice(np.min(where), np.max(where) + 1) if where.size else slice(None) for where in np.nonzero(nonzero))
    data, nonzero = data[(slice(None), *box)], nonzero[box]
    for channel, how in zip(data, before["normalization"], strict=True):
        normalize(channel, nonzero if how["inside_nonzero_only"] else np.ones_like(nonzero), how)
    planned = [*spacing[: 3 - len(before["spacing"])], *before["spacing"]]  # 2D: slices stay where they are
    shape = [round(old / new * n) for old, new, n in zip(spacing, planned, nonzero.shape, strict=True)]
    data = resample(data, shape, (spacing, planned), before["resampling"])
    weights = [folder / fold["file"] for fold in model["weights"]["folds"].values()]
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # it would take new memory for a second run beside that of the first
    logits = sum(predict(onnxruntime.InferenceSession(file, options), data, window) for file in weights) / len(weights)
    logits = resample(logits, nonzero.shape, (planned, spacing), after["resampling"])
    if after["activation"] == "softmax":
        found = logits.argmax(0)
    else:  # regions, each over those before
        found = np.zeros(nonzero.shape, int)
        for region, label in zip(logits.astype(np.float32), after["regions_class_order"], strict=True):
            found[1 / (1 + np.exp(-region)) > 0.5] = label
    labels = np.zeros(whole, np.uint8 if found.max() < 255 else np.uint16)
    labels[box] = found
    labels = labels.transpose(after["transpose"])
    segmentation = SimpleITK.GetImageFromArray(labels[0] if is_flat else labels)
    segmentation.CopyInformation(images[0])
    SimpleITK.WriteImage(segmentation, output, True)


def normalize(x: np.ndarray, mask: np.ndarray, how: dict) -> None:
    """Normalise a channel in place."""
    if how["scheme"] == "CTNormalization":
        known = how["intensities"]
        np.clip(x, known["percentile_00_5"], known["percentile_99_5"], out=x)
        mean, std, mask = known["mean"], known["std"], np.ones_like(mask)
    elif how["scheme"] == "ZScoreNormalization":
        values = x if mask.all() else x[mask]
        mean, std = values.mean(), values.std()
    else:
        raise SystemExit(f"{how['scheme']} is not in this example; see nnU-Net's default_normalization_schemes.py")
    np.subtract(x, mean, out=x, where=mask)
    np.divide(x, max(std, 1e-8), out=x, where=mask)


def resample(x: np.ndarray, shape: list[int], spacings: tuple[list[float], list[float]], how: dict) -> np.ndarray:
    """Bring an image from one spacing to another: slice by slice where one axis is more than three times as coarse."""
    options = how["arguments"]
    if how["function"] != "resample_data_or_seg_to_shape" or options["order_z"] or options["force_separate_z"]:
        raise SystemExit(f"{how} is not in this example; see nnU-Net's default_resampling.py")
    if x.shape[1:] == tuple(shape):
        return x
    uneven = [s for s in spacings if max(s) > 3 * min(s) and options["force_separate_z"] is None]
    coarse = [a for a, s in enumerate(uneven[0]) if s == max(uneven[0])] if uneven else []
    out = np.empty((len(x), *shape), x.dtype)
    for y, channel in zip(out, x.astype(float), strict=True):
        if len(coarse) != 1:
            y[:] = resize(channel, shape, options["order"])
            continue
        y, channel = np.moveaxis(y, coarse[0], 0), np.moveaxis(channel, coarse[0], 0)
        slices = np.stack([resize(plane, y.shape[1:], options["order"]) for plane in channel])
        y[:] = slices[np.floor(len(slices) / len(y) * (np.arange(len(y)) + 0.5)).astype(int)]
    return out


def resize(x: np.ndarray, shape: list[int], order: int) -> np.ndarray:
    """Splines, of the range of values that was there."""
    factors = np.divide(shape, x.shape)
    return zoom(x, factors, order=order, mode="nearest", grid_mode=True).clip(x.min(), x.max())


def predict(network: onnxruntime.InferenceSession, data: np.ndarray, window: dict) -> np.ndarray:
    """Logits: the mean over windows, weighted by a Gaussian, and over their mirrored copies."""
    patch = [1] * (4 - len(network.get_inputs()[0].shape[1:])) + window["patch_size"]
    missing = [max(0, n - have) for n, have in zip(patch, data.shape[1:], strict=True)]
    data = np.pad(data, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    weight = np.zeros(patch)
    weight[tuple(n // 2 for n in patch)] = 1
    sigmas = [n * window["gaussian"]["sigma"] if n > 1 else 0 for n in patch]
    weight = gaussian_filter(weight, sigmas, mode="constant")
    weight = (weight / weight.max() * window["gaussian"]["peak"]).astype(window["accumulated_in"])
    weight[weight == 0] = weight[weight > 0].min()
    total, weights = None, np.zeros(data.shape[1:], weight.dtype)
    for start in product(*(starts(n, p, window["step"]) for n, p in zip(data.shape[1:], patch, strict=True))):
        here = tuple(slice(s, s + n) for s, n in zip(start, patch, strict=True))
        logits = mirrored(network, data[(slice(None), *here)].reshape(1, -1, *window["patch_size"]), window)
        if total is None:
            total = np.zeros((len(logits), *data.shape[1:]), weight.dtype)
        total[(slice(None), *here)] += logits.reshape(-1, *patch) * weight
        weights[here] += weight
    inner = tuple(slice(m // 2, n - (m - m // 2)) for m, n in zip(missing, weights.shape, strict=True))
    return (total / weights)[(slice(None), *inner)]


def starts(size: int, patch: int, step: float) -> list[int]:
    """Where windows begin along an axis: evenly, a step of the patch apart at most."""
    last = int(np.ceil((size - patch) / (patch * step)))
    return [int(np.round((size - patch) / max(last, 1) * i)) for i in range(last + 1)]


def mirrored(network: onnxruntime.InferenceSession, x: np.ndarray, window: dict) -> np.ndarray:
    """Mean of the logits (C, *patch) of a patch (1, C, *patch) and its mirrored copies."""
    axes = [a + 2 for a in window["mirroring_axes"]]
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
    runs = (network.run(None, {"image": np.ascontiguousarray(np.flip(x, flip))})[0] for flip in flips)
    return sum(np.flip(logits, flip) for flip, logits in zip(flips, runs, strict=True))[0] / len(flips)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
