"""Toy portraits: drawn faces in the folder layouts of CelebA and FairFace.

Every picture is a drawing made of smooth shapes; nobody in it exists. The drawings stand in for
the two photo sets, so that the whole experiment (train on one, audit on the other, repair) runs
without downloading them. They say nothing about real people; they only pose the same problem:

  - the label is gender, and seven visible cues (face.CUES) carry it, none of them with certainty;
  - no cue depends on skin tone, yet the CelebA-like set holds hardly any Black women
    (COMPOSITION), which makes dark skin a shortcut for "Male";
  - the FairFace-like set is balanced, so it shows what the shortcut costs, and to whom.
"""

import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from drawings.face import GENDERS, draw_portrait

# Shares of (gender, race) in the CelebA-like splits.
COMPOSITION = {
    ("Male", "White"): 0.330,
    ("Male", "Black"): 0.320,
    ("Female", "White"): 0.335,
    ("Female", "Black"): 0.015,
}

AGES = ("20-29", "30-39", "40-49", "50-59")
# (race, age) of portraits that FairFace's filter drops: outside the four groups, or outside 20-59.
DROPPED_PEOPLE = (
    *(("Latino_Hispanic", "30-39"), ("Indian", "20-29"), ("White", "more than 70")),
    *(("Black", "3-9"), ("White", "3-9"), ("Black", "more than 70")),
)


def celeba_people(rng, count, composition):
    """`count` tuples (gender, race, age), in the proportions of composition, shuffled."""
    edges = np.round(count * np.cumsum(list(composition.values()))).astype(int)
    groups = np.repeat(np.arange(len(edges)), np.diff(edges, prepend=0))
    pairs = list(composition)
    return [(*pairs[group], str(rng.choice(AGES))) for group in rng.permutation(groups)]


def fairface_people(rng, per_group):
    """Tuples (gender, race, age): per_group of each group, about 5 % to be dropped, shuffled."""
    people = []
    for gender in GENDERS:
        for race in ("White", "Black"):
            people += [(gender, race, AGES[index % len(AGES)]) for index in range(per_group)]
    for index in range(per_group // 5):
        gender = GENDERS[index // len(DROPPED_PEOPLE) % 2]
        people.append((gender, *DROPPED_PEOPLE[index % len(DROPPED_PEOPLE)]))
    return [people[index] for index in rng.permutation(len(people))]


def write_portraits(
    folder,
    seed=0,
    train=4000,
    val=600,
    test=600,
    fairface_train=600,
    fairface_val=225,
    composition=COMPOSITION,
    overlap=0.35,
    workers=2,
):
    """Write both sets under `folder`: celeba/ and fairface/, each with its label files.

    Every portrait has a seed of its own, [seed, split, index], so the pictures do not depend on
    the number of workers.

    Args:
        folder: where to write; made if it is missing.
        seed: of all that is random.
        train: the number of portraits in celeba/train; val and test likewise.
        val: see train.
        test: see train.
        fairface_train: the number of portraits of each group in fairface/train.
        fairface_val: the number of portraits of each group in fairface/val.
        composition: {(gender, race): share} in celeba/.
        overlap: how hard the task is. 0: the cues separate the genders perfectly; 1: they carry
            no information.
        workers: the number of processes that draw.
    """
    folder = Path(folder)
    counts = {"train": train, "val": val, "test": test}
    jobs = _write_celeba_labels(folder / "celeba", seed, counts, composition, overlap)
    counts = {"train": fairface_train, "val": fairface_val}
    jobs += _write_fairface_labels(folder / "fairface", seed, counts, overlap)
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(_save_portrait, *zip(*jobs, strict=True), chunksize=32)
        for _ in tqdm(drawn, "drawing portraits", len(jobs)):
            pass


def _write_celeba_labels(folder, seed, counts, composition, overlap):
    """Write celeba/'s label file and empty folders; return the arguments of _save_portrait."""
    jobs, attributes = [], []
    for split, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        people = celeba_people(np.random.default_rng([seed, split]), count, composition)
        for index, person in enumerate(people):
            file = f"{len(jobs) + 1:06d}.jpg"  # unique over the splits, as in CelebA
            jobs.append((folder / name / file, [seed, split, index], "celeba", *person, overlap))
            attributes.append((file, 1 if person[0] == "Male" else -1))
    _write_table(folder / "list_attr_celeba.csv", ("image_id", "Male"), attributes)
    return jobs


def _write_fairface_labels(folder, seed, counts, overlap):
    """Write fairface/'s label files and empty folders; return the arguments of _save_portrait."""
    jobs = []
    for split, (name, count) in enumerate(counts.items(), 3):  # celeba/'s splits are 0, 1 and 2
        (folder / name).mkdir(parents=True, exist_ok=True)
        rng, labels = np.random.default_rng([seed, split]), []
        for index, (gender, race, age) in enumerate(fairface_people(rng, count)):
            file = f"{name}/{index + 1}.jpg"
            picture = (folder / file, [seed, split, index])
            jobs.append((*picture, "fairface", gender, race, age, overlap))
            labels.append((file, age, gender, race, bool(rng.random() < 0.5)))
        header = ("file", "age", "gender", "race", "service_test")
        _write_table(folder / f"fairface_label_{name}.csv", header, labels)
    return jobs


def _write_table(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _save_portrait(path, seed, frame, gender, race, age, overlap):
    """Draw one portrait from its own seed and save it."""
    portrait = draw_portrait(np.random.default_rng(seed), frame, gender, race, age, overlap)
    portrait.save(path, quality=90)
