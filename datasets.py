"""CelebA, FairFace and drawn portraits, as uint8 tensors.

    python datasets.py               checks DATA_DIR and prints its counts; decodes every image once, for all later runs
    python datasets.py --DRAW=toy    draws portraits into toy/, in the layout of the real data sets

Layouts that are read (full names in the README):
    celeba/{train,val,test}/*.jpg with list_attr_celeba.csv
    celeba/img_align_celeba/*.jpg with list_attr_celeba and list_eval_partition, as .csv (Kaggle) or .txt (torchvision)
    fairface/{train,val}/*.jpg with fairface_label_train.csv, fairface_label_val.csv (the first may be missing)
"""

import hashlib
import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

import portraits
import settings
from records import replacing
from settings import CELEBA_FRAME, DATA_DIR, FAIRFACE_FRAME, IMAGE_SIZE, SEED, Stop

# -----------------------------------------------------------------------------
DRAW = ""  # a new folder to draw portraits into; "" draws none
# -----------------------------------------------------------------------------

GROUPS = [("White", "Male"), ("White", "Female"), ("Black", "Male"), ("Black", "Female")]
GROUP_NAMES = ["white men", "white women", "black men", "black women"]
AGES = ["20-29", "30-39", "40-49", "50-59"]
IMAGES_PER_GROUP = 500  # at most, in each of the three FairFace sets
CACHE_DIR = ".cache"    # decoded images; safe to delete
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1], as torchvision's weights expect


class Faces(NamedTuple):
    images: torch.Tensor  # (N, 3, S, S) uint8, channels last in memory
    male: torch.Tensor    # (N,) int64: 1 male, 0 female, the class index
    group: torch.Tensor   # (N,) int64: index into GROUPS; -1 in CelebA, which has no race labels

    def take(self, rows):
        """The faces at `rows`, an index or mask over the N."""
        return Faces(*(tensor[rows] for tensor in self))


def celeba(data_dir, split, image_size, frame):
    """CelebA's "train", "val" or "test" as Faces. Raises Stop on bad files."""
    table = celeba_table(data_dir)
    table = table[table.split == split]
    if table.male.nunique() < 2:
        raise Stop(f"{data_dir}/celeba: its {split} split needs images of both genders, has {len(table)} images")
    return _faces(f"celeba-{split}", table, image_size, frame)


def fairface(data_dir, purpose, image_size, frame):
    """FairFace's set for "values", "choose" or "report" as Faces. Raises Stop on bad files."""
    table = fairface_table(data_dir)
    return _faces(f"fairface-{purpose}", table[table.purpose == purpose], image_size, frame)


def digest(faces):
    """Short hash of a set of faces, which ties records to it."""
    state = hashlib.sha256()
    for tensor in faces:
        for rows in tensor.split(1000):  # the images may be larger than the memory
            state.update(rows.contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def normalise(images, device):
    """(B, 3, S, S) uint8 -> float32 on `device`, with ImageNet's mean 0 and standard deviation 1."""
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (MEAN, STD))
    images = images.to(device).to(torch.float32, memory_format=torch.channels_last)
    return images.div_(255).sub_(mean).div_(std)


# ----------------------------------------------------------------------------- label files


def celeba_table(data_dir):
    """One row an image: path, split (train | val | test), male (0 | 1). Raises Stop."""
    folder = _folder(data_dir, "celeba")
    labels_path, labels = _celeba_labels(folder, "list_attr_celeba", txt={"skiprows": 1, "index_col": 0})
    _require_columns(labels_path, labels, ["Male"])
    if not labels["Male"].isin([-1, 1]).all():
        raise Stop(f"{labels_path}: the column Male must hold -1 and 1 only")
    if os.path.isdir(os.path.join(folder, "train")):
        where = {name: (os.path.join(folder, split, name), split)
                 for split in ("train", "val", "test") for name in _images(os.path.join(folder, split))}
    else:
        splits_path, splits = _celeba_labels(folder, "list_eval_partition",
                                             txt={"header": None, "index_col": 0, "names": ["partition"]})
        _require_columns(splits_path, splits, ["partition"])
        if not splits["partition"].isin([0, 1, 2]).all():
            raise Stop(f"{splits_path}: the column partition must hold 0, 1 and 2 only")
        images = os.path.join(folder, "img_align_celeba")
        if os.path.isdir(os.path.join(images, "img_align_celeba")):  # Kaggle's archive nests the folder
            images = os.path.join(images, "img_align_celeba")
        present = set(_images(images))
        where = {name: (os.path.join(images, name), ("train", "val", "test")[part])
                 for name, part in splits["partition"].items() if name in present}
    if not where:
        raise Stop(f"{folder}: no images in train/, val/, test/ or img_align_celeba/; unpack CelebA there")
    _require_images(labels_path, labels.index, where, folder)
    table = pd.DataFrame([where[name] for name in labels.index], columns=["path", "split"])
    table["male"] = (labels["Male"].to_numpy() == 1).astype(np.int64)
    return table.sort_values("path", ignore_index=True)


