"""CelebA, FairFace, MNIST, any folder of images, and drawn images, as uint8 tensors.

    python datasets.py               checks DATA_DIR and prints its counts; decodes every image once, for all later runs
    python datasets.py --DRAW=toy    draws images into toy/: portraits in the layout of the face sets, or for TASK=folder signs

Layouts that are read (full names in the README), by TASK:
    faces    celeba/{train,val,test}/*.jpg with list_attr_celeba.csv
             celeba/img_align_celeba/*.jpg with list_attr_celeba and list_eval_partition, as .csv (Kaggle) or .txt (torchvision)
             fairface/{train,val}/*.jpg with fairface_label_train.csv, fairface_label_val.csv (the first may be missing)
    celeba   CelebA alone, as above
    mnist    mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte, also as .gz; or for training mnist_5k.csv.gz
    folder   {train,val,test}/CLASS/*.jpg: train/ if a network is to be trained; test/ may be missing, then val/ is halved;
             or CLASS/*.jpg, then each class is halved
"""

import gzip
import hashlib
import json
import os
import shutil
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from tqdm import tqdm

import portraits
import settings
from records import replacing
from settings import CELEBA_FRAME, DATA_DIR, FAIRFACE_FRAME, IMAGE_SIZE, SEED, TASK, Stop

# -----------------------------------------------------------------------------
DRAW = ""  # a new folder to draw images into; "" draws none
# -----------------------------------------------------------------------------

GENDERS = ("female", "male")  # the classes of faces
GROUPS = [("White", "Male"), ("White", "Female"), ("Black", "Male"), ("Black", "Female")]
GROUP_NAMES = ["white men", "white women", "black men", "black women"]
AGES = ["20-29", "30-39", "40-49", "50-59"]
IMAGES_PER_GROUP = 500  # at most, in each of the three FairFace sets
CACHE_DIR = ".cache"    # decoded images; safe to delete
CROP = 0.875            # side of the centred square that is seen of a folder's image, as a share of its shorter side: torchvision's
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1], as torchvision's weights expect


class Images(NamedTuple):
    images: torch.Tensor  # (N, 3, S, S) uint8, channels last in memory
    label: torch.Tensor   # (N,) int64, the class index; of faces 1 male, 0 female
    group: torch.Tensor   # (N,) int64: of FairFace the index into GROUPS, of adversaries as in adversaries.py; -1: none

    def take(self, rows):
        """The images at `rows`, an index or mask over the N."""
        return Images(*(tensor[rows] for tensor in self))


def load(task, data_dir, purpose, image_size, celeba_frame, fairface_frame):
    """A task's set of images for "train", "values" or "report" (of faces for "choose" too). Raises Stop on bad files."""
    if task == "faces" and purpose != "train":
        return fairface(data_dir, purpose, image_size, fairface_frame)
    if task in ("faces", "celeba"):
        return celeba(data_dir, {"train": "train", "values": "val", "report": "test"}[purpose], image_size, celeba_frame)
    return {"mnist": mnist, "folder": folder}[task](data_dir, purpose, image_size)


def classes(task, data_dir):
    """The names of a task's classes, in the order of their index. Raises Stop."""
    if task == "folder":
        return tuple(_image_folder(_parts(data_dir)["values"]).classes)
    return GENDERS if task != "mnist" else tuple("0123456789")


def celeba(data_dir, split, image_size, frame):
    """CelebA's "train", "val" or "test" as Images. Raises Stop on bad files."""
    table = celeba_table(data_dir)
    table = table[table.split == split]
    if table.male.nunique() < 2:
        raise Stop(f"{data_dir}/celeba: its {split} split needs images of both genders, has {len(table)} images")
    return _faces(f"celeba-{split}", table, image_size, frame)


def fairface(data_dir, purpose, image_size, frame):
    """FairFace's set for "values", "choose" or "report" as Images. Raises Stop on bad files."""
    table = fairface_table(data_dir)
    return _faces(f"fairface-{purpose}", table[table.purpose == purpose], image_size, frame)


