"""Step 2: the Shapley value of every filter, by a truncated multi-armed bandit (TMAB-Shapley).

    python mab.py

Reads squeezenet.pth and FairFace's images for the values, or those of another TASK. Writes under
RECORDS_DIR: filters.csv, race.csv, shapley_values.pkl, mab.json, and mab.npz, the state from which
the same command goes on. Rounds are shared by the processes that torchrun starts.

V(S) is the network's performance when only the filters in S work. The algorithm is in
shapley/bandit.py. It needs neither torch nor data: mab.tmab_shapley takes any game as a function.
"""

import json
import math
import os
import signal
import sys
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
    list_names,
)

import numpy as np
from tqdm import tqdm

from report.summary import progress_text, summary_lines, verdict
from report.values import RUN_CONSTANTS, highest_filters, load_stages, save_stages, save_tables
from shapley import tmab_shapley
from shapley.intervals import BOUNDS
from shapley.processes import OneProcess, TorchProcesses
from shapley.samplers import SAMPLERS

# -----------------------------------------------------------------------------
# the set of interest
TOP_K = 100  # its size; the paper's
WHICH = "auto"  # lowest: most harmful; highest: most helpful; auto: lowest for faces, else highest
# the game
MEASURE = "accuracy"  # V, one of MEASURES in filters/measures.py; accuracy is the paper's
CLASS = ""  # a class by name: V is measured on its images only, so that accuracy is its recall
SPARE = ""  # RECORDS_DIR of an earlier run on this network, whose highest filters are no players
SPARED = 0.2  # share of the filters that SPARE keeps in place
REMOVAL = "mean"  # what a removed filter gives: mean, its mean output (the paper's), or zero
IMAGES_PER_ROUND = 128  # images of V, new ones in each round; the paper's
BY_MARGIN = False  # take more images near the decision boundary; accuracy and soft_accuracy only
TRUNCATION = 0.53  # V below which the rest of an order counts as 0; chance is 0.5
DEEPEST = 0.25  # share of the filters after whose removal the rest counts as 0 whatever V is
# the estimator
SAMPLER = "guided"  # guided: as shared, with guesses from a gradient; shared; paper
SINGLES = 96  # filters sampled in a round by guided and shared
BOUND = "asymptotic"  # asymptotic and clt (approximate), sequence, bernstein (the paper's)
CLIP = 0.0  # marginals are clipped to +- CLIP: narrower sequence and bernstein; 0: not
DELTA = 0.05  # probability that any interval ever misses its value
EPS = 1e-4  # tolerance around the k-th value; the paper's
# the budget
MAX_ROUNDS = 1000  # random orders, in each stage, if the set is not decided before
STAGES = 1  # estimates; 1: the paper's. Each further one first removes the lowest filter for good
LOOK_EVERY = 12  # rounds between looks at the intervals; processes share the rounds in between
# -----------------------------------------------------------------------------


def main():
    """Load the game, run the bandit on it, save and print what it found."""
    import model  # here, as all that needs torch: the estimator does not

    check_constants()
    records.commit()  # now: it may be another one when the record is written
    device = model.find_device(DEVICE)
    distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1
    team = TorchProcesses(device) if distributed else OneProcess()
    game, data, players = load(team, device)
    run = run_settings(game, data)
    saved = None
    if team.rank == 0:
        saved = load_stages(RECORDS_DIR, json.loads(json.dumps(run)), players)
    saved = team.share(saved)
    done = saved.stages.number
    settings.require("STAGES", STAGES, done < STAGES, f"at least {done + 1}: so many are done")
    search = Search(game, data, players, run, saved, team)
    search.check_truncation()
    catch_signals(team)
    search.estimate()
    team.close()
    if team.rank == 0:
        search.finish()


def which_end():
    """The constant WHICH, with "auto" resolved."""
    if WHICH != "auto":
        return WHICH
    return "lowest" if TASK == "faces" else "highest"