def fairface_table(data_dir):
    """One row an image of GROUPS and AGES: path, male (0 | 1), group (index), purpose (values | choose | report).

    With both label files, "values" and "choose" are cut from train/ and "report" is from val/; with
    only the latter, all three are cut from val/. The cut depends on the files alone, not on SEED, so
    that an image which reports in one run chooses in none. Images left over have purpose "".
    """
    folder = _folder(data_dir, "fairface")
    sources = {"val": ["report"], "train": ["values", "choose"]}
    if not os.path.exists(os.path.join(folder, "fairface_label_train.csv")):
        sources = {"val": ["values", "choose", "report"]}
    tables = []
    for source, purposes in sources.items():
        table = _fairface_labels(folder, source)
        for group, name in enumerate(GROUP_NAMES):
            rows = np.flatnonzero(table.group == group)
            size = min(IMAGES_PER_GROUP, len(rows) // len(purposes))
            if size == 0:
                raise Stop(f"{folder}/fairface_label_{source}.csv: {len(rows)} images of {name} aged 20 to 59; "
                           f"the sets {', '.join(purposes)} need at least one each")
            rows = np.random.default_rng(group).permutation(rows)
            for part, purpose in enumerate(purposes):
                table.loc[rows[part * size:(part + 1) * size], "purpose"] = purpose
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _fairface_labels(folder, source):
    path = os.path.join(folder, f"fairface_label_{source}.csv")
    labels = _read_csv(path, dtype=str)
    _require_columns(path, labels, ["file", "age", "gender", "race"])
    present = {f"{source}/{name}" for name in _images(os.path.join(folder, source))}
    _require_images(path, labels["file"], present, folder)
    group = {pair: index for index, pair in enumerate(GROUPS)}
    labels["group"] = [group.get(pair, -1) for pair in zip(labels["race"], labels["gender"])]
    labels = labels[labels["age"].isin(AGES) & (labels["group"] >= 0)].sort_values("file", ignore_index=True)
    return pd.DataFrame({"path": [os.path.join(folder, file) for file in labels["file"]],
                         "male": (labels["gender"] == "Male").astype(np.int64),
                         "group": labels["group"], "purpose": ""})


def _folder(data_dir, name):
    folder = os.path.join(data_dir, name)
    if not os.path.isdir(folder):
        raise Stop(f"{folder}: no such folder; DATA_DIR must be the folder that holds celeba/ and fairface/ as the README "
                   "shows. Or draw portraits: python datasets.py --DRAW=toy")
    return folder


def _images(folder):
    if not os.path.isdir(folder):
        return []
    return [name for name in os.listdir(folder) if name.lower().endswith((".jpg", ".jpeg", ".png"))]


def _celeba_labels(folder, name, txt):
    """A label file of CelebA, as csv (Kaggle) or txt (torchvision), indexed by image name."""
    path = os.path.join(folder, f"{name}.csv")
    if os.path.exists(path):
        table = _read_csv(path)
        _require_columns(path, table, ["image_id"])
        return path, table.set_index("image_id")
    path = os.path.join(folder, f"{name}.txt")
    if not os.path.exists(path):
        raise Stop(f"{folder}: neither {name}.csv nor {name}.txt; download it with CelebA")
    return path, _read_csv(path, sep=r"\s+", **txt)


def _read_csv(path, **options):
    if not os.path.exists(path):
        raise Stop(f"{path} is missing; download it with the data set")
    try:
        return pd.read_csv(path, **options)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' parser and empty-file errors are ValueErrors
        raise Stop(f"{path} cannot be read ({error}); download it again") from None


def _require_columns(path, table, columns):
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise Stop(f"{path}: no column {', '.join(missing)}; it needs {', '.join(columns)}")


def _require_images(path, names, present, folder):
    missing = [name for name in names if name not in present]
    if missing:
        raise Stop(f"{path}: {len(missing)} of {len(names)} rows have no image in {folder}, the first {missing[0]}; "
                   "add the images or take the rows out")
    duplicates = names[pd.Index(names).duplicated()]
    if len(duplicates):
        raise Stop(f"{path}: two rows for {list(duplicates)[0]}; keep one")


# ----------------------------------------------------------------------------- decoding


def _faces(name, table, image_size, frame):
    images = _decode(name, list(table["path"]), image_size, frame)
    group = table["group"].to_numpy() if "group" in table else np.full(len(table), -1)
    return Faces(images, torch.tensor(table["male"].to_numpy()), torch.tensor(group))


def _decode(name, paths, image_size, frame):
    """(N, 3, S, S) uint8, mapped from a cache file whose name changes with files, size and framing."""
    stats = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in map(os.path.abspath, paths)]
    digest = hashlib.sha256(json.dumps([stats, image_size, frame]).encode()).hexdigest()[:16]
    cache = os.path.join(CACHE_DIR, f"{name}-{image_size}px-{digest}.npy")
    if not os.path.exists(cache):
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), image_size, image_size, 3)}
        with (replacing(cache) as temporary, open(temporary, "wb") as file,
              ThreadPoolExecutor(os.cpu_count()) as pool):  # Pillow lets other threads run while it decodes
            np.lib.format.write_array_header_1_0(file, header)
            with tqdm(total=len(paths), desc=f"decoding {name}", unit=" images") as bar:
                for start in range(0, len(paths), 1024):  # no more are held in memory, should the disk be slow
                    for image in pool.map(lambda path: read_image(path, image_size, frame), paths[start:start + 1024]):
                        file.write(image)
                        bar.update()
    try:
        images = np.load(cache, mmap_mode="r")
    except (ValueError, EOFError):
        raise Stop(f"{cache} is damaged; delete it and run again") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would have it writable; nothing writes to it
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def read_image(path, image_size, frame):
    """(S, S, 3) uint8 of the part of an image inside `frame`."""
    try:
        with Image.open(path) as image:
            box = [fraction * side for fraction, side in zip(frame, image.size * 2)]
            return np.asarray(image.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC, box))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Stop(f"{path} cannot be decoded ({error}); replace it, or take out the file and its row") from None


