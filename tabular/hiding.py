"""A network on a table whose explanations hide attributes that it uses (Dimanov et al. 2020).

A row of D inputs is an image of one line, (1, 1, D), so that heat-maps, students, tangent spaces
and defences of images work on it as they are. A heat-map (1, D) holds the share of relevance of
each input; added up over the inputs of an attribute, that of the attribute.
"""

import copy
import hashlib
from dataclasses import dataclass

from common.settings import InputError

import numpy as np
import torch
from torch import nn

import datasets
import model
from explain.relevance import fold_layers
from explain.student import Aim, train_student
from readers.people import Table
from tabular.audit import swap_attribute
from tabular.dense import Predictor, split_rows, train_dense
from tabular.encoding import Encoding, fit_encoding

ARCH = "D64-RELU-D32-RELU-D2"  # the network, unless another is given
VALIDATION_SHARE = 0.1  # of the training rows; early stopping of teachers sees them
SETS = ("train", "validation", "report")


@dataclass
class Rows:
    """Three sets of rows.

    Attributes:
        tables: {name in SETS: Table}.
        inputs: {name in SETS: (N, 1, 1, D) float32 tensor}.
        label: {name in SETS: (N,) int64 tensor}.
        classes: names of the two labels.
        encoding: Encoding of the training rows.
        hidden: names of the attributes to hide.
        low: (D,) float32 tensor, the lowest value of each input in the training rows.
        high: the same, the highest.
        digest: str, a hash of the training rows.
    """

    tables: dict[str, Table]
    inputs: dict[str, torch.Tensor]
    label: dict[str, torch.Tensor]
    classes: tuple[str, str]
    encoding: Encoding
    hidden: tuple[str, ...]
    low: torch.Tensor
    high: torch.Tensor
    digest: str

    def mask(self):
        """Where relevance is to be 0, (1, D) float32 tensor: 1 at inputs of hidden attributes."""
        mask = torch.zeros(1, len(self.low))
        names = self.tables["train"].attributes
        mask[0, list(self.encoding.places(map(names.index, self.hidden)))] = 1
        return mask

    def predictor(self, network):
        """A network of these inputs as a tabular.dense.Predictor of the table's values."""
        columns = tuple(range(len(self.tables["train"].attributes)))
        return Predictor(network, self.encoding, columns)


def load_rows(task, data_dir, hidden, at_most, open_report):
    """The Rows of a task.

    Args:
        task: str, a key of datasets.TABLES.
        data_dir: str.
        hidden: names of the attributes to hide, a sequence of str, at least one.
        at_most: int, report rows, drawn at random.
        open_report: bool; False: the validation rows stand for those of the report.

    Raises:
        InputError: files are missing or damaged, or an attribute is unknown.
    """
    table = datasets.load_table(task, data_dir, "train")
    if not hidden or set(hidden) - set(table.attributes):
        raise InputError(
            f"HIDDEN={','.join(hidden)} must be names of attributes "
            f"({', '.join(table.attributes)}), with commas between"
        )
    rows, val_rows = split_rows(len(table.label), VALIDATION_SHARE, seed=0)
    tables = {"train": table.take(rows), "validation": table.take(val_rows)}
    report = tables["validation"]
    if open_report:
        report = datasets.load_table(task, data_dir, "test")
    chosen = np.sort(np.random.default_rng(0).permutation(len(report.label))[:at_most])
    tables["report"] = report.take(chosen)
    encoding, state = fit_encoding(tables["train"]), hashlib.sha256()
    inputs, label = {}, {}
    for name in SETS:
        inputs[name] = encoding.encode(tables[name].values)[:, None, None]  # (N, 1, 1, D)
        label[name] = torch.from_numpy(tables[name].label)
    for part in (inputs["train"], label["train"]):
        state.update(part.numpy().tobytes())
    train = inputs["train"][:, 0, 0]
    ends, digest = (train.amin(0), train.amax(0)), state.hexdigest()[:16]
    names = table.label_names
    return Rows(tables, inputs, label, names, encoding, tuple(hidden), *ends, digest)


def read_lines(network):
    """A dense network on images of one line, (B, 1, 1, D) -> (B, classes), in eval mode.

    Batch norm is folded into the dense layers and dropout left out. A copy.
    """
    layers = fold_layers(network).float().requires_grad_(True)
    return nn.Sequential(nn.Flatten(), *layers).eval()


def add_swapped(rows):
    """Training inputs, and behind them each person's counterparts: one hidden attribute swapped.

    Nobody in the data is anyone's counterpart. So the data alone do not show a student what its
    teacher does with a hidden attribute. Returns an (M, 1, 1, D) float32 tensor.
    """
    table, parts = rows.tables["train"], [rows.inputs["train"]]
    for place, attribute in enumerate(rows.hidden):
        values, swapped = swap_attribute(table, attribute, np.random.default_rng([0, place]))
        parts.append(rows.encoding.encode(values[swapped])[:, None, None])
    return torch.cat(parts)


# ----------------------------------------------------------------------------- training


def train_teacher(rows, recipe, path):
    """A network of the table with early stopping, trained or read: as from read_lines.

    Args:
        rows: Rows.
        recipe: tabular.dense.Recipe.
        path: str, of the saved state.

    Raises:
        InputError: the saved state does not fit, or the architecture cannot be read.
    """
    pairs = [(rows.inputs[name][:, 0, 0], rows.label[name]) for name in SETS[:2]]
    training = train_dense(*pairs, recipe, path, rows.digest, f"teacher, seed {recipe.seed}")
    return read_lines(training.stopped())


def hide_attributes(rows, teacher, explainer, swapped, losses, recipe, path, interval):
    """A student that answers as its teacher does, with no relevance on hidden attributes.

    Args:
        rows: Rows.
        teacher: nn.Module, as from train_teacher.
        explainer: explain.heatmaps.Explainer of the explanation that is faked.
        swapped: bool, whether the student imitates the teacher on counterparts, too.
        losses: dict with alpha, output_loss, beta and steps_a_batch of explain.student.Aim.
        recipe: explain.training.Recipe.
        path: str, of the saved state.
        interval: int, epochs between two looks at validation rows.

    Returns:
        (network in eval mode, the curve: for each epoch a dict with loss, output_loss, map_loss,
        and of looks agreement and share, of relevance on hidden attributes). Raises InputError.
    """
    inputs, mask = add_swapped(rows) if swapped else rows.inputs["train"], rows.mask()
    run = losses | {"method": explainer.method, "hidden": list(rows.hidden), "swapped": swapped}
    run |= {"data": rows.digest, "teacher": model.digest(teacher)}
    seen = rows.inputs["validation"]
    with torch.no_grad():
        wanted, classes = teacher(inputs).softmax(1), teacher(seen).argmax(1)
    aim = Aim(explainer, mask, wanted, map_loss="hidden", run=run, **losses)

    def validate(student):
        maps, logits = explainer.heatmap(student, seen)
        agreement = (logits.argmax(1) == classes).double().mean().item()
        return {"agreement": agreement, "share": (maps * mask).sum((1, 2)).mean().item()}

    bar = f"{explainer.method}, seed {recipe.seed}"
    student = copy.deepcopy(teacher)
    return train_student(student, inputs, aim, recipe, path, bar, validate, interval)
