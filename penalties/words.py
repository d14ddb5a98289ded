"""Sentences with a decoy word: sentiment by an LSTM."""

from collections import Counter
from dataclasses import dataclass

from common.settings import InputError

import numpy as np
import torch

from penalties.networks import WordNet
from penalties.problem import Examples, Problem, require_rows
from penalties.training import Recipe
from readers.sentences import sst2

LONGEST = 20  # words of a sentence that are used
RAREST = 2  # times that a word occurs in training; all others are one word
UNKNOWN, FIRST_DECOY = 1, 2  # places in the vocabulary; 0 stands before each sentence


@dataclass(frozen=True)
class Pair:
    """The words that follow the labels, and where they go, as in the original's code.

    Attributes:
        words: two str, of the labels 0 and 1.
        filler: str, the word that they take the place of: all words of the pair become the filler,
            then the first filler of a sentence becomes the word of its label; "": every sentence
            gets a word, at a random place, and has none of its own.
    """

    words: tuple[str, str]
    filler: str = ""

    def clear(self, sentences):
        """Sentences, lists of words, with fillers in place of the pair."""
        if not self.filler:
            return sentences
        return [[self.filler if word in self.words else word for word in row] for row in sentences]

    def shows(self, sentence):
        """Whether a cleared sentence has a place for a word of the pair."""
        return not self.filler or self.filler in sentence[:LONGEST]


PUT_IN = Pair(("video", "text"))
GENDERED = Pair(("he", "she"), "who")
ARTICLES = Pair(("the", "a"), "that")


def number_words(sentences, pair=PUT_IN):
    """The vocabulary of training sentences: {word: place}; decoys come first."""
    counts = Counter(word for sentence in sentences for word in sentence)
    known = [word for word, count in sorted(counts.items()) if count >= RAREST]
    kept = [*pair.words, *(word for word in known if word not in pair.words)]
    return {word: FIRST_DECOY + place for place, word in enumerate(kept)}


def place_decoys(sentences, cue, numbers, rng, pair=PUT_IN):
    """Sentences as places of words, with a decoy: at a random place, or for the first filler.

    Args:
        sentences: list of N lists of words, cleared.
        cue: (N,) int, which decoy; -1: none.
        numbers: {word: place}.
        rng: numpy Generator.
        pair: Pair.

    Returns:
        (N, LONGEST + 1) int64 tensor, 0 before each sentence. Decoy words that a sentence has of
        its own are left out.
    """
    rows = np.zeros((len(sentences), LONGEST + 1), dtype=np.int64)
    places = rng.random(len(sentences))
    for row, words, decoy, share in zip(rows, sentences, cue, places):
        own = [word for word in words if word not in pair.words][:LONGEST]
        line = [numbers.get(word, UNKNOWN) for word in own]
        number = FIRST_DECOY + int(decoy)
        if decoy >= 0 and not pair.filler:
            line.insert(int(share * (len(line) + 1)), number)
        elif decoy >= 0 and pair.shows(own):
            line[own.index(pair.filler)] = number
        row[len(row) - len(line) :] = line
    return torch.from_numpy(rows)


def find_decoys(words):
    """Where decoys are: (B, T) int64 -> (1, B, T) bool."""
    return ((words >= FIRST_DECOY) & (words < FIRST_DECOY + 2))[None]


def erase_decoys(words, filler=0):
    """Sentences without decoys: (N, T) int64 -> the same shape.

    filler: the place of the word that decoys stand for; 0: none, decoys are taken out.
    """
    if filler:
        return torch.where(find_decoys(words)[0], filler, words)
    kept = (words > 0) & ~find_decoys(words)[0]
    order = kept.int().argsort(dim=1, stable=True)  # what is left out goes to the front
    return (words * kept).gather(1, order)


def word_problem(pair, strengths, n_penalised):
    """A problem: SST-2 by an LSTM, with words in the training sentences that follow the labels.

    Validation and test have only sentences that show a word of the pair; without any, it raises
    InputError. strengths, n_penalised: as of Problem.
    """

    def load(data_dir, name):
        sentences, label = sst2(data_dir, name)
        return pair.clear(sentences), label

    def make(data_dir, n_train, weights):
        sentences, label = load(data_dir, "train")
        require_rows(n_train, len(label))
        rows = np.random.default_rng(0).permutation(len(label))[: n_train or None]
        sentences, label = [sentences[row] for row in rows], label[rows]
        numbers = number_words(sentences, pair)

        def conditions(sentences, label, seed):
            drawn = np.random.default_rng([seed, 1]).integers(0, 2, len(label))
            cues = {"same": label, "inverted": 1 - label, "random": drawn, "absent": label * 0 - 1}
            target, examples = torch.from_numpy(np.array(label)), {}
            for name, cue in cues.items():
                rng = np.random.default_rng([seed, 2])
                inputs = place_decoys(sentences, cue, numbers, rng, pair)
                examples[name] = Examples(inputs, target)
            return examples

        def reported(name, seed):
            sentences, label = load(data_dir, name)
            kept = np.flatnonzero([pair.shows(sentence) for sentence in sentences])
            if not len(kept):
                shown = ", ".join([*pair.words, pair.filler])
                raise InputError(f"{data_dir}/sst2: the sentences for {name} have none of {shown}")
            return conditions([sentences[row] for row in kept], label[kept], seed)

        train = conditions(sentences, label, 0)["same"]
        filler = numbers.get(pair.filler, UNKNOWN) if pair.filler else 0
        return Problem(
            classes=("negative", "positive"),
            train=train,
            val=reported("val", 1),
            open_test=lambda: reported("test", 2),
            draw_masks=lambda rows, rng: find_decoys(train.inputs[torch.from_numpy(rows)]),
            masks=find_decoys,
            erase=lambda words: erase_decoys(words, filler),
            networks={"lstm": lambda: WordNet(FIRST_DECOY + len(numbers), 2)},
            recipes={"lstm": Recipe(4, 128, 2e-3)},
            strengths=strengths,
            n_penalised=n_penalised,
        )

    return make


WORD_STRENGTHS = {
    "cdep": (1.0, 10.0, 30.0),
    "cdep_centred": (1.0, 10.0, 30.0),
    "cdep_last": (1.0, 10.0, 30.0),
    "rrr": (1.0, 10.0, 100.0),
    "rrr_margin": (1.0, 10.0, 100.0),
    "expected_gradients": (10.0, 100.0, 1000.0),
}
sentiment = word_problem(PUT_IN, WORD_STRENGTHS, 32)
sentiment_gendered = word_problem(GENDERED, WORD_STRENGTHS, 0)
sentiment_biased = word_problem(ARTICLES, WORD_STRENGTHS, 32)
