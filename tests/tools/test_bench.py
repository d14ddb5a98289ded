"""tools.bench: a tiny run, and what it counts."""

import json

import pytest
import torch
from torch import nn

from filters.coalitions import Coalitions
from tools import bench


def test_a_tiny_run(run, tmp_path):
    result = run("tools.bench", cwd=tmp_path)  # needs no trained network
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "cur_records/bench.json").read_text())
    assert min(record[f"{way}_ms"] for way in bench.WAYS) > 0
    assert sum(record["spent"].values()) == pytest.approx(1) and record["peak_memory_gib"] > 0
    assert 0.1 < record["suffix_share"] < 0.4
    assert record["images"] == 8 and record["device"] == "cpu"


@pytest.mark.parametrize("name", ["IMAGES=0", "REMOVALS=0", "IMAGES=100000"])
def test_constants_out_of_range(run, tmp_path, name):
    result = run("tools.bench", f"--{name}", cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.splitlines()[-1].startswith(f"--{name}")


def test_suffix_share_counts_what_is_behind_a_filter():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.AvgPool2d(8)
    )
    network.append(nn.Flatten()).append(nn.Linear(2, 5))
    evaluator = Coalitions(network.eval(), 8)
    first, second, head = 3 * 4 * 64, 4 * 2 * 64, 2 * 5  # multiplications
    expected = (4 * (second + head) + 2 * head) / 6 / (first + second + head)
    assert bench.suffix_share(evaluator, torch.zeros(1, 3, 8, 8)) == pytest.approx(expected)


def test_time_is_shared_among_kinds():
    images, conv = torch.zeros(1, 3, 64, 64), nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        spent = bench.time_by_kind(lambda: conv(images).clamp_min(0), torch.device("cpu"))
    assert set(spent) == {*bench.KINDS, "the rest"} and sum(spent.values()) == pytest.approx(1)
    assert spent["convolutions and matrix products"] > 0 and spent["ReLU and removal"] > 0
    assert spent["pooling"] == 0