def check_constants():
    """Check everything that needs no data. Raises InputError."""
    from filters.measures import MEASURES

    one_stage = STAGES == 1 or (STAGES > 1 and which_end() == "lowest" and not SPARE)
    stages_rule = "1, or more if WHICH is lowest and nothing is spared"
    for name, value, condition, rule in (
        ("WHICH", WHICH, WHICH in ("lowest", "highest", "auto"), "lowest, highest or auto"),
        ("SPARED", SPARED, 0 < SPARED < 1, "between 0 and 1"),
        ("BOUND", BOUND, BOUND in BOUNDS, " or ".join(BOUNDS)),
        ("DEEPEST", DEEPEST, 0 < DEEPEST <= 1, "more than 0, at most 1"),
        ("SAMPLER", SAMPLER, SAMPLER in SAMPLERS, " or ".join(SAMPLERS)),
        ("SINGLES", SINGLES, SINGLES >= 2, "at least 2"),
        ("CLIP", CLIP, CLIP >= 0, "0 or more"),
        ("DELTA", DELTA, 0 < DELTA < 1, "between 0 and 1"),
        ("EPS", EPS, EPS >= 0, "0 or more"),
        ("MAX_ROUNDS", MAX_ROUNDS, MAX_ROUNDS >= 1, "at least 1"),
        ("STAGES", STAGES, one_stage, stages_rule),
        ("LOOK_EVERY", LOOK_EVERY, LOOK_EVERY >= 1, "at least 1"),
        ("MEASURE", MEASURE, MEASURE in MEASURES, " or ".join(MEASURES)),
    ):
        settings.require(name, value, condition, rule)
    if TASK == "faces":
        rule = "given with another TASK; --TASK=celeba attacks the same network"
        settings.require("MEASURE", MEASURE, MEASURE != "attack", rule)
    else:
        rule = "one that compares no groups, or be given with --TASK=faces"
        settings.require("MEASURE", MEASURE, not MEASURES[MEASURE].compares_groups, rule)
    allowed = not BY_MARGIN or MEASURES[MEASURE].averages
    averages = " or ".join(name for name, measure in MEASURES.items() if measure.averages)
    settings.require("BY_MARGIN", BY_MARGIN, allowed, f"given with a MEASURE of {averages}")
    for name, value in (("CLASS", CLASS), ("SPARE", SPARE)):
        allowed = not value or (TASK != "faces" and MEASURE != "attack")
        settings.require(name, value, allowed, "left out for TASK=faces and MEASURE=attack")


def load(team, device):
    """The game, the images that V is measured on, and the players (filters that have a value)."""
    from filters.game import load_game

    constants = settings.constants_of(globals())
    game = team.run_first(lambda: load_game(constants, device))
    rule = f"one of {list_names(game.classes, 20)}"
    settings.require("CLASS", CLASS, CLASS in ("", *game.classes), rule)
    n_filters = len(game.evaluator.layers)
    players = np.arange(n_filters)
    if SPARE:
        spared = highest_filters(SPARE, SPARED, game.digest, n_filters)
        players = np.setdiff1d(players, spared)
    fit_to_players(len(players))
    data = team.run_first(lambda: game.measured_images(MEASURE, CLASS, SEED))
    return game, data, players


