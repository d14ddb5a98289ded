"""Names of methods, scores and sets of images, as figures, tables and screen show them."""

METHODS = {  # by their names in records; "... and threshold" is added where it is shifted too
    "nothing": "nothing removed",
    "shapley": "lowest values removed",
    "random": "random filters removed",
    "l2_norm": "smallest weights removed",
    "mean_activation": "least active removed",
    "first_order": "gradient x activation",
    "leave_one_out": "leave-one-out",
    "greedy_guess": "greedy by gradient",
    "greedy": "greedy removal",
    "finetune_head": "head fine-tuned",
    "relevance": "lowest relevance removed",
    "finetune": "all fine-tuned",
    "dfr": "last layer retrained (DFR)",
    "leace": "race erased (LEACE)",
    "leace_dfr": "race erased (LEACE), last layer retrained",
    "race_thresholds": "thresholds by race (fairlearn)",
}
RULE_LABELS = {  # what steps and thresholds are chosen by, by their names in report/selection.py
    "balanced": "balanced accuracy",
    "worst": "worst group",
    "celeba": "{celeba} val alone",
}
# What a repair itself is told of the faces, beside what its rule needs; others: as their V.
NEEDS = {
    "nothing": "none",
    "threshold": "none",
    "random": "none",
    "l2_norm": "none",
    "mean_activation": "none",
    "relevance": "gender",
    "finetune": "gender",
    "finetune_head": "gender",
    "dfr": "gender, race",
    "leace": "race",
    "leace_dfr": "gender, race",
    "race_thresholds": "gender, race; race of every new face",
}
HIGHEST_FIRST = {  # where the highest go first
    "shapley": "highest values removed",
    "l2_norm": "largest weights removed",
    "mean_activation": "most active removed",
}
ATTACK_SCORES = {  # by split
    "attack": "success of the attack",
    "black box": "success of the black-box attack",
    "fresh attack": "success of a fresh attack",
    "no attack": "unattacked, taken for the target",
}
RACES = ("white", "black")  # in records in small letters
REAL_SETS = {"fairface": "FairFace", "celeba": "CelebA"}  # of records that name no others
FAIRFACE_SPLITS = {"report": "report set", "choose": "choosing set"}
CELEBA_SPLITS = {"report": "test", "choose": "val"}  # beside each of FairFace's


def label_needs(row, compares_groups):
    """Which labels a repair needs beside those of its rule, as text.

    Args:
        row: str, as in records.
        compares_groups: bool, whether the V that it goes by, if it does, compares groups.
    """
    name = row.partition("@")[0].partition("+")[0]
    return NEEDS.get(name, "gender, race" if compares_groups else "gender")


def rule_label(row, set_names=None):
    """By what a row's step and threshold were chosen, as a table shows it.

    row: str, as in records. set_names: as from datasets.set_names; None: the real sets.
    """
    if row in ("nothing", "race_thresholds"):
        return ""
    return RULE_LABELS[row.partition("@")[2] or "balanced"].format(**(set_names or REAL_SETS))


def method_label(method, which="lowest", names=None):
    """A method as it is shown; not by which rule it was chosen.

    Args:
        method: str, as in records.
        which: "lowest" or "highest", the values that go first.
        names: {method: label}, which precede METHODS.
    """
    name, plus, _ = method.partition("@")[0].partition("+")
    if name == "threshold":
        return "threshold shifted"
    if which == "highest" and name in HIGHEST_FIRST:
        return HIGHEST_FIRST[name]
    return {**METHODS, **(names or {})}.get(name, name) + (" and threshold" if plus else "")


def group_label(group):
    """A score of faces as it is shown: "Black women", "AUC Black"."""
    for race in RACES:
        group = group.replace(race, race.capitalize())
    return group


def score_label(split, group):
    """A score of a task other than faces as it is shown. split, group: as in its records."""
    if split != "report":
        return ATTACK_SCORES[split]
    if group == "all":
        return "accuracy"
    if group == "others":
        return "accuracy on the other classes"
    return f"recall of {group.removeprefix('class ')}"


def fairface_label(split, set_names=None):
    """The balanced faces that scores are of, as shown: "FairFace report set".

    split: "report" or "choose". set_names: as from datasets.set_names; None: the real sets.
    """
    return f"{(set_names or REAL_SETS)['fairface']} {FAIRFACE_SPLITS[split]}"


def celeba_label(split, set_names=None):
    """The faces like those that the network was trained on, as shown: "CelebA test set".

    Arguments as in `fairface_label`.
    """
    return f"{(set_names or REAL_SETS)['celeba']} {CELEBA_SPLITS[split]} set"
