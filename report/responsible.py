"""The protocol for tasks other than faces: what the critical filters are responsible for.

Nothing is chosen here. Filters go in the order of their values, beside random filters, those of the
largest (or smallest) weights and what rivals.py names. The shares of images that are classified as
their label are reported after each number of them.
"""

import json
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

import model
from filters.adversaries import ADVERSARY, CLEAN, adversarial_pairs
from filters.value import score_images
from report import metrics
from report.removals import coalitions_along, random_orders

MOST_CLASSES = 20  # whose recalls eval.csv has; of more, that of the class of interest alone
TABLE_COLUMNS = ["method", "n_removed", "split", "group", "value", "ci_low", "ci_high"]
CHANGE_COLUMNS = ["after", "before", "n_removed", "split", "group", "change", "ci_low", "ci_high"]


@dataclass
class Removal:
    """Filters that one method removes, and how images are classified as they go.

    Attributes:
        name: str, "shapley", "l2_norm", "random 0", ... or a rival's name.
        order: (n,) int, filters, the first to go first.
        steps: list of int, numbers of removed filters after which images are classified.
        right: {split: (len(steps), N) bool}, whether each image is classified as its label.
    """

    name: str
    order: np.ndarray
    steps: list
    right: dict = field(default_factory=dict)

    @property
    def method(self):
        """The row of the table that it belongs to. All random orders share one."""
        return self.name.partition(" ")[0]


@dataclass
class Score:
    """A share of images: those of a split and a group that are classified as their label.

    Attributes:
        split: str, a set of images: "report", "attack", "black box" or "no attack".
        group: str, "all", "class NAME", "others", or "success" of an attack.
        members: (N,) bool, which images of the set belong to the group.
    """

    split: str
    group: str
    members: np.ndarray


@dataclass
class Limits:
    """How many filters go, and how many random orders there are.

    Attributes:
        max_removed: filters removed at most; no more than have a value of the right sign.
        every: filters removed between columns of the table.
        n_random: random orders.
        seed: of the random orders and of attacks.
    """

    max_removed: int
    every: int
    n_random: int
    seed: int


@dataclass
class RemovalResult:
    """What the protocol gives.

    Attributes:
        removed: (n,) int, the filters that the values remove.
        table: DataFrame with TABLE_COLUMNS.
        changes: DataFrame with CHANGE_COLUMNS.
        curves: DataFrame, from `curve_table`.
        shares: {share of the filters: share of the values' sum}; empty if V is not the accuracy
            of all classes, or the sum is not positive.
    """

    removed: np.ndarray
    table: pd.DataFrame
    changes: pd.DataFrame
    curves: pd.DataFrame
    shares: dict


def evaluate_removals(game, fills, values, norms, rivals, sets, limits):
    """Remove filters in all orders, and score what remains.

    Args:
        game: filters.game.Game.
        fills: (n_filters,) float32, the output of a removed filter.
        values: report.values.FilterValues.
        norms: (n_filters,) float, L2 norms of the filters' weights.
        rivals: {name: (n,) int}, as from `removals.load_rivals`.
        sets: {split: Images}, "report" and those of an attack.
        limits: Limits.

    Returns:
        RemovalResult.
    """
    run, shapley = values.run, values.filters["shapley"].to_numpy()
    removals = plan_removals(values, norms, rivals, limits)
    scores, recalls = reported_scores(sets, game.classes, run["CLASS"])
    classify(game.evaluator, fills, removals, sets)
    by_value = removals[0]
    steps = reported_steps(len(by_value.order), limits.every)
    table, changes = score_tables(removals, scores, steps)
    attack = run["MEASURE"] == "attack"
    if attack:
        rows = []
        for step in steps[1:]:
            rows.append(attack_anew(game, fills, by_value, step, sets["report"], run, limits.seed))
        table = add_fresh_attacks(table, rows)
    shares = {}
    if not attack and not run["CLASS"] and shapley.sum() > 0:  # of a sum of either sign
        shares = metrics.concentration(shapley)
    curves = curve_table(removals, scores + recalls)
    return RemovalResult(by_value.order, table, changes, curves, shares)


# ----------------------------------------------------------------------------- what is measured


def reported_steps(n_removed, every):
    """Numbers of removed filters that the table has: 0, every, 2 every, ..., n_removed."""
    return sorted({*range(0, n_removed + 1, every), n_removed})


