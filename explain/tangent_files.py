"""Files of tangent spaces (HDF5), which projectors.py writes and fairwashing.py reads.

A file has a group for each set of images, `test` and `train`, with rows in the order of the images.
In the layout of the original (Anders et al. 2020):

    s  (N, d) float32     singular values
    v  (N, D, d) float32  singular vectors

and in the compact one, which needs the training images when it is read, instead of v

    neighbours  (N, k) int32      rows of the training images
    matrix      (N, k, d) float32 A of explain/tangent.py, so that v = X^T A

Rows of classes that have not been computed are 0 everywhere.
"""

import os
import shutil

from common.records import replace_file
from common.settings import InputError

import h5py
import numpy as np
import torch

from explain.tangent import Basis, Tangent

LAYOUTS = ("compact", "original")
COMPACT = ("neighbours", "matrix")


def computed_classes(path, part, facts):
    """The classes whose rows a group of a file holds, a set of int; empty without such a group.

    Raises:
        InputError: the file cannot be read, or its other groups are of other facts.
    """
    if not os.path.exists(path):
        return set()
    with _open(path) as file:
        for name, value in facts.items():
            if file.attrs.get(name, value) != value:
                raise InputError(
                    f"{path} was made with {name.upper()}={file.attrs[name]}, not {value}; set it "
                    "back, or give --OVERWRITE=True"
                )
        return set(file[part].attrs.get("classes", ())) if part in file else set()


def add_class(path, part, number, rows, tangent, layout, facts, is_new=False):
    """Write the rows of one class; the file is replaced once all of them are in it.

    Args:
        path: str; a new file, or one of the same layout and facts.
        part: str, "test" or "train".
        number: int, the class.
        rows: (n,) int tensor, its rows.
        tangent: Tangent, or Decoded with the layout "original", of all N images of the part; those
            at `rows` are written.
        layout: str, one of LAYOUTS.
        facts: what all groups of the file share, a dict of str and int.
        is_new: bool, whether a file that is there is left out.
    """
    with replace_file(path) as temporary:
        if os.path.exists(path) and not is_new:
            shutil.copy(path, temporary)
        with h5py.File(temporary, "a") as file:
            file.attrs.update(facts)
            group = file.require_group(part)
            _fill(group, rows, tangent, layout)
            group.attrs["classes"] = sorted({*group.attrs.get("classes", ()), number})


def _fill(group, rows, tangent, layout, batch_size=256):
    """Write rows into the data sets of a group, which are made if they are missing."""
    n, k, d = tangent.matrix.shape
    shapes = {"s": ((n, d), "f4")}
    if layout == "original":
        size = tangent.basis(rows[:1]).shape[1]
        shapes["v"] = ((n, size, d), "f4")
    else:
        shapes |= {"neighbours": ((n, k), "i4"), "matrix": ((n, k, d), "f4")}
    for name, (shape, kind) in shapes.items():
        group.require_dataset(name, shape, kind)
    for part in rows.sort().values.split(batch_size):
        places = part.numpy()
        group["s"][places] = tangent.singular[part].numpy()
        if layout == "original":
            group["v"][places] = tangent.basis(part).numpy()
        else:
            group["neighbours"][places] = tangent.neighbours[part].numpy()
            group["matrix"][places] = tangent.matrix[part].numpy()


def open_tangents(path, part, inputs, pool, rows=None, data=""):
    """The tangent spaces of a file, as explain.tangent gives them: Tangent or Basis.

    Args:
        path: str.
        part: str, the group: "test" or "train".
        inputs: (n, D) float32 tensor, the images at `rows`.
        pool: (M, D) float32 tensor, the training images.
        rows: (n,) int array, their rows in the file; None: all of it.
        data: str, the digest of the training images, which that of the file, if any, must be; "":
            not compared.

    Raises:
        InputError: the file cannot be read, or is of other images, or has no rows for a class.
    """
    if not os.path.exists(path):
        raise InputError(f"PROJECTORS={path}: no such file; run projectors.py first")
    with _open(path) as file:
        if part not in file:
            fix = "run projectors.py with --ALL_DATA=True" if part == "train" else "give another"
            raise InputError(f"{path} has no group {part}; {fix}")
        if data and file.attrs.get("data", data) != data:
            raise InputError(f"{path} is of other training images; run projectors.py again")
        group = file[part]
        n, size = len(inputs) if rows is None else int(rows.max()) + 1, inputs.shape[1]
        has_basis, count = "v" in group, len(group["s"])
        length = group["v"].shape[1] if has_basis else size
        if n > count or length != size or (rows is None and n != count):
            raise InputError(
                f"{path}: {count} rows of {length} numbers in {part}, but there are {n} images of "
                f"{size}; give the file of these images"
            )
        places = np.arange(n) if rows is None else np.asarray(rows)
        singular = torch.from_numpy(group["s"][:][places])
        if not singular[:, 0].all():
            raise InputError(
                f"{path}: {int((singular[:, 0] == 0).sum())} rows of {part} are 0, of classes that "
                "were not computed; run projectors.py again without --TARGETS"
            )
        if has_basis:
            return Basis(_Rows(path, part, places), singular)
        near, matrix = (torch.from_numpy(group[name][:][places]) for name in COMPACT)
        centres = inputs if file.attrs.get("strict", 0) else None
        return Tangent(near, matrix, singular, pool, centres)


class _Rows:
    """v of a file, a row at a time: it may be larger than the memory."""

    def __init__(self, path, part, places):
        self.vectors, self.places = h5py.File(path, "r")[part]["v"], places

    def __getitem__(self, row):
        return self.vectors[self.places[row]]


def _open(path):
    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is no HDF5 file that can be read ({reason})") from None