def mnist(data_dir, purpose, image_size):
    """MNIST's digits as Images: its training images to "train"; of each class of its test images half for the "values", half to "report"."""
    root = _folder(data_dir, "mnist")
    source = "train" if purpose == "train" else "t10k"
    csv = os.path.join(root, "mnist_5k.csv.gz")
    if source == "train" and not _idx(root, "train-images-idx3") and os.path.exists(csv):
        table, path = _read_csv(csv, header=None).to_numpy(), csv
        if table.shape[1] != 785 or table.dtype.kind != "i":
            raise Stop(f"{csv}: must hold 784 pixels and a label in each row; take it away, or put MNIST's own files there")
        pixels, labels = table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(np.int64)
    else:
        pixels, path = _read_idx(root, f"{source}-images-idx3", (28, 28))
        labels = _read_idx(root, f"{source}-labels-idx1", ())[0].astype(np.int64)
    if len(pixels) != len(labels) or len(labels) < 2 or labels.max() > 9:
        raise Stop(f"{path}: {len(pixels)} images and {len(labels)} labels, which should be from 0 to 9; download it again")
    rows = np.arange(len(labels)) if purpose == "train" else _half(map(np.ndarray.tobytes, pixels), labels, purpose)  # in file order they differ
    resized = [np.asarray(Image.fromarray(image).resize((image_size, image_size), Image.Resampling.BICUBIC)) for image in pixels[rows]]
    images = torch.from_numpy(np.stack(resized)[..., None].repeat(3, -1)).permute(0, 3, 1, 2)  # grey, in three channels
    return Images(images, torch.from_numpy(labels[rows]), torch.full((len(images),), -1))


def folder(data_dir, purpose, image_size):
    """A folder of images as Images; which of them are for what, the module's docstring says. Raises Stop.

    Halves depend on what the files hold alone.
    """
    parts, names = _parts(data_dir), classes("folder", data_dir)
    if purpose not in parts:
        raise Stop(f"{data_dir}: no folder train/ to train on; add train/CLASS/ and val/CLASS/, or leave training out: "
                   "mab.py takes torchvision's weights where there is no squeezenet.pth")
    source = parts[purpose]
    listing = _image_folder(source)
    if tuple(listing.classes) != names:
        different = sorted(set(listing.classes) ^ set(names))
        raise Stop(f"{source}: not the classes of {parts['values']} ({', '.join(different[:3])} differ); make them the same")
    paths, labels = (np.array(some) for some in zip(*sorted(listing.samples)))
    if parts["values"] == parts["report"] and purpose != "train":
        rows = _half(map(_content, paths), labels, purpose)
        if missing := [name for index, name in enumerate(names) if index not in labels[rows]]:
            raise Stop(f"{source}/{missing[0]}: one image, or copies of one, but each class is halved; add others, or take the folder away")
        paths, labels = paths[rows], labels[rows]
    images = _decode(f"folder-{purpose}", paths.tolist(), image_size, CROP)
    return Images(images, torch.from_numpy(labels.astype(np.int64)), torch.full((len(paths),), -1))


def digest(data):
    """Short hash of a set of images and their labels, which ties records to it."""
    state = hashlib.sha256()
    for tensor in data:
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
        held, drawn = (("mnist/", "signs: python datasets.py --TASK=folder") if name == "mnist" else
                       ("celeba/ and fairface/", "portraits: python datasets.py"))
        raise Stop(f"{folder}: no such folder; DATA_DIR must be the folder that holds {held} as the README "
                   f"shows. Or draw {drawn} --DRAW=toy")
    return folder