def plan_removals(values, norms, rivals, limits):
    """All removals to follow: those of the values at every step, others at those of the table.

    Args:
        values: report.values.FilterValues.
        norms: (n_filters,) float, L2 norms of the filters' weights.
        rivals: {name: (n,) int}, as from `removals.load_rivals`.
        limits: Limits.

    Returns:
        A list of Removal; the first is "shapley".
    """
    players = values.filters.index.to_numpy()
    sign = -1 if values.run["WHICH"] == "highest" else 1  # the largest first, or the smallest
    by_norm = players[np.argsort(sign * norms[players], kind="stable")]
    orders = {"shapley": values.order, "l2_norm": by_norm}
    orders |= random_orders(players, limits.n_random, limits.seed) | rivals
    number = min(limits.max_removed, len(values.order))
    table_steps, removals = reported_steps(number, limits.every), []
    for name, order in orders.items():
        order = order[:number]
        steps = [step for step in table_steps if step <= len(order)]
        if name == "shapley":
            steps = list(range(number + 1))
        removals.append(Removal(name, order, steps))
    return removals


def reported_scores(sets, classes, class_name):
    """The scores of the table, and the recalls of the classes, which eval.csv has besides.

    Args:
        sets: {split: Images}, "report" and those of an attack.
        classes: tuple of str, the classes' names.
        class_name: str, the class that V is the recall of; "" for all classes.

    Returns:
        Two lists of Score.
    """
    labels = sets["report"].label.numpy()
    scores = [Score("report", "all", np.full(len(labels), True))]
    if class_name:
        members = labels == classes.index(class_name)
        scores.append(Score("report", f"class {class_name}", members))
        scores.append(Score("report", "others", ~members))
    for split, images in sets.items():
        if split != "report":
            scores.append(Score(split, "success", np.full(len(images.label), True)))
    recalls = []
    for number, name in enumerate(classes):
        if len(classes) <= MOST_CLASSES or name == class_name:
            recalls.append(Score("report", f"class {name}", labels == number))
    return scores, recalls


# ----------------------------------------------------------------------------- images


def attacked_sets(game, data, seed):
    """Adversarial images made on the network, labelled with the targets.

    Args:
        game: filters.game.Game.
        data: Images.
        seed: int, of the targets.

    Returns:
        {"attack": Images, "no attack": Images}; the second are the images before the attack,
        labelled alike: they tell how many are taken for the target anyway.
    """
    pairs = _pairs(game, game.network, game.digest, data, seed, "attacking the network")
    attack = pairs.take(pairs.group == ADVERSARY)
    unattacked = pairs.take(pairs.group == CLEAN)._replace(label=attack.label)
    return {"attack": attack, "no attack": unattacked}


def black_box_set(game, network, arch, data, seed):
    """Adversarial images made on another network for the same task; see `attacked_sets`.

    Args:
        game: filters.game.Game, of the network that is studied.
        network: nn.Module, the other one, on the same device.
        arch: str, what it is called in the progress bar.
        data: Images.
        seed: int, of the targets.

    Returns:
        Images, labelled with the targets.
    """
    pairs = _pairs(game, network, model.digest(network), data, seed, f"attacking {arch}")
    return pairs.take(pairs.group == ADVERSARY)


def _pairs(game, network, digest, data, seed, name):
    n_classes = len(game.classes)
    return adversarial_pairs(network, digest, data, n_classes, seed, game.device, name)


def classify(evaluator, fills, removals, sets):
    """Fill in `right` of all removals.

    Args:
        evaluator: of the network, as from filters.coalitions.make_evaluator.
        fills: (n_filters,) float32, the output of a removed filter.
        removals: list of Removal.
        sets: {split: Images}.
    """
    images = sum(len(data.label) for data in sets.values())
    total = images * sum(len(removal.steps) for removal in removals)
    with tqdm(total=total, desc="eval.py", unit=" images", dynamic_ncols=True) as bar:
        for removal in removals:
            keep = coalitions_along(removal.order, len(fills))[removal.steps]
            for split, data in sets.items():
                classes = score_images(evaluator, fills, data.images, keep, _largest_logit, bar)
                removal.right[split] = classes == data.label.numpy()


def _largest_logit(logits):
    """(..., classes) -> (...): the class that is called."""
    return logits.argmax(-1)