# ----------------------------------------------------------------------------- checking


def counts(data_dir):
    """Images per data set, set and group, as a DataFrame."""
    rows = [("celeba", split, ("women", "men")[male], len(rows))
            for (split, male), rows in celeba_table(data_dir).groupby(["split", "male"])]
    table = fairface_table(data_dir)
    rows += [("fairface", purpose, GROUP_NAMES[group], len(rows))
             for (purpose, group), rows in table[table.purpose != ""].groupby(["purpose", "group"])]
    return pd.DataFrame(rows, columns=["data", "set", "group", "images"])


def main():
    data_dir = DATA_DIR
    if DRAW:
        if os.path.exists(DRAW):
            raise Stop(f"{DRAW} exists; draw into a new folder, or delete this one first")
        partial = f"{DRAW.rstrip('/')}.{os.getpid()}.tmp"
        try:
            portraits.write(partial, SEED)
            os.rename(partial, DRAW)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        data_dir = DRAW
    table = counts(data_dir)
    print(table.pivot_table(index=["data", "set"], columns="group", values="images", sort=False)
          .map(lambda images: "-" if np.isnan(images) else f"{images:.0f}").to_string())
    for split in ("train", "val", "test"):  # decoding finds damaged files, and later scripts start at once
        celeba(data_dir, split, IMAGE_SIZE, CELEBA_FRAME)
    for purpose in ("values", "choose", "report"):
        fairface(data_dir, purpose, IMAGE_SIZE, FAIRFACE_FRAME)
    print(f"{data_dir}: every label has its image, and every image could be decoded.")


if __name__ == "__main__":
    settings.run(main, globals())
