"""What a later script takes from the record of an earlier one."""

import json

from common.settings import format_value

import pytest

from tests.damage import check_message

LATER = {  # the constants of a later script, at their defaults
    "TASK": "faces",
    "DATA_DIR": "data",
    "RECORDS_DIR": "cur_records",
    "IMAGE_SIZE": 227,
    "ARCH": "squeezenet1_1",
    "WEIGHTS": "imagenet",
    "NORMALISATION": "auto",
    "CELEBA_FRAME": (0.1, 0.2, 0.8, 0.9),
    "SEED": 0,
}


@pytest.fixture
def later(start, tmp_path):
    """A function: the constants that a later script has, after records of earlier ones."""

    def later(recorded, *arguments, earlier=("mab.py", "train_squeeze.py")):
        (tmp_path / "r").mkdir(exist_ok=True)
        for script, constants in recorded.items():
            content = (
                constants if isinstance(constants, str) else json.dumps({"constants": constants})
            )
            (tmp_path / "r" / f"{script}.json").write_text(content)
        namespace = dict(LATER)
        result = start(lambda: None, namespace, "--RECORDS_DIR=r", *arguments, earlier=earlier)
        changed = {name: value for name, value in namespace.items() if LATER[name] != value}
        changed.pop("RECORDS_DIR")
        return changed, result

    return later


@pytest.mark.parametrize(
    "recorded, arguments, expected",
    [
        ({"mab": {"ARCH": "vgg16"}}, (), {"ARCH": "vgg16"}),
        ({"mab": {"TASK": "folder", "IMAGE_SIZE": 64}}, (), {"TASK": "folder", "IMAGE_SIZE": 64}),
        ({"mab": {"CELEBA_FRAME": [0, 0, 1, 1]}}, (), {"CELEBA_FRAME": (0, 0, 1, 1)}),
        ({"mab": {"NORMALISATION": "0,0,0,1,1,1"}}, (), {"NORMALISATION": "0,0,0,1,1,1"}),
        ({"mab": {"WEIGHTS": "none"}}, (), {"WEIGHTS": "none"}),
        ({"train_squeeze": {"ARCH": "vgg16", "WEIGHTS": "none"}}, (), {"ARCH": "vgg16"}),
        # what is given counts, and so does the first script
        ({"mab": {"ARCH": "vgg16"}}, ("--ARCH=resnet18",), {"ARCH": "resnet18"}),
        ({"mab": {"ARCH": "vgg16"}, "train_squeeze": {"ARCH": "x"}}, (), {"ARCH": "vgg16"}),
        # constants of a script's own, and records that are none
        ({"mab": {"SEED": 7, "DEVICE": "cuda", "TOP_K": 3}}, (), {}),
        ({"mab": {"IMAGE_SIZE": "64"}}, (), {}),
        ({"mab": {"DATA_DIR": "nowhere"}}, (), {}),
        ({"mab": "{}"}, (), {}),
        ({}, (), {}),
    ],
)
def test_a_later_script_knows_what_an_earlier_one_was_given(later, recorded, arguments, expected):
    changed, (status, text, errors) = later(recorded, *arguments)
    assert changed == expected and (status, errors) == (0, "")
    taken = {name for name in expected if f"--{name}" not in " ".join(arguments)}
    assert bool(text) == bool(taken)
    for name in taken:
        assert f"{name}={format_value(expected[name])}" in text and "(r/" in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"constants": {"TASK": "fol', "\0\0"])
@pytest.mark.parametrize("script", ["mab", "train_squeeze"])
def test_a_damaged_record_of_an_earlier_step_is_named(later, script, content):
    """Without it the defaults would be taken, data/ among them."""
    changed, (status, _, line) = later({script: content})
    assert status == 2 and changed == {}
    check_message(line.strip(), f"r/{script}.json is damaged", f"run {script}.py again")


def test_a_damaged_record_that_is_not_needed(later):
    changed, (status, _, errors) = later({"mab": {"ARCH": "vgg16"}, "train_squeeze": "{"})
    assert (changed, status, errors) == ({"ARCH": "vgg16"}, 0, "")


def test_a_folder_of_data_that_is_still_there(later, tmp_path):
    (tmp_path / "images").mkdir()
    assert later({"mab": {"DATA_DIR": "images"}})[0] == {"DATA_DIR": "images"}


@pytest.mark.parametrize("name", ["plain.pth", "x/y.safetensors"])
def test_weights_of_an_earlier_script(later, tmp_path, name):
    changed, (status, _, line) = later({"mab": {"WEIGHTS": name}})
    assert status == 2
    check_message(line.strip(), f"mab.py ran with WEIGHTS={name}", "give --WEIGHTS=PATH")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert later({"mab": {"WEIGHTS": name}})[0] == {"WEIGHTS": name}


def test_the_first_record_counts_though_nothing_is_taken_from_it(later):
    recorded = {"train_squeeze": {"IMAGE_SIZE": 227}, "mab": {"IMAGE_SIZE": 64}}
    assert later(recorded, earlier=("train_squeeze.py", "mab.py"))[0] == {}
    assert later(recorded)[0] == {"IMAGE_SIZE": 64}


def test_a_first_step_takes_nothing(later):
    assert later({"mab": {"ARCH": "vgg16"}}, earlier=())[0] == {}
