"""Constants that cannot be: exit status 2, one line that names them, nothing changed."""

import json

import pytest
import torch

from tests.damage import check_stopped, remove

WRONG = {
    "train_squeeze.py": "IMAGE_SIZE=0 IMAGE_SIZE=-5 IMAGE_SIZE=8 EPOCHS=0 BATCH_SIZE=0 SEED=-1 "
    "LEARNING_RATE=-1 ARCH=resnet WEIGHTS=nowhere.pth CELEBA_FRAME=1,1,0,0 DEVICE=x "
    "FAIRFACE_FRAME=0,0,2,2 FAIRFACE_FRAME=0,0,nan,1",
    "mab.py": "NO_SUCH=1 SEED=abc SEED=0.5 SEED=-1 DEVICE=x DEVICE=cuda:99 DEVICE=meta ARCH=resnet "
    "REMOVAL=x BOUND=x MEASURE=x MEASURE=attack WHICH=x TOP_K=0 TOP_K=99999 IMAGES_PER_ROUND=13 "
    "IMAGES_PER_ROUND=0 IMAGES_PER_ROUND=-4 IMAGES_PER_ROUND=4000 MAX_ROUNDS=0 STAGES=0 "
    "LOOK_EVERY=0 SAMPLER=x SINGLES=1 DEEPEST=0 DEEPEST=2 DELTA=2 DELTA=nan EPS=-1 TRUNCATION=nan "
    "CLIP=-1 CLIP=nan BY_MARGIN=x SPARED=0 SPARED=1 SPARE=cur_records CLASS=male IMAGE_SIZE=0 "
    "FAIRFACE_FRAME=1,1,0,0 FAIRFACE_FRAME=0,0,2,2 FAIRFACE_FRAME=0,1",
    "rivals.py": "MAX_REMOVED=0 MAX_REMOVED=9999 CANDIDATES=0 RIVALS=x SEED=-1 ARCH=resnet "
    "DEVICE=x",
    "finetune.py": "EPOCHS=0 BATCH_SIZE=0 LEARNING_RATE=0 HEAD_LEARNING_RATE=-1 ARCH=resnet "
    "DEVICE=x RATE_FACTORS=0,1,1 REPAIRS=x",
    "eval.py": "MAX_REMOVED=-1 RANDOM_ORDERS=-1 SEED=-1 ARCH=resnet DEVICE=x OTHERS=nowhere "
    "CELEBA_FRAME=0,0,0,1 OPEN_REPORT=x",
}
CASES = [(name, case) for name, cases in WRONG.items() for case in cases.split()]


@pytest.mark.parametrize("name, case", CASES)
def test_constant(done, stops, name, case):
    if name == "mab.py":  # else it may stop because the saved state has another value
        remove(done / "cur_records")
    stops(name, f"--{case}", cwd=done, words=[case.partition("=")[0]])


@pytest.mark.parametrize("measure", ["auc", "likelihood", "worst_group"])
def test_batches_by_margin_need_a_measure_that_averages(ready, stops, measure):
    words = ["BY_MARGIN=True", "given with a MEASURE of accuracy or soft_accuracy"]
    stops("mab.py", "--BY_MARGIN=True", f"--MEASURE={measure}", cwd=ready, words=words)


@pytest.mark.parametrize(
    "number, words",
    [(12, ["multiple of 16", "the 4 strata of BY_MARGIN"]), (32, ["each stratum", "smaller"])],
)
def test_batches_by_margin_that_cannot_be(ready, stops, number, words):
    """Of 12 images of each group, one is in the smallest stratum."""
    arguments = ["--BY_MARGIN=True", f"--IMAGES_PER_ROUND={number}"]
    stops("mab.py", *arguments, cwd=ready, words=[f"IMAGES_PER_ROUND={number}", *words])


@pytest.mark.parametrize("argument", ["SEED", "SEED=1", "--SEED", "-SEED=1", "--seed=1"])
def test_argument(ready, stops, argument):
    stops("mab.py", argument, cwd=ready, words=[argument.partition("=")[0], "--help"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["train_squeeze.py", "mab.py", "eval.py"])
def test_cuda_without_gpu(done, stops, name):
    stops(name, "--DEVICE=cuda", cwd=done, words=["DEVICE=cuda", "--DEVICE=cpu"])


def test_no_random_orders(done, script):
    assert script("eval.py", "--RANDOM_ORDERS=0", cwd=done)[0] == 0
    table = json.loads((done / "cur_records/eval.json").read_text())["table"]
    rows = {row["row"] for row in table}
    assert "shapley" in rows and "random" not in rows


def test_constant_for_the_real_script(run, ready):
    result = run("mab.py", "--BOUND=x", cwd=ready)
    check_stopped(result.returncode, result.stderr, "BOUND", "bernstein")


@pytest.mark.parametrize("name", ["train_squeeze.py", "mab.py", "eval.py"])
def test_no_data(done, stops, name):
    stops(name, "--DATA_DIR=nowhere", cwd=done, words=["nowhere"])


def test_steps_in_the_wrong_order(ready, stops, tmp_path):
    stops("mab.py", cwd=tmp_path, words=["squeezenet.pth", "train_squeeze.py"])
    stops("eval.py", cwd=ready, words=["mab.npz", "mab.py"])