def fit_to_players(n_players):
    """Check TOP_K and DEEPEST; of few filters, the default TOP_K is lowered. Raises InputError."""
    global TOP_K
    if n_players < 2:
        raise InputError(
            f"ARCH={ARCH}: {n_players} filters to value, but to compare takes two at least; give "
            "another --ARCH, or a lower --SPARED"
        )
    if n_players <= TOP_K and "TOP_K" not in settings.GIVEN:
        lowered = max(1, n_players // 4)
        records.note(
            f"TOP_K={TOP_K}, the default, is lowered to {lowered}, a quarter of the {n_players} "
            "filters; give another --TOP_K if you want"
        )
        TOP_K = lowered
    rule = f"from 1 to {n_players - 1}, the number of filters less one"
    settings.require("TOP_K", TOP_K, 0 < TOP_K < n_players, rule)
    least = math.ceil(1000 / n_players) / 1000
    rule = f"at least {least:g}, so that an order removes one of the {n_players} filters"
    settings.require("DEEPEST", DEEPEST, DEEPEST * n_players >= 1, rule)


def run_settings(game, data):
    """What a saved state must share with this run, a dict: constants, network and images."""
    import datasets

    constants = settings.constants_of(globals())
    run = {name: value for name, value in constants.items() if name in RUN_CONSTANTS}
    digest = datasets.digest(game.seen)
    run["WHICH"] = which_end()
    run["network"] = game.digest
    run["images"] = digest if data is game.seen else datasets.digest(data)
    if game.network.source:
        run["source"] = game.network.source
    if game.network.rescaling:
        run["normalisation"] = game.network.rescaling
    if STAGES > 1:
        run["ROUNDS_A_STAGE"] = MAX_ROUNDS
    if TASK != "faces":
        run |= {"TASK": TASK, "CLASS": CLASS, "seen": digest}
    return run


def catch_signals(team):
    """Let SIGINT and SIGTERM end the run after the round, when the state is whole."""

    def interrupt(number, _):
        team.interrupted = True
        signal.signal(number, signal.SIG_DFL)
        if team.rank == 0:
            tqdm.write("Stopping after this round; again to stop at once.", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


class Search:
    """The bandit at work on a game: stages, saving, progress, and the last lines."""

    def __init__(self, game, data, players, run, saved, team):
        from filters.value import BatchValue, fill_values

        self.game, self.players, self.run, self.team = game, players, run, team
        evaluator = game.evaluator
        self.names = list(zip(evaluator.layers, evaluator.channels))
        fills = fill_values(evaluator, game.seen, REMOVAL)
        self.value = BatchValue(
            evaluator, fills, data, IMAGES_PER_ROUND, MEASURE, by_margin=BY_MARGIN
        )
        # A network that cannot be cut has no guesses.
        self.guided = SAMPLERS[SAMPLER].guesses and evaluator.is_cut
        self.stages, self.saved = saved.stages, saved
        self.rounds_before = self.stages.total("rounds")
        self.evaluations_before = self.stages.total("evaluations")
        self.started = time.time()

    def check_truncation(self):
        """Raise InputError where the truncation would make all values 0."""
        if TASK == "faces" or self.rounds_before:
            return
        whole = float(self.value(np.ones((1, len(self.names)), dtype=bool), SEED)[0])
        limits = f"below V of the whole network, about {whole:.2f}, and above chance"
        rule = f"{limits}, or all values would be 0"
        if self.game.doubt:
            rule = f"{rule}; but {self.game.doubt}"
        settings.require("TRUNCATION", TRUNCATION, whole >= TRUNCATION, rule)

    def estimate(self):
        """Run the stages that are missing. KeyboardInterrupt after a signal, all saved."""
        with tqdm(
            total=MAX_ROUNDS * STAGES,
            initial=self.rounds_before,
            desc="mab.py",
            bar_format="{l_bar}{bar:10}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            disable=self.team.rank > 0,
        ) as self.bar:
            self.estimate_stage()
            while self.stages.number < STAGES - 1:
                self.stages = self.stages.next()
                self.estimate_stage()

    def estimate_stage(self):
        """Run the bandit on what earlier stages left in place."""
        from filters.measures import MEASURES

        n_players = len(self.players)
        remaining = self.stages.remaining(n_players)  # removed ones are players that change nothing

        def coalitions(keep):
            """(..., n_players) bool -> (..., n_filters) bool."""
            everyone = np.ones((*keep.shape[:-1], len(self.names)), dtype=bool)
            everyone[..., self.players] = keep & remaining
            return everyone

        def guess(keep, round_seed):
            return self.value.guess(coalitions(keep), round_seed)[self.players] * remaining

        low, high = MEASURES[MEASURE].value_range  # of V; a marginal is a difference of two
        truncation = TRUNCATION if low < TRUNCATION else None  # V cannot be below it
        self.stages.state = tmab_shapley(
            lambda keep, round_seed: self.value(coalitions(keep), round_seed),
            n_players,
            k=TOP_K,
            which=which_end(),
            eps=EPS,
            delta=DELTA,
            truncation=truncation,
            value_range=(low - high, high - low),
            bound=BOUND,
            clip=CLIP or None,
            max_rounds=MAX_ROUNDS,
            seed=SEED + self.stages.number * 2**96,
            sampler="shared" if SAMPLERS[SAMPLER].guesses and not self.guided else SAMPLER,
            singles=SINGLES,
            guess=guess if self.guided else None,
            deepest=DEEPEST,
            chunk=self.game.evaluator.chunk,
            look_every=LOOK_EVERY,
            team=self.team,
            state=self.stages.state,
            on_round=self.on_round,
        )

    def on_round(self, state):
        """Save and show what is known after a round; KeyboardInterrupt after a signal."""
        self.stages.state = state
        complete = state.rounds == MAX_ROUNDS or state.decided
        last_stage = self.stages.number == STAGES - 1
        stopping = self.team.stopping and not (complete and last_stage)
        if self.team.rank == 0:
            save_stages(RECORDS_DIR, self.stages, self.run, self.players)
            if stopping or (STAGES == 1 and state.rounds % LOOK_EVERY == 0):
                self.write_tables()
            pace = self.evaluations() / (time.time() - self.started)
            self.bar.set_postfix_str(progress_text(self.stages, STAGES, pace), refresh=False)
            self.bar.update()
        if stopping:
            raise KeyboardInterrupt

    def evaluations(self):
        """Evaluations of V since the run was started or resumed."""
        return self.stages.total("evaluations") - self.evaluations_before

    def seconds(self):
        """Seconds that the run took, those before a resumption included."""
        if self.stages.total("rounds") == self.rounds_before:
            return self.saved.seconds
        return self.saved.seconds + time.time() - self.started

    def write_tables(self):
        """Write filters.csv, race.csv, shapley_values.pkl and mab.json."""
        import torch

        constants, device = settings.constants_of(globals()), str(self.game.device)
        facts = {
            **records.provenance(constants, self.seconds(), device),
            "run": self.run,
            "processes": self.team.size,
            "threads": torch.get_num_threads(),
        }
        save_tables(RECORDS_DIR, self.stages, self.run, self.names, self.players, facts)

    def finish(self):
        """Save the tables, and print what was found."""
        rounds = self.stages.total("rounds")
        if rounds != self.saved.tabled_rounds:
            self.write_tables()
        if rounds == self.rounds_before:
            budget = "MAX_ROUNDS" if STAGES == 1 else "STAGES"
            print(
                f"No round was computed: {RECORDS_DIR}/mab.npz is of an earlier run that is "
                f"complete. Raise {budget} to go on with it, or give another --RECORDS_DIR to "
                "start anew. It holds:"
            )
        for line in summary_lines(self.stages, self.names, self.players, which_end(), RECORDS_DIR):
            print(line)
        state = self.stages.state
        seconds = self.seconds() * state.rounds / rounds
        print(verdict(state, self.run, seconds, self.game.doubt))


if __name__ == "__main__":
    settings.run(main, globals(), earlier=("train_squeeze.py", "mab.py"), resumes="mab.npz")
