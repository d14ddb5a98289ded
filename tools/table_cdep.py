"""Tables and figures of the study of CDEP, from the records of cdep.py."""

import glob
import os

from common.records import load_json

import numpy as np

from penalties.losses import METHODS
from report import cdep, cdep_figures
from tools.recorded import markdown_table

HEAD_METHODS = ("vanilla", "cdep", "cdep_centred", "rrr", "erased")
EXPERIMENTS = {  # name and network -> what pages call it
    ("color_mnist", "convnet"): "ColorMNIST, decoy inverted",
    ("decoy_mnist", "mlp"): "DecoyMNIST, dense network, decoy inverted",
    ("decoy_mnist", "convnet"): "DecoyMNIST, ConvNet, decoy inverted",
    ("faces", "squeezenet1_1"): "faces with a patch, decoy inverted",
    ("sentiment", "lstm"): "sentiment, LSTM, no decoy",
    ("sentiment_biased", "lstm"): "sentiment, articles as decoys, no decoy",
    ("sentiment_gendered", "lstm"): "sentiment, gendered words as decoys, no decoy",
    ("lesions", "convnet"): "drawn skin lesions, patches on malignant ones",
    ("isic", "convnet"): "ISIC, patches on malignant images",
    ("digits", "mlp"): "scikit-learn's digits, decoy inverted",
    ("compas", "mlp"): "COMPAS, predictions that a swap of race changes",
}
# The measures of the head table; of other experiments inverted.
MEASURES = {"compas": "flips", "sentiment": "absent"}
MEASURES |= {"sentiment_biased": "absent", "sentiment_gendered": "absent"}
WORDS = {  # folder of a record -> the decoys of its claim
    "sentiment": "a word put in",
    "sentiment_biased": "articles",
    "sentiment_gendered": "gendered words",
}


def load_cdep(folder):
    """The record of cdep.py in a folder, a dict. Raises InputError."""
    return load_json(f"{folder}/cdep.json", "cdep.py")


def has_cdep(folder):
    """Whether a folder of records is one of cdep.py."""
    return os.path.exists(f"{folder}/cdep.json")


def draw_cdep(folder):
    """The figures of a folder of cdep.py, {name: matplotlib Figure}."""
    path = f"{folder}/maps.npz"
    maps = dict(np.load(path)) if os.path.exists(path) else None
    return cdep_figures.draw_all(load_cdep(folder), maps)


def cdep_sources(folder):
    """Paths of the records behind the figures of a folder."""
    paths = [f"{folder}/cdep.json", f"{folder}/maps.npz"]
    return [path for path in paths if os.path.exists(path)]


def _markdown(frame):
    return markdown_table(list(frame), frame.to_numpy().tolist())


def cdep_table(folder):
    """Accuracy of every method under every condition, or of tables flips and false positives."""
    record = load_cdep(folder)
    return _markdown(cdep.text_frame(cdep.result_frame(record), cdep.columns_of(record)))


def cdep_explained_table(folder):
    """What explanations say of the decoy, beside reliance."""
    record = load_cdep(folder)
    is_table = "flips" in record["results"][0]
    last = "predictions that a swap changes" if is_table else "accuracy lost, decoys inverted"
    columns = cdep.EXPLAINED_COLUMNS | {"reliance": last}
    return _markdown(cdep.text_frame(cdep.result_frame(record), columns))


def cdep_patch_table(folder):
    """AUC and F1 of skin images, of all as they are and of those without a patch."""
    record = load_cdep(folder)
    return _markdown(cdep.text_frame(cdep.result_frame(record), cdep.PATCH_COLUMNS))


def cdep_head_table(folder):
    """One row an experiment below a folder: the measure that no explanation can fool."""
    rows = []
    for experiment, label in EXPERIMENTS.items():
        for path in _folders(folder, *experiment):
            measure = MEASURES.get(experiment[0], "inverted")
            rows.append([label, *(mean_text(path, name, measure) for name in HEAD_METHODS)])
    header = ["in %, means of trainings", *(METHODS[name].label for name in HEAD_METHODS)]
    return markdown_table(header, rows)


def _folders(folder, name, arch):
    """Folders of records of one experiment and network."""
    matching = []
    for path in sorted(glob.glob(f"{folder}/*/cdep.json")):
        run = load_json(path, "cdep.py")["run"]
        if (run["EXPERIMENT"], run["arch"]) == (name, arch):
            matching.append(os.path.dirname(path))
    return matching


def reported(folder, method, measure):
    """A row of cdep.result_frame: mean, ci_low, ci_high; None if the method was not trained."""
    frame = cdep.result_frame(load_cdep(folder))
    rows = frame[(frame["method"] == method) & (frame["measure"] == measure)]
    return rows.iloc[0] if len(rows) else None


