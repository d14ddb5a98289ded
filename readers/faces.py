"""CelebA and FairFace: their label files, and the disjoint sets that are cut from them."""

import os

from common.settings import InputError

import numpy as np
import pandas as pd
import torch

from readers.files import (
    list_images,
    read_table,
    require_columns,
    require_folder,
    require_images,
)
from readers.images import Images, decode_images

GENDERS = ("female", "male")  # the classes, by label
GROUPS = [("White", "Male"), ("White", "Female"), ("Black", "Male"), ("Black", "Female")]
GROUP_NAMES = ["white men", "white women", "black men", "black women"]
AGES = ["20-29", "30-39", "40-49", "50-59"]
IMAGES_PER_GROUP = 500  # at most, in each of the three FairFace sets
CELEBA_SPLITS = ("train", "val", "test")


def face_classes(data_dir):
    """Names of the classes by label: GENDERS. data_dir is not looked at."""
    return GENDERS


def celeba(data_dir, split, image_size, frame):
    """CelebA's "train", "val" or "test" as Images, without groups. Raises InputError."""
    table = celeba_table(data_dir)
    table = table[table["split"] == split]
    if table["male"].nunique() < 2:
        raise InputError(
            f"{data_dir}/celeba: its {split} split needs images of both genders, has "
            f"{len(table)} images; add them, with their rows in the label file"
        )
    return _read_faces(f"celeba-{split}", table.assign(group=-1), image_size, frame)


def fairface(data_dir, purpose, image_size, frame):
    """FairFace's set for "values", "choose" or "report" as Images. Raises InputError."""
    table = fairface_table(data_dir)
    table = table[table["purpose"] == purpose]
    return _read_faces(f"fairface-{purpose}", table, image_size, frame)


def _read_faces(name, table, image_size, frame):
    """Images of a table with columns path, male and group."""
    images = decode_images(name, list(table["path"]), image_size, frame)
    label, group = (torch.tensor(table[column].to_numpy()) for column in ("male", "group"))
    return Images(images, label, group)


def _require_folder(data_dir, name):
    holds, drawing = "celeba/ and fairface/", "portraits: python datasets.py"
    return require_folder(data_dir, name, holds, drawing)


# ----------------------------------------------------------------------------- CelebA


def celeba_table(data_dir):
    """CelebA as a DataFrame, one row an image: path, split (train, val or test), male (0 or 1).

    Raises:
        InputError: files are missing or damaged, or do not fit each other.
    """
    folder = _require_folder(data_dir, "celeba")
    labels_path, labels = _read_celeba_file(
        folder, "list_attr_celeba", {"skiprows": 1, "index_col": 0}
    )
    require_columns(labels_path, labels, ["Male"])
    if not labels["Male"].isin([-1, 1]).all():
        raise InputError(f"{labels_path}: the column Male must hold -1 and 1 only")
    if os.path.isdir(os.path.join(folder, "train")):
        splits, split_folder = _splits_by_folder(folder)
    else:
        splits, split_folder = _splits_by_file(folder)
    if not splits:
        raise InputError(
            f"{folder}: no images in train/, val/, test/ or img_align_celeba/; unpack CelebA there"
        )
    require_images(labels_path, labels.index, splits, folder)
    table = pd.DataFrame({"split": [splits[name] for name in labels.index]})
    paths = [os.path.join(split_folder[splits[name]], name) for name in labels.index]
    table.insert(0, "path", paths)
    table["male"] = (labels["Male"].to_numpy() == 1).astype(np.int64)
    return table.sort_values("path", ignore_index=True)


def _splits_by_folder(folder):
    """{image name: split} and {split: folder}, where each split has a folder."""
    split_folder = {split: os.path.join(folder, split) for split in CELEBA_SPLITS}
    splits = {}
    for split, path in split_folder.items():
        splits |= dict.fromkeys(list_images(path), split)
    return splits, split_folder