def _half(contents, labels, purpose):
    """The rows of one half of each class, "values" or "report": by hashes of their bytes, so that copies lie in the same half."""
    hashes, rows = np.array([hashlib.sha256(content).hexdigest() for content in contents]), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank = np.unique(hashes[members], return_inverse=True)[1]
        rows.append(members[(rank > rank.max() // 2) == (purpose == "report")])
    return np.sort(np.concatenate(rows))


def _content(path):
    with open(path, "rb") as file:
        return file.read()


def _parts(data_dir):
    """Where the images of a folder are for what: {"train", if it has one, "values", "report"}; the last two may be the same."""
    present = {name: os.path.join(data_dir, name) for name in ("train", "val", "test") if os.path.isdir(os.path.join(data_dir, name))}
    if list(present) == ["train"]:
        raise Stop(f"{data_dir}: train/, but no val/ or test/; add one, to measure on")
    if "val" not in present and not {"train", "test"} <= present.keys():
        return {"values": data_dir, "report": data_dir}  # no parts: those names, if any, are classes
    told = present.get("test", present.get("val"))
    return {**{"train": present[name] for name in ("train",) if name in present}, "values": present.get("val", told), "report": told}


def _image_folder(path):
    """torchvision's listing of a folder that has one folder for each class. Raises Stop."""
    try:
        listing = ImageFolder(path)
    except (OSError, ValueError) as error:  # its words for no folder, no classes, and classes without images
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise Stop(f"{path}: {reason}. It must hold a folder of images for each class, or train/ and val/ which do") from None
    if len(listing.classes) < 2:
        raise Stop(f"{path}: only one class, {listing.classes[0]}; to tell classes apart takes two, each in a folder of its own")
    return listing


def _idx(root, name):
    """The path of one of MNIST's files, as it is or compressed; None if there is neither."""
    paths = [os.path.join(root, f"{name}-ubyte{ending}") for ending in ("", ".gz")]
    return next((path for path in paths if os.path.exists(path)), None)


def _read_idx(root, name, shape):
    """An idx file of bytes, (N, *shape) uint8, and its path: big-endian magic number (its last byte: the axes), lengths, bytes."""
    path = _idx(root, name)
    if path is None:
        raise Stop(f"{root}: neither {name}-ubyte nor {name}-ubyte.gz; download it with MNIST")
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            content = file.read()
        axes = 1 + len(shape)
        magic, *lengths = np.frombuffer(content, ">i4", 1 + axes).tolist()
        if magic != 0x800 + axes or tuple(lengths[1:]) != shape:
            raise ValueError("no idx file of this shape")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(lengths), path
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise Stop(f"{path} is damaged ({error}); download it again") from None


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
    except (ValueError, UnicodeDecodeError, EOFError, zlib.error) as error:  # pandas' parser and empty-file errors are ValueErrors
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
    return Images(images, torch.tensor(table["male"].to_numpy()), torch.tensor(group))


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
    """(S, S, 3) uint8 of the part of an image inside `frame`; if that is a number, of the centred square of that share of the shorter side."""
    try:
        with Image.open(path) as image:
            if isinstance(frame, tuple):
                box = [fraction * side for fraction, side in zip(frame, image.size * 2)]
            else:
                box = [side / 2 + sign * frame * min(image.size) / 2 for sign in (-1, 1) for side in image.size]
            return np.asarray(image.convert("RGB").resize((image_size, image_size), Image.Resampling.BICUBIC, box))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Stop(f"{path} cannot be decoded ({error}); replace it, or take out the file and its row") from None


# ----------------------------------------------------------------------------- checking


def counts(data_dir):
    """Images of the face sets, per data set, set and group, as a DataFrame."""
    rows = [("celeba", split, ("women", "men")[male], len(rows))
            for (split, male), rows in celeba_table(data_dir).groupby(["split", "male"])]
    table = fairface_table(data_dir)
    rows += [("fairface", purpose, GROUP_NAMES[group], len(rows))
             for (purpose, group), rows in table[table.purpose != ""].groupby(["purpose", "group"])]
    return pd.DataFrame(rows, columns=["data", "set", "group", "images"])


def main():
    data_dir = DATA_DIR
    if DRAW:
        settings.require("DRAW", DRAW, TASK in ("faces", "folder"), "left out: only for TASK=faces and TASK=folder is there something to draw")
        if os.path.exists(DRAW):
            raise Stop(f"{DRAW} exists; draw into a new folder, or delete this one first")
        partial = f"{DRAW.rstrip('/')}.{os.getpid()}.tmp"
        try:
            (portraits.write if TASK == "faces" else portraits.write_signs)(partial, SEED)
            os.rename(partial, DRAW)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        data_dir = DRAW
    if TASK == "faces":
        table = counts(data_dir)
        print(table.pivot_table(index=["data", "set"], columns="group", values="images", sort=False)
              .map(lambda images: "-" if np.isnan(images) else f"{images:.0f}").to_string())
    for split in ("train", "val", "test") if TASK == "faces" else ():  # decoding finds damaged files, and later scripts start at once
        celeba(data_dir, split, IMAGE_SIZE, CELEBA_FRAME)
    for purpose in ("values", "choose", "report") if TASK == "faces" else ("train", "values", "report"):
        if TASK == "folder" and purpose not in _parts(data_dir):
            continue  # nothing to train on, which is no fault
        data = load(TASK, data_dir, purpose, IMAGE_SIZE, CELEBA_FRAME, FAIRFACE_FRAME)
        if TASK != "faces":
            counted = data.label.bincount()
            print(f"{purpose}: {len(data.label)} images of {len(counted)} classes, {counted.min()} to {counted.max()} of each")
    print(f"{data_dir}: every label has its image, and every image could be decoded.")


if __name__ == "__main__":
    settings.run(main, globals())
