"""Segment the image in /input by the models in /opt/ml/model, and write the label map to /output.

Outside a container, give the folders: python inference.py --input ... --output ... --model ...
"""

import argparse
import json
import sys
import time
from pathlib import Path


def main() -> int:
    """Segment one case; 2 where the input is not as settings.json has it."""
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("input", "/input"), ("output", "/output"), ("model", "/opt/ml/model")):
        parser.add_argument(f"--{name}", type=Path, default=Path(default), metavar="FOLDER")
    args = parser.parse_args()
    settings = json.loads((Path(__file__).parent / "settings.json").read_text())
    try:
        images = find_images(args.input, settings["inputs"])
    except (OSError, ValueError, KeyError) as error:
        print(f"{args.input}: {error!r}; inputs are {', '.join(settings['inputs'])}", file=sys.stderr)
        return 2

    import SimpleITK

    from nnunet_archs.deploy.dicom import write_segmentation
    from nnunet_archs.deploy.inference import names_of, segment

    limit = settings["time_limit"]
    try:
        label_map = segment(
            images,
            args.model,
            step_size=settings["step_size"],
            mirroring=settings["mirroring"],
            end=begun + limit if limit else None,
        )
        folder = args.output / "images" / settings["output"]
        folder.mkdir(parents=True, exist_ok=True)
        if settings["dicom"] and images[0].is_dir():
            write_segmentation(label_map, names_of(args.model), images[0], folder / f"{images[0].name}.dcm")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    target = folder / f"{images[0].stem}.mha"
    unfinished = folder / f".{target.name}"
    SimpleITK.WriteImage(label_map, str(unfinished), True, imageIO="MetaImageIO")
    unfinished.rename(target)
    print(f"{target} after {time.monotonic() - begun:.0f} s")
    return 0


def find_images(folder: Path, slugs: list[str]) -> list[Path]:
    """The image of every socket, by inputs.json."""
    sockets = [entry.get("socket") or entry["interface"] for entry in json.loads((folder / "inputs.json").read_text())]
    paths = {socket["slug"]: folder / socket["relative_path"] for socket in sockets}
    return [find_image(paths[slug]) for slug in slugs]


def find_image(folder: Path) -> Path:
    """The one image in a folder; the folder itself, where it holds the files of a DICOM series."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in (".mha", ".tif", ".tiff")]
    if not files and any(folder.iterdir()):
        return folder
    if len(files) != 1:
        raise ValueError(f"{folder} holds {len(files)} images, and one is expected")
    return files[0]


if __name__ == "__main__":
    sys.exit(main())
