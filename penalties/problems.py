"""The problems by name.

A problem is a function (data_dir, n_train, weights) -> Problem. A new one is one function and one
entry of PROBLEMS.
"""

from common.settings import InputError

from penalties.images import color_mnist, decoy_mnist, digits, faces
from penalties.skin import isic, lesions
from penalties.tables import compas_race
from penalties.words import sentiment, sentiment_biased, sentiment_gendered

PROBLEMS = {  # by EXPERIMENT
    "digits": digits,
    "decoy_mnist": decoy_mnist,
    "color_mnist": color_mnist,
    "faces": faces,
    "lesions": lesions,
    "isic": isic,
    "compas": compas_race,
    "sentiment": sentiment,
    "sentiment_biased": sentiment_biased,
    "sentiment_gendered": sentiment_gendered,
}


def load_problem(name, data_dir, n_train, weights="imagenet"):
    """The Problem of an EXPERIMENT. Raises InputError.

    Args:
        name: str, a key of PROBLEMS.
        data_dir: str, the folder of all data.
        n_train: int, rows to train on; 0: all.
        weights: str, the first weights of networks that do not start from nothing, as model.build
            takes them.
    """
    if name not in PROBLEMS:
        raise InputError(f"--EXPERIMENT={name}: must be {' or '.join(PROBLEMS)}")
    return PROBLEMS[name](data_dir, n_train, weights)