def mean_text(folder, method, measure):
    """A mean with its interval in %, "-" if the method was not trained."""
    row = reported(folder, method, measure)
    return "-" if row is None else cdep.percent_text(row)


def cdep_claims_table(folder):
    """What the paper and its code report, and what came out here."""
    rows = []
    if has_cdep(color := f"{folder}/color_mnist"):
        claim = "ColorMNIST: CDEP lifts test accuracy (inverted colours)"
        numbers = "0.5 -> 25.1 (README); 34.25 (demo notebook)"
        rows.append([claim, numbers, _change(color, "cdep"), _verdict(color, "cdep")])
        rrr = reported(color, "rrr", "inverted")
        if rrr is not None:
            verdict = "yes" if rrr["mean"] < 0.02 else "no"
            rows.append(["ColorMNIST: RRR does not", "as without", _change(color, "rrr"), verdict])
    if has_cdep(decoy := f"{folder}/decoy_mlp"):
        here = f"{_change(decoy, 'cdep')}; ceiling {mean_text(decoy, 'erased', 'inverted')}"
        claim = "DecoyMNIST: CDEP makes the network ignore the decoy"
        rows.append([claim, "yes", here, _ceiling_verdict(decoy, "cdep")])
    if has_cdep(compas := f"{folder}/compas"):
        gap, accuracy = (_change(compas, "cdep", measure) for measure in ("gap", "same"))
        claim = "COMPAS: a smaller gap in false positive rates at about the same accuracy"
        rows.append([claim, "yes", f"gap {gap}; accuracy {accuracy}", _gap_verdict(compas)])
    for name, decoys in WORDS.items():
        if has_cdep(words := f"{folder}/{name}"):
            claim = f"Sentiment, decoy: {decoys}; CDEP lifts accuracy without it"
            ceiling = mean_text(words, "erased", "absent")
            here = f"{_change(words, 'cdep', 'absent')}; ceiling {ceiling}"
            rows.append([claim, "yes", here, _verdict(words, "cdep", "absent")])
    claim, numbers = "ISIC: AUC / F1 without patch images", ".87 / .56 -> .89 / .61"
    here, verdict = "not run: no images at hand", "-"
    if has_cdep(lesions := f"{folder}/lesions"):
        auc, f1 = (_change(lesions, "cdep", f"{measure}_absent") for measure in ("auc", "f1"))
        here = f"drawn lesions: AUC {auc}; F1 {f1}"
        verdict = f"on drawings: {_verdict(lesions, 'cdep', 'auc_absent')}"
    rows.append([claim, f"{numbers} (corrected Table 1)", here, verdict])
    return markdown_table(["claim", "reported", "here, %", "reproduced"], rows)


def _change(folder, method, measure="inverted"):
    before, after = (mean_text(folder, name, measure) for name in ("vanilla", method))
    return f"{before} -> {after}"


def _verdict(folder, method, measure="inverted"):
    """Whether a method's interval lies above that without a penalty."""
    before, after = (reported(folder, name, measure) for name in ("vanilla", method))
    return "yes" if after["ci_low"] > before["ci_high"] else "no"


def _ceiling_verdict(folder, method):
    """Whether a method comes within a point of the erased ceiling, decoys inverted."""
    missing = reported(folder, "erased", "inverted")["mean"]
    missing -= reported(folder, method, "inverted")["mean"]
    return "yes" if missing <= 0.01 else f"in part: {100 * missing:.0f} points below the ceiling"


def _gap_verdict(folder):
    before, after = (reported(folder, name, "gap") for name in ("vanilla", "cdep"))
    if after["ci_high"] < before["ci_low"]:
        return "yes"
    return "no: the intervals overlap"


def cdep_concealed_list(folder):
    """Where an explanation became clean and the answers still follow the decoy, a list."""
    lines = cdep.concealed_text(cdep.result_frame(load_cdep(folder)))
    return "\n".join(f"- {line}" for line in lines)


def cdep_result(folder):
    """The row of README.md: what published CDEP and the centred square make of decoys."""
    texts = []
    for experiment in (("decoy_mnist", "mlp"), ("compas", "mlp")):
        for path in _folders(folder, *experiment):
            measure = MEASURES.get(experiment[0], "inverted")
            names = ("vanilla", "cdep", "cdep_centred", "erased")
            rows = [reported(path, name, measure) for name in names]
            means = ["-" if row is None else f"{100 * row['mean']:.0f}" for row in rows]
            texts.append(f"{EXPERIMENTS[experiment]}: {' / '.join(means)} %")
    return (
        "in part: " + "; ".join(texts) + " (no penalty / published / centred square / decoy erased)"
    )