def attack_anew(game, fills, removal, step, data, run, seed):
    """A row of the table: the success of a new attack on the network without some filters.

    Args:
        game: filters.game.Game; its evaluator must have `without`.
        fills: (n_filters,) float32, the output of a removed filter.
        removal: Removal.
        step: int, filters removed.
        data: Images that are attacked.
        run: dict, the settings of mab.py's run.
        seed: int, of the targets.

    Returns:
        A tuple as TABLE_COLUMNS has it, of the split "fresh attack".
    """
    removed = removal.order[:step]
    network = game.evaluator.without(removed, fills)
    # by this the adversaries are found again in the cache
    digest = json.dumps([run["network"], removed.tolist(), fills[removed].tolist()])
    name = f"attacking anew, {step} filters removed"
    pairs = _pairs(game, network, digest, data, seed, name)
    fresh = Removal(removal.name, removal.order, [step])
    classify(game.evaluator, fills, [fresh], {"fresh": pairs.take(pairs.group == ADVERSARY)})
    return (
        removal.name,
        step,
        "fresh attack",
        "success",
        *metrics.mean_share(fresh.right["fresh"]),
    )


# ----------------------------------------------------------------------------- tables


def curve_table(removals, scores):
    """All scores at all steps, as eval.csv has them.

    Args:
        removals: list of Removal, classified.
        scores: list of Score; of several with the same split and group, the last counts.

    Returns:
        A DataFrame: method, n_removed, split, group, accuracy, ci_low, ci_high, n_images.
    """
    scores = {(score.split, score.group): score for score in scores}
    tables = []
    for removal in removals:
        for split, right in removal.right.items():
            for score in scores.values():
                if score.split == split and score.members.any():
                    tables.append(_curve(removal, right, score))
    return pd.concat(tables, ignore_index=True)


def _curve(removal, right, score):
    """One score along one removal. right: (len(steps), N) bool."""
    hits, n = right[:, score.members].sum(1), int(score.members.sum())
    low, high = metrics.wilson(hits, n)
    columns = {
        "method": removal.name,
        "n_removed": removal.steps,
        "split": score.split,
        "group": score.group,
        "accuracy": hits / n,
        "ci_low": low,
        "ci_high": high,
        "n_images": n,
    }
    return pd.DataFrame(columns)


def score_tables(removals, scores, steps):
    """Scores at some steps, and by how much those of the values differ from every other method's.

    Args:
        removals: list of Removal, classified, "shapley" among them.
        scores: list of Score.
        steps: list of int, numbers of removed filters.

    Returns:
        Two DataFrames, with TABLE_COLUMNS and CHANGE_COLUMNS. Differences are paired over images.
    """
    table, changes = [], []
    for score in scores:
        for step in steps:
            right = _right_by_method(removals, score, step)
            key = (step, score.split, score.group)
            for method, networks in right.items():
                table.append((method, *key, *metrics.mean_share(networks)))
                if method != "shapley":
                    change = metrics.paired_difference(right["shapley"], networks)
                    changes.append(("shapley", method, *key, *change))
    return (
        pd.DataFrame(table, columns=TABLE_COLUMNS),
        pd.DataFrame(changes, columns=CHANGE_COLUMNS),
    )


def _right_by_method(removals, score, step):
    """Which images of a score are right after `step` filters: {method: (orders, n_images) bool}."""
    right = {}
    for removal in removals:
        if step in removal.steps and score.split in removal.right:
            rows = removal.right[score.split][removal.steps.index(step), score.members]
            right.setdefault(removal.method, []).append(rows)
    return {method: np.stack(rows) for method, rows in right.items()}


def add_fresh_attacks(table, rows):
    """The table of scores with the success of new attacks below.

    Args:
        table: DataFrame with TABLE_COLUMNS.
        rows: list of tuples from `attack_anew`. Without removed filters, the new attack is the
            first one.

    Returns:
        A DataFrame with TABLE_COLUMNS.
    """
    first = table.query("method == 'shapley' and split == 'attack' and n_removed == 0").iloc[0]
    first = first.copy()
    first["split"] = "fresh attack"
    below = pd.DataFrame([first.tolist(), *rows], columns=TABLE_COLUMNS)
    return pd.concat([table, below], ignore_index=True)
