"""rivals.py: its record, going on after an interruption, and its checks."""

import json
from types import SimpleNamespace

from common.settings import InputError

import numpy as np
import pytest
import torch

import model
import rivals
from filters.choosers import CHOOSERS, Subject


def test_the_constant_names_all_rivals():
    assert rivals.RIVALS.split(",") == list(CHOOSERS)


def test_record(trained):
    """Each names as many filters as were asked for, once; the smallest norms go first."""
    records = trained / "cur_records"
    orders = dict(np.load(records / "rivals.npz"))
    run = json.loads(str(orders.pop("run")))
    assert list(orders) == list(CHOOSERS)
    assert all(len(set(order.tolist())) == len(order) == 3 for order in orders.values())
    record = json.loads((records / "rivals.json").read_text())
    assert record["orders"] == {name: order.tolist() for name, order in orders.items()}
    mab = json.loads((records / "mab.json").read_text())["run"]
    shared = {name: mab[name] for name in ("network", "images", "MEASURE", "REMOVAL")}
    assert record["run"] == run == {**shared, "MAX_REMOVED": 3, "CANDIDATES": 8}
    network = model.load(str(trained / "squeezenet.pth"), ARCH="squeezenet1_1", IMAGE_SIZE=32)
    norms = []
    for name, conv in network.named_modules():
        if isinstance(conv, torch.nn.Conv2d) and not name.startswith("classifier"):
            norms += conv.weight.detach().flatten(1).norm(dim=1).tolist()
    chosen = [norms[number] for number in orders["l2_norm"]]
    assert sorted(chosen) == pytest.approx(sorted(norms)[:3])


def test_interrupted_it_goes_on_with_the_next_rival(done, run):
    """What is recorded is kept, even if it was not what would be chosen now."""
    path = done / "cur_records/rivals.npz"
    arrays = dict(np.load(path))
    kept = {"run": arrays["run"], "l2_norm": arrays["l2_norm"][::-1]}
    np.savez(path, **kept)
    result = run("rivals.py", "--RIVALS=l2_norm,mean_activation", cwd=done)
    assert result.returncode == 0, result.stderr
    now = np.load(path)
    assert list(now) == ["run", "l2_norm", "mean_activation"]
    assert now["l2_norm"].tolist() == kept["l2_norm"].tolist()
    assert now["mean_activation"].tolist() == arrays["mean_activation"].tolist()
    lines = [text for text in result.stdout.splitlines() if "at chance" not in text]
    assert [text.partition(":")[0] for text in lines] == list(now)[1:]


def test_interrupted_within_a_rival_it_goes_on_with_the_next_filter(done, monkeypatch):
    """The filters that are chosen are not chosen again; those of other settings do not count."""
    monkeypatch.chdir(done)
    monkeypatch.setattr(rivals, "MAX_REMOVED", 4)
    (done / "cur_records/rivals.npz").unlink()

    def rival(subject, number):
        order = list(subject.begun)
        while len(order) < number:
            if len(order) == stop:
                raise KeyboardInterrupt
            order.append(len(order) + 10 * len(subject.begun))
            subject.on_filter(order)
        return np.array(order)

    monkeypatch.setitem(rivals.CHOOSERS, "greedy", rival)
    subject, path = Subject(*[None] * 7), done / "cur_records/rivals_state.npz"
    stop = 2
    for _ in range(2):  # interrupted before any filter, nothing changes
        with pytest.raises(KeyboardInterrupt):
            rivals.choose("greedy", subject, {"SEED": 0})
    stop = None
    before = path.read_bytes()
    assert rivals.choose("greedy", subject, {"SEED": 1}).tolist() == [0, 1, 2, 3]
    path.write_bytes(before)
    assert rivals.choose("greedy", subject, {"SEED": 0}).tolist() == [0, 1, 22, 23]
    assert not path.exists()


def test_other_settings_are_refused(done, stops):
    words = ["rivals.npz", "other settings", "--RECORDS_DIR"]
    stops("rivals.py", "--CANDIDATES=5", cwd=done, words=words)


def subject_of(n_players=7, is_cut=True):
    """All that the checks of a Subject look at."""
    evaluator = SimpleNamespace(is_cut=is_cut)
    return SimpleNamespace(players=np.arange(n_players), evaluator=evaluator)


def test_rivals_that_need_guesses(monkeypatch):
    """A network that cannot be cut gives none."""
    monkeypatch.setattr(rivals, "MAX_REMOVED", 3)
    rivals.check_limits(subject_of(is_cut=False), ["l2_norm", "mean_activation"])
    rivals.check_limits(subject_of(), list(CHOOSERS))
    with pytest.raises(InputError, match="l2_norm,mean_activation: the others need guesses"):
        rivals.check_limits(subject_of(is_cut=False), ["l2_norm", "greedy"])


@pytest.mark.parametrize("number, valid", [(0, False), (1, True), (6, True), (7, False)])
def test_not_all_filters_can_be_named(monkeypatch, number, valid):
    monkeypatch.setattr(rivals, "MAX_REMOVED", number)
    if valid:
        rivals.check_limits(subject_of(), [])
        return
    with pytest.raises(InputError, match="MAX_REMOVED=.: must be from 1 to 6"):
        rivals.check_limits(subject_of(), [])


def test_order_text():
    layers = ["first"] * 4 + ["second"] * 5
    evaluator = SimpleNamespace(layers=layers, channels=[0, 1, 2, 3, 0, 1, 2, 3, 4])
    text = rivals.order_text("greedy", np.array([0, 3, 4, 8]), evaluator, most=3)
    assert text == "greedy: first[0], first[3], second[0], ..."
    assert rivals.order_text("greedy", [8], evaluator) == "greedy: second[4]"
