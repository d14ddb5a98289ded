"""A drawn table of people in the layout of UCI Adult, with a known, unfair rule for the label.

Nobody in it exists. The label follows a rule that counts years of education, weekly hours and age,
and takes points off for women (RULE). It never looks at race, but Black people have fewer
years of education here. Husbands and wives betray their sex. All else is noise. So it is known
which attributes a good model uses.
"""

from pathlib import Path

import numpy as np

# Points for a label of 1, which takes 0 or more.
RULE = {"education-num": 0.5, "hours-per-week": 0.07, "age": 0.04, "female": -2.4, "base": -9.6}
NOISE = 0.5  # scale of a logistic distribution, in points: the rule has exceptions

EDUCATION = (  # (education, education-num)
    *(("10th", 6), ("HS-grad", 9), ("Some-college", 10), ("Assoc-voc", 11)),
    *(("Bachelors", 13), ("Masters", 14), ("Doctorate", 16)),
)
OCCUPATIONS = ("Adm-clerical", "Craft-repair", "Exec-managerial", "Other-service", "Sales", "?")
WORKCLASSES = ("Private", "Self-emp-inc", "State-gov", "?")
COUNTRIES = ("United-States", "Mexico", "Philippines", "Germany")
RACES = ("White", "Black", "Asian-Pac-Islander")


def points(age, education_num, hours, female):
    """What the rule gives each person, 0 or more for a label of 1: arrays (N,) -> (N,) float64."""
    return (
        RULE["base"]
        + RULE["age"] * age
        + RULE["education-num"] * education_num
        + RULE["hours-per-week"] * hours
        + RULE["female"] * female
    )


def draw_people(rng, count):
    """Rows of the table, a list of count lists in the order of UCI Adult's columns."""
    age = rng.integers(20, 66, count)
    race = rng.choice(RACES, count, p=(0.75, 0.2, 0.05))
    female = rng.random(count) < 0.45
    spread = rng.normal(0, 1.6, count) + np.where(race == "Black", 1.6, 3.2)
    school = np.clip(spread.round(), 0, len(EDUCATION) - 1).astype(int)
    hours = np.clip(rng.normal(41, 9, count).round(), 5, 80).astype(int)
    married = rng.random(count) < np.clip((age - 15) / 50, 0, 0.75)
    education = np.array([years for _, years in EDUCATION])[school]
    noise = rng.logistic(0, NOISE, count)
    label = points(age, education, hours, female) + noise >= 0
    rows = []
    for index in range(count):
        alone = rng.choice(["Never-married", "Divorced"])
        spouse = "Wife" if female[index] else "Husband"
        pair = ("Married-civ-spouse", spouse) if married[index] else (alone, "Not-in-family")
        rows.append(
            [
                age[index],
                rng.choice(WORKCLASSES, p=(0.75, 0.08, 0.12, 0.05)),
                int(rng.integers(20_000, 400_000)),
                *EDUCATION[school[index]],
                pair[0],
                rng.choice(OCCUPATIONS),
                pair[1],
                race[index],
                "Female" if female[index] else "Male",
                int(rng.integers(1_000, 15_000)) if rng.random() < 0.06 else 0,
                int(rng.integers(1_000, 2_500)) if rng.random() < 0.04 else 0,
                hours[index],
                rng.choice(COUNTRIES, p=(0.9, 0.05, 0.03, 0.02)),
                ">50K" if label[index] else "<=50K",
            ]
        )
    return rows


def write_salaries(folder, seed=0, train=6000, test=3000):
    """Write adult/adult.data and adult/adult.test under `folder`, as UCI's files are.

    Args:
        folder: where to write; made if it is missing.
        seed: of all that is random.
        train: the number of rows of adult.data; test likewise.
        test: see train.
    """
    folder = Path(folder) / "adult"
    folder.mkdir(parents=True, exist_ok=True)
    for split, (name, count) in enumerate({"data": train, "test": test}.items()):
        rows = draw_people(np.random.default_rng([seed, split]), count)
        with open(folder / f"adult.{name}", "w", newline="") as file:
            if name == "test":
                file.write("|1x3 Cross validator\n")
                rows = [[*row[:-1], f"{row[-1]}."] for row in rows]
            for row in rows:
                file.write(", ".join(map(str, row)) + "\n")


def rule_labels(table):
    """The label that the rule gives each row of a Table of UCI Adult, without noise: (N,) int."""
    names = ("age", "education-num", "hours-per-week")
    female = table.is_level("sex", "Female")
    return (points(*(table.column(name) for name in names), female) >= 0).astype(int)
