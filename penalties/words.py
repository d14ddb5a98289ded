"""Sentences with a decoy word: sentiment by an LSTM."""

from collections import Counter

import numpy as np
import torch

from penalties.networks import WordNet
from penalties.problem import Examples, Problem, require_rows
from penalties.training import Recipe
from readers.sentences import sst2

DECOYS = ("video", "text")  # the word that follows the labels 0 and 1, as in the original's code
LONGEST = 20  # words of a sentence that are used
RAREST = 2  # times that a word occurs in training; all others are one word
UNKNOWN, FIRST_DECOY = 1, 2  # places in the vocabulary; 0 stands before each sentence


def number_words(sentences):
    """The vocabulary of training sentences: {word: place}; decoys come first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    known = [word for word, count in sorted(counts.items()) if count >= RAREST]
    kept = [*DECOYS, *(word for word in known if word not in DECOYS)]
    return {word: FIRST_DECOY + place for place, word in enumerate(kept)}


def place_decoys(sentences, cue, numbers, rng):
    """Sentences as places of words, with a decoy at a random place.

    Args:
        sentences: list of N lists of words.
        cue: (N,) int, which decoy; -1: none.
        numbers: {word: place}.
        rng: numpy Generator.

    Returns:
        (N, LONGEST + 1) int64 tensor, 0 before each sentence. Decoy words that a sentence has of
        its own are left out.
    """
    rows = np.zeros((len(sentences), LONGEST + 1), dtype=np.int64)
    places = rng.random(len(sentences))
    for row, words, decoy, share in zip(rows, sentences, cue, places):
        line = [numbers.get(word, UNKNOWN) for word in words if word not in DECOYS][:LONGEST]
        if decoy >= 0:
            line.insert(int(share * (len(line) + 1)), FIRST_DECOY + int(decoy))
        row[len(row) - len(line) :] = line
    return torch.from_numpy(rows)


def find_decoys(words):
    """Where decoys are: (B, T) int64 -> (1, B, T) bool."""
    return ((words >= FIRST_DECOY) & (words < FIRST_DECOY + len(DECOYS)))[None]


def erase_decoys(words):
    """Sentences without decoys: (N, T) int64 -> the same shape."""
    kept = (words > 0) & ~find_decoys(words)[0]
    order = kept.int().argsort(dim=1, stable=True)  # what is left out goes to the front
    return (words * kept).gather(1, order)


def sentiment(data_dir, n_train, weights):
    """SST-2 by an LSTM, with a word in each training sentence that follows its label."""
    sentences, label = sst2(data_dir, "train")
    require_rows(n_train, len(label))
    rows = np.random.default_rng(0).permutation(len(label))[: n_train or None]
    sentences, label = [sentences[row] for row in rows], label[rows]
    numbers = number_words(sentences)

    def conditions(sentences, label, seed):
        drawn = np.random.default_rng([seed, 1]).integers(0, 2, len(label))
        cues = {"same": label, "inverted": 1 - label, "random": drawn, "absent": label * 0 - 1}
        target, examples = torch.from_numpy(np.array(label)), {}
        for name, cue in cues.items():
            inputs = place_decoys(sentences, cue, numbers, np.random.default_rng([seed, 2]))
            examples[name] = Examples(inputs, target)
        return examples

    train = conditions(sentences, label, 0)["same"]
    return Problem(
        classes=("negative", "positive"),
        train=train,
        val=conditions(*sst2(data_dir, "val"), 1),
        open_test=lambda: conditions(*sst2(data_dir, "test"), 2),
        draw_masks=lambda rows, rng: find_decoys(train.inputs[torch.from_numpy(rows)]),
        masks=find_decoys,
        erase=erase_decoys,
        networks={"lstm": lambda: WordNet(FIRST_DECOY + len(numbers), 2)},
        recipes={"lstm": Recipe(4, 128, 2e-3)},
        strengths=WORD_STRENGTHS,
        n_penalised=32,
    )


WORD_STRENGTHS = {
    "cdep": (1.0, 10.0, 30.0),
    "cdep_centred": (1.0, 10.0, 30.0),
    "cdep_last": (1.0, 10.0, 30.0),
    "rrr": (1.0, 10.0, 100.0),
    "rrr_margin": (1.0, 10.0, 100.0),
    "expected_gradients": (10.0, 100.0, 1000.0),
}