def _splits_by_file(folder):
    """{image name: split} and {split: folder}, where a file lists the splits."""
    txt_options = {"header": None, "index_col": 0, "names": ["partition"]}
    path, table = _read_celeba_file(folder, "list_eval_partition", txt_options)
    require_columns(path, table, ["partition"])
    if not table["partition"].isin([0, 1, 2]).all():
        raise InputError(f"{path}: the column partition must hold 0, 1 and 2 only")
    images = os.path.join(folder, "img_align_celeba")
    if os.path.isdir(os.path.join(images, "img_align_celeba")):  # Kaggle's archive nests it
        images = os.path.join(images, "img_align_celeba")
    present = set(list_images(images))
    splits = {}
    for name, partition in table["partition"].items():
        if name in present:
            splits[name] = CELEBA_SPLITS[partition]
    return splits, dict.fromkeys(CELEBA_SPLITS, images)


def _read_celeba_file(folder, name, txt_options):
    """Path and table of a file of CelebA, as .csv (Kaggle) or .txt (torchvision).

    The table's index is the image's name.
    """
    path = os.path.join(folder, f"{name}.csv")
    if os.path.exists(path):
        table = read_table(path)
        require_columns(path, table, ["image_id"])
        return path, table.set_index("image_id")
    path = os.path.join(folder, f"{name}.txt")
    if not os.path.exists(path):
        raise InputError(f"{folder}: neither {name}.csv nor {name}.txt; download it with CelebA")
    return path, read_table(path, sep=r"\s+", **txt_options)


# ----------------------------------------------------------------------------- FairFace


def fairface_table(data_dir):
    """FairFace's images of GROUPS and AGES as a DataFrame, one row an image.

    With both label files, "values" and "choose" are cut from train/ and "report" is from val/;
    with only fairface_label_val.csv, all three are cut from val/. The cut depends on the files
    alone, not on SEED, so that an image that reports in one run chooses in none.

    Returns:
        Columns path, male (0 or 1), group (index into GROUPS), purpose (values, choose or report;
        "" for images that no set uses).

    Raises:
        InputError: files are missing or damaged, or a group has too few images.
    """
    folder = _require_folder(data_dir, "fairface")
    sources = {"val": ["report"], "train": ["values", "choose"]}
    if not os.path.exists(os.path.join(folder, "fairface_label_train.csv")):
        sources = {"val": ["values", "choose", "report"]}
    tables = [_cut_sets(folder, source, purposes) for source, purposes in sources.items()]
    return pd.concat(tables, ignore_index=True)


def _cut_sets(folder, source, purposes):
    """The table of one label file, its images shared out among the purposes."""
    path = os.path.join(folder, f"fairface_label_{source}.csv")
    table = _read_fairface_labels(folder, source, path)
    for group, name in enumerate(GROUP_NAMES):
        rows = np.flatnonzero(table["group"] == group)
        size = min(IMAGES_PER_GROUP, len(rows) // len(purposes))
        if size == 0:
            raise InputError(
                f"{path}: {len(rows)} images of {name} aged 20 to 59; the sets "
                f"{', '.join(purposes)} need at least one each"
            )
        rows = np.random.default_rng(group).permutation(rows)
        for part, purpose in enumerate(purposes):
            table.loc[rows[part * size : (part + 1) * size], "purpose"] = purpose
    return table


def _read_fairface_labels(folder, source, path):
    """The rows of a label file that belong to GROUPS and AGES, with purpose ""."""
    labels = read_table(path, dtype=str)
    require_columns(path, labels, ["file", "age", "gender", "race"])
    present = {f"{source}/{name}" for name in list_images(os.path.join(folder, source))}
    require_images(path, labels["file"], present, folder)
    index_of = {pair: index for index, pair in enumerate(GROUPS)}
    pairs = zip(labels["race"], labels["gender"])
    labels["group"] = [index_of.get(pair, -1) for pair in pairs]
    labels = labels[labels["age"].isin(AGES) & (labels["group"] >= 0)]
    labels = labels.sort_values("file", ignore_index=True)
    columns = {
        "path": [os.path.join(folder, file) for file in labels["file"]],
        "male": (labels["gender"] == "Male").astype(np.int64),
        "group": labels["group"],
        "purpose": "",
    }
    return pd.DataFrame(columns)
