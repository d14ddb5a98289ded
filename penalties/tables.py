"""Tables of people with an attribute that must not be used: COMPAS."""

import numpy as np
import torch

from penalties.problem import Examples, Problem, fixed_masks, require_rows
from penalties.training import Recipe
from readers.people import compas
from tabular.audit import swap_attribute
from tabular.dense import build_dense, split_rows
from tabular.encoding import fit_encoding

COLUMN = "race"  # the attribute of COMPAS that must not be used
COMPAS_ARCH = "D64-RELU-D32-RELU-D2"


def compas_race(data_dir, n_train, weights):
    """COMPAS, without the use of race: of its two groups, Black and white people."""
    table = compas(data_dir, "train")
    rows, val_rows = split_rows(len(table.label), 0.2, seed=0)
    require_rows(n_train, len(rows))
    train = table.take(rows[: n_train or None])
    encoding = fit_encoding(train)
    starts = np.cumsum((0, *encoding.sizes))
    place = train.attributes.index(COLUMN)
    mask = torch.zeros(1, 1, starts[-1], dtype=torch.bool)
    mask[:, :, starts[place] : starts[place + 1]] = True

    def erase(inputs):
        return torch.where(mask[0], 0.0, inputs)

    def conditions(part):
        group = np.full(len(part.label), -1)
        for number, level in enumerate(part.groups[COLUMN]):
            group[part.is_level(COLUMN, level)] = number
        swapped, _ = swap_attribute(part, COLUMN, None)
        inputs = {"same": encoding.encode(part.values), "swapped": encoding.encode(swapped)}
        inputs["absent"] = erase(inputs["same"])
        facts = torch.tensor(part.label), torch.from_numpy(group)
        return {name: Examples(values, *facts) for name, values in inputs.items()}

    inputs = mask.shape[-1]
    return Problem(
        classes=table.label_names,
        train=conditions(train)["same"],
        val=conditions(table.take(val_rows)),
        open_test=lambda: conditions(compas(data_dir, "test")),
        draw_masks=fixed_masks(mask),
        masks=mask,
        erase=erase,
        networks={"mlp": lambda: build_dense(COMPAS_ARCH, inputs)},
        recipes={"mlp": Recipe(30, 64)},
        strengths=COMPAS_STRENGTHS,
    )


COMPAS_STRENGTHS = {
    "cdep": (1.0, 10.0, 100.0),
    "cdep_centred": (1.0, 10.0, 100.0),
    "cdep_last": (1.0, 10.0, 100.0),
    "rrr": (1.0, 10.0, 100.0),
    "rrr_margin": (1.0, 10.0, 100.0),
    "expected_gradients": (1.0, 10.0, 100.0),
}
