"""What filters see: the images that activate each most, and a picture that excites it most.

    python features.py

Reads what mab.py wrote, and the images that the values were measured on. Shows the first filters
of the set that mab.py sought, or those that FILTERS names. Writes RECORDS_DIR/features.png, .pdf
and .json: a row a filter, with its layer, value and interval. Of faces, the figure shows faces:
git ignores it.
"""

import time

from common import records, settings
from common.settings import (
    ARCH,
    CELEBA_FRAME,
    DATA_DIR,
    DEVICE,
    FAIRFACE_FRAME,
    IMAGE_SIZE,
    NORMALISATION,
    RECORDS_DIR,
    SEED,
    TASK,
    WEIGHTS,
    InputError,
)

import numpy as np

import model
from filters.game import load_game
from filters.pictures import maximise, mean_activations, measure_spectrum
from report import figures

# -----------------------------------------------------------------------------
SHOWN = 5  # filters, if FILTERS is empty
FILTERS = ""  # their numbers, as in filters.csv, with commas between
IMAGES = 4  # of each filter: those that activate it most
STEPS = 256  # of the maximisation
# -----------------------------------------------------------------------------

COLUMNS = ["filter", "layer", "channel", "shapley", "ci_low", "ci_high"]


def load_cuttable_game(constants, device, run):
    """The Game of the values' run, with its network cut into steps. Raises InputError."""
    game = load_game(constants, device, run)
    if not game.evaluator.is_cut:
        raise InputError(
            f"{constants['ARCH']} cannot be cut into steps, which the pictures need; give another "
            "--ARCH"
        )
    return game


def choose_filters(table, given, number, which):
    """The filters to show, a list of int.

    Args:
        table: DataFrame, filters.csv.
        given: str, numbers of filters with commas between; "": the first of those sought.
        number: int, how many of those sought.
        which: "lowest" or "highest", the values that were sought.

    Raises:
        InputError: `given` holds what is no filter's number.
    """
    try:
        filters = [int(part) for part in given.split(",") if part]
    except ValueError:
        filters = [-1]  # no filter's number
    known = set(table["filter"])
    rule = "numbers of filters that filters.csv has, with commas between"
    settings.require("FILTERS", given, known.issuperset(filters), rule)
    if filters:
        return filters
    table = table.sort_values("shapley", ascending=which == "lowest", kind="stable")
    return table["filter"].tolist()[:number]


def most_active(active, number):
    """Rows of the images that activate each filter most: (N, F) float -> (F, number) int."""
    return np.argsort(-active, axis=0, kind="stable")[:number].T


def main():
    """Load, find the images, make the pictures, save, print."""
    started = time.time()
    for name, value in (("SHOWN", SHOWN), ("IMAGES", IMAGES), ("STEPS", STEPS)):
        settings.require(name, value, value >= 1, "at least 1")
    constants, device = settings.constants_of(globals()), model.find_device(DEVICE)
    run = records.load_json(f"{RECORDS_DIR}/mab.json", "mab.py")["run"]
    game = load_cuttable_game(constants, device, run)
    table = records.load_csv(f"{RECORDS_DIR}/filters.csv", "mab.py", COLUMNS)
    filters = choose_filters(table, FILTERS, SHOWN, run["WHICH"])
    table = table.set_index("filter").loc[filters]

    images = game.seen.images
    rows = most_active(mean_activations(game.evaluator, images, filters), IMAGES)
    pictures = maximise(game.evaluator, filters, measure_spectrum(images), STEPS, SEED)
    shown = [images[row].permute(0, 2, 3, 1).numpy() for row in rows]
    labels = [[game.classes[label] for label in game.seen.label[row]] for row in rows]
    figure = figures.feature_grid(pictures, np.stack(shown), labels, table)
    seconds = time.time() - started
    record = {
        **records.provenance(constants, seconds, str(device)),
        "network": run["network"],
        "filters": filters,
        "most_active": rows.tolist(),
        "labels": labels,
    }
    base = f"{RECORDS_DIR}/features"
    records.save({f"{base}.json": record, f"{base}.png": figure, f"{base}.pdf": figure})
    for number, names in zip(filters, labels):
        title = figures.filter_title(table.loc[number])
        print(f"{title}: most active on {', '.join(names)}")
    print(f"{base}.png and .pdf written.")


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("mab.py", "train_squeeze.py"))
