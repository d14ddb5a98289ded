"""CelebA and FairFace: their label files, and the disjoint sets that are cut from them."""

import os

from common.records import note
from common.settings import InputError, list_names

import numpy as np
import pandas as pd
import torch

from readers.files import (
    find_splits,
    list_contents,
    list_images,
    require_folder,
    require_images,
)
from readers.images import Images, decode_images
from readers.tables import clean_names, match_values, read_table

GENDERS = ("female", "male")  # the classes, by label
GROUPS = [("White", "Male"), ("White", "Female"), ("Black", "Male"), ("Black", "Female")]
GROUP_NAMES = ["white men", "white women", "black men", "black women"]
AGES = ["20-29", "30-39", "40-49", "50-59"]
# All values of FairFace's columns; rows of others than GROUPS and AGES are not used.
FAIRFACE_VALUES = {
    "age": ("0-2", "3-9", "10-19", *AGES, "60-69", "more than 70"),
    "gender": ("Female", "Male"),
    "race": (
        *("White", "Black", "Latino_Hispanic", "Indian"),
        *("East Asian", "Southeast Asian", "Middle Eastern"),
    ),
}
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
    labels_path, labels = _read_celeba_file(folder, "list_attr_celeba", ["image_id", "Male"])
    male = _read_numbers(labels_path, labels["Male"], {-1: 0, 1: 1})
    parts = find_splits(folder, list_contents(folder).folders)
    if "train" in parts:
        splits, split_folder = _splits_by_folder(folder, parts)
    else:
        splits, split_folder = _splits_by_file(folder, labels_path, labels["image_id"])
    if not splits:
        raise InputError(
            f"{folder}: no images in train/, val/, test/ or img_align_celeba/; unpack CelebA there"
        )
    require_images(labels_path, labels["image_id"], splits, folder)
    table = pd.DataFrame({"split": [splits[name] for name in labels["image_id"]]})
    paths = [os.path.join(split_folder[splits[name]], name) for name in labels["image_id"]]
    table.insert(0, "path", paths)
    table["male"] = male
    return table.sort_values("path", ignore_index=True)


def _splits_by_folder(folder, parts):
    """{image name: split} and {split: folder}, where each split has a folder.

    parts: {split: name of its folder}. Raises InputError.
    """
    split_folder = {split: os.path.join(folder, name) for split, name in parts.items()}
    splits = {}
    for split, path in split_folder.items():
        names = list_images(path)
        if twice := [name for name in names if name in splits]:
            raise InputError(
                f"{folder}: {len(twice)} images lie in two of {', '.join(parts.values())}, the "
                f"first {twice[0]}; keep one of each"
            )
        splits |= dict.fromkeys(names, split)
    return splits, split_folder


def _splits_by_file(folder, labels_path, names):
    """{image name: split} and {split: folder}, where a file lists the splits.

    labels_path: of the file whose rows name the images `names`. Raises InputError.
    """
    columns = ["image_id", "partition"]
    path, table = _read_celeba_file(folder, "list_eval_partition", columns, headless=True)
    partition = _read_numbers(path, table["partition"], {0: "train", 1: "val", 2: "test"})
    split_of = dict(zip(table["image_id"], partition))
    images = os.path.join(folder, "img_align_celeba")
    if os.path.isdir(os.path.join(images, "img_align_celeba")):  # Kaggle's archive nests it
        images = os.path.join(images, "img_align_celeba")
    present = list_images(images)
    labelled = set(names)
    without_split = [name for name in present if name in labelled and name not in split_of]
    if without_split:
        raise InputError(
            f"{path}: no row for {len(without_split)} of the {len(names)} images of {labels_path}, "
            f"the first {without_split[0]}; add these rows, or take the images out"
        )
    splits = {name: split_of.get(name) for name in present}
    return splits, dict.fromkeys(CELEBA_SPLITS, images)


def _read_celeba_file(folder, name, columns, headless=False):
    """Path and table of a file of CelebA, as .csv (Kaggle) or .txt (torchvision).

    columns, headless: as for read_table; the first column has the images' names.
    """
    paths = [os.path.join(folder, f"{name}.{ending}") for ending in ("csv", "txt")]
    present = [path for path in paths if os.path.exists(path)]
    if not present:
        names = list_names(sorted(os.listdir(folder)), 8)
        raise InputError(
            f"{folder}: neither {name}.csv nor {name}.txt, it holds {names}; download it with "
            "CelebA"
        )
    tables = [read_table(path, columns, headless) for path in present]
    for table in tables:
        table[columns[0]] = clean_names(table[columns[0]])
    if len(tables) == 2:
        _compare_tables(present, *tables)
    return present[0], tables[0]


def _compare_tables(paths, table, other):
    """Say which of two files of the same labels is read. Raises InputError: they differ."""
    rows, other_rows = (set(map(tuple, part.to_numpy().tolist())) for part in (table, other))
    different = {row[0] for row in rows ^ other_rows}
    if different:
        raise InputError(
            f"{paths[0]} and {os.path.basename(paths[1])} differ for {len(different)} images, such "
            f"as {list_names(sorted(different), 2)}; keep the one that is right there"
        )
    note(f"{paths[0]} is read; {os.path.basename(paths[1])} beside it says the same")


def _read_numbers(path, column, meanings):
    """Numbers of a column, (n,), as what they mean: {number: meaning}. Raises InputError."""
    numbers = pd.to_numeric(column, errors="coerce")
    plain = numbers.map({number: str(number) for number in meanings})  # "1" of "1.0"
    match_values(path, plain.fillna(column), [str(number) for number in meanings])
    return numbers.map(meanings).to_numpy()


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
        if os.path.isdir(os.path.join(folder, "train")):
            reason = "no fairface_label_train.csv, so train/ is left out"
            note(f"{folder}: {reason}, and val/ is cut in three")
    tables = [_cut_sets(folder, source, purposes) for source, purposes in sources.items()]
    return pd.concat(tables, ignore_index=True)


def _cut_sets(folder, source, purposes):
    """The table of one label file, its images shared out among the purposes."""
    path = os.path.join(folder, f"fairface_label_{source}.csv")
    table, counts = _read_fairface_labels(folder, source, path)
    for group, name in enumerate(GROUP_NAMES):
        rows = np.flatnonzero(table["group"] == group)
        size = min(IMAGES_PER_GROUP, len(rows) // len(purposes))
        if size == 0:
            raise InputError(
                f"{path}: {len(rows)} images of {name} aged 20 to 59; the sets "
                f"{', '.join(purposes)} need at least one each; add images. Rows of all ages: "
                f"{_list_groups(counts)}"
            )
        rows = np.random.default_rng(group).permutation(rows)
        for part, purpose in enumerate(purposes):
            table.loc[rows[part * size : (part + 1) * size], "purpose"] = purpose
    return table


def _read_fairface_labels(folder, source, path):
    """The rows of a label file that belong to GROUPS and AGES, with purpose "".

    Also returns how many rows there are of each race and gender, a Series.
    """
    labels = read_table(path, ["file", *FAIRFACE_VALUES])
    labels["file"] = clean_names(labels["file"])
    present = [f"{source}/{name}" for name in list_images(os.path.join(folder, source))]
    require_images(path, labels["file"], present, folder)
    for column, known in FAIRFACE_VALUES.items():
        labels[column] = match_values(path, labels[column], known)
    counts = labels.value_counts(["race", "gender"], sort=False)
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
    return pd.DataFrame(columns), counts


def _list_groups(counts):
    """Counts by race and gender as text."""
    return ", ".join(f"{race} {gender} {count}" for (race, gender), count in counts.items())
