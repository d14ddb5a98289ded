"""Constants from the command line, and how a script ends."""

import json
import os
import sys

from common import settings
from common.settings import (
    InputError,
    apply_arguments,
    constants_of,
    format_value,
    require,
    usage,
    weights_path,
)

import pytest

from tests.damage import check_message

SCRIPT = {
    "__doc__": "\nA script.\n",
    "__name__": "__main__",
    "COUNT": 3,
    "SHARE": 0.5,
    "NAME": "x",
    "WHETHER": False,
    "FRAME": (0.0, 1.0),
    "SIZES": (1, 2),
    "lower": 1,
    "MODULE": os,
    "NOTHING": None,
}


@pytest.fixture
def namespace():
    """The globals of a script."""
    return dict(SCRIPT)


def test_constants_are_upper_case_and_plain(namespace):
    names = ["COUNT", "SHARE", "NAME", "WHETHER", "FRAME", "SIZES"]
    assert constants_of(namespace) == {name: SCRIPT[name] for name in names}


@pytest.mark.parametrize(
    "argument, name, value",
    [
        ("--COUNT=12", "COUNT", 12),
        ("--COUNT=-1", "COUNT", -1),
        ("--SHARE=1", "SHARE", 1.0),
        ("--SHARE=1e-3", "SHARE", 0.001),
        ("--NAME=", "NAME", ""),
        ("--NAME=a=b", "NAME", "a=b"),
        ("--WHETHER=True", "WHETHER", True),
        ("--WHETHER=False", "WHETHER", False),
        ("--FRAME=0.25,1", "FRAME", (0.25, 1.0)),
        ("--FRAME=(0.25, 1)", "FRAME", (0.25, 1.0)),
        ("--SIZES=3,4", "SIZES", (3, 4)),
    ],
)
def test_a_value_takes_the_type_of_the_default(namespace, argument, name, value):
    apply_arguments(namespace, [argument])
    assert namespace[name] == value and type(namespace[name]) is type(value)
    assert {**namespace, name: SCRIPT[name]} == SCRIPT  # all others are as they were


def test_the_last_of_several_counts(namespace):
    apply_arguments(namespace, ["--COUNT=1", "--NAME=y", "--COUNT=2"])
    assert (namespace["COUNT"], namespace["NAME"]) == (2, "y")


@pytest.mark.parametrize(
    "argument, example",
    [
        ("--COUNT=x", "3 (int)"),
        ("--COUNT=0.5", "3 (int)"),
        ("--SHARE=half", "0.5 (float)"),
        ("--SHARE=nan", "0.5 (float)"),
        ("--SHARE=inf", "0.5 (float)"),
        ("--WHETHER=1", "False (bool)"),
        ("--WHETHER=true", "False (bool)"),
        ("--FRAME=0,1,2", "0.0,1.0 (tuple)"),
        ("--FRAME=0", "0.0,1.0 (tuple)"),
        ("--SIZES=1.5,2", "1,2 (tuple)"),
    ],
)
def test_values_of_another_type(namespace, argument, example):
    with pytest.raises(InputError) as refusal:
        apply_arguments(namespace, [argument])
    assert str(refusal.value) == f"{argument}: should look like {example}"


@pytest.mark.parametrize("argument", ["COUNT=1", "--COUNT", "-COUNT=1", "1"])
def test_arguments_that_are_none(namespace, argument):
    with pytest.raises(InputError) as refusal:
        apply_arguments(namespace, [argument])
    expected = f"{argument}: give constants as --NAME=value; --help lists them"
    assert str(refusal.value) == expected


@pytest.mark.parametrize("name", ["count", "lower", "MODULE", "NOTHING", "OTHER", "__doc__"])
def test_names_that_are_no_constants(namespace, name):
    with pytest.raises(InputError, match=f"--{name}: no such constant; --help lists them"):
        apply_arguments(namespace, [f"--{name}=1"])


def test_require():
    require("COUNT", 3, True, "anything")
    with pytest.raises(InputError) as refusal:
        require("FRAME", (0.0, 2.0), False, "from 0 to 1")
    assert str(refusal.value) == "--FRAME=0.0,2.0: must be from 0 to 1"


def test_usage_lists_constants_with_their_values(namespace):
    assert usage(namespace) == (
        "A script.\n\nconstants:\n  --COUNT=3\n  --SHARE=0.5\n  --NAME=x\n  --WHETHER=False\n"
        "  --FRAME=0.0,1.0\n  --SIZES=1,2\n  --CACHE_DIR=.cache"
    )
    assert (
        usage({"__doc__": None, "COUNT": 1}) == "\n\nconstants:\n  --COUNT=1\n  --CACHE_DIR=.cache"
    )


def test_values_are_shown_as_they_are_given():
    assert [format_value(value) for value in ((1, 2.5), "x", 3)] == ["1,2.5", "x", 3]


def test_the_network_lies_beside_the_scripts_or_with_its_records():
    assert weights_path("cur_records") == "squeezenet.pth"
    assert weights_path("records/x") == os.path.join("records/x", "squeezenet.pth")


# ----------------------------------------------------------------------------- run


@pytest.fixture
def start(monkeypatch, capsys, tmp_path):
    """A function that runs main() with arguments: (exit status, stdout, stderr)."""

    def start(main, namespace, *arguments, **options):
        monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
        monkeypatch.chdir(tmp_path)
        try:
            settings.run(main, namespace, **options)
            status = 0
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return start


def raiser(error):
    """A main() that raises an error."""

    def main():
        raise error

    return main


def test_main_sees_the_constants(start, namespace):
    counts = []
    result = start(lambda: counts.append(namespace["COUNT"]), namespace, "--COUNT=7")
    assert result == (0, "", "") and counts == [7]


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_runs_nothing(start, namespace, argument):
    status, text, errors = start(raiser(AssertionError), namespace, "--COUNT=x", argument)
    assert (status, errors) == (0, "") and "  --COUNT=3\n" in text


def test_bad_input_is_one_line_and_status_2(start, namespace):
    error = InputError("a file\n  is missing;\nrun it first")
    assert start(raiser(error), namespace) == (2, "", "a file is missing; run it first\n")
    assert start(raiser(AssertionError), namespace, "--COUNT=x")[0] == 2


def test_errors_of_the_disk_are_bad_input_too(start, namespace):
    status, _, line = start(raiser(PermissionError(13, "Permission denied", "/x/y")), namespace)
    assert status == 2 and line.startswith("/x/y: Permission denied; give another --DATA_DIR")
    check_message(line.strip(), "/x/y", "RECORDS_DIR")
    assert start(raiser(OSError("no space")), namespace)[2].startswith("disk: no space; give")


@pytest.mark.parametrize(
    "resumes, end", [(True, "goes on from the last saved state"), (False, "starts anew")]
)
def test_an_interruption_is_status_130(start, namespace, resumes, end):
    status, _, line = start(raiser(KeyboardInterrupt()), namespace, resumes=resumes)
    assert (status, line) == (130, f"\nInterrupted. The same command {end}.\n")


def test_errors_of_the_program_are_not_hidden(start, namespace):
    with pytest.raises(KeyError):
        start(raiser(KeyError("x")), namespace)


@pytest.mark.parametrize(
    "constants, arguments, folder",
    [
        ({"TASK": "faces"}, (), "cur_records"),
        ({"TASK": "mnist", "ARCH": "resnet18"}, (), "records/mnist_resnet18"),
        ({"TASK": "faces"}, ("--TASK=celeba",), "records/celeba_squeezenet1_1"),
        ({"TASK": "mnist"}, ("--RECORDS_DIR=x",), "x"),
        ({"TASK": "mnist"}, ("--RECORDS_DIR=cur_records",), "cur_records"),
        ({}, (), "cur_records"),
    ],
)
def test_tasks_other_than_faces_have_their_own_records(start, constants, arguments, folder):
    namespace, folders = {"RECORDS_DIR": "cur_records", **constants}, []
    start(lambda: folders.append(namespace["RECORDS_DIR"]), namespace, *arguments)
    assert folders == [folder]


@pytest.mark.parametrize(
    "arch, folder",
    [
        ("timm:resnet18", "records/mnist_timm_resnet18"),
        ("my_model.py:build", "records/mnist_my_model.py_build"),
        ("../nets/a b.py:Net", "records/mnist_.._nets_a_b.py_Net"),
    ],
)
def test_any_network_has_one_folder_for_its_records(start, arch, folder):
    namespace = {"RECORDS_DIR": "cur_records", "TASK": "mnist", "ARCH": arch}
    assert start(lambda: None, namespace)[0] == 0 and namespace["RECORDS_DIR"] == folder


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("TASK", "letters", ["must be faces, celeba, mnist, ", " adult or compas"]),
        ("IMAGE_SIZE", 31, ["at least 32 pixels"]),
        ("SEED", -1, ["0 or more"]),
        ("CELEBA_FRAME", (0.5, 0.0, 0.5, 1.0), ["left < right"]),
        ("CELEBA_FRAME", (0.0, 0.5, 1.0, 0.5), ["top < bottom"]),
        ("FAIRFACE_FRAME", (-0.1, 0.0, 1.0, 1.0), ["fractions"]),
        ("FAIRFACE_FRAME", (0.0, -0.1, 1.0, 1.0), ["fractions"]),
        ("FAIRFACE_FRAME", (0.0, 0.0, 1.1, 1.0), ["fractions"]),
        ("FAIRFACE_FRAME", (0.0, 0.0, 1.0, 1.1), ["fractions"]),
    ],
)
def test_shared_constants_are_checked(start, name, value, words):
    status, _, line = start(raiser(AssertionError), {name: value})
    assert status == 2 and line.startswith(f"--{name}={format_value(value)}: must be ")
    assert all(word in line for word in words)


def test_shared_constants_at_the_ends_of_their_ranges(start):
    whole = (0.0, 0.0, 1.0, 1.0)
    namespace = {"IMAGE_SIZE": 32, "SEED": 0, "CELEBA_FRAME": whole, "FAIRFACE_FRAME": whole}
    assert start(lambda: None, namespace) == (0, "", "")


# ----------------------------------------------------------------------------- earlier steps

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
        ({"mab": "{"}, (), {}),
        ({"mab": "[]"}, (), {}),
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


def test_constants_of_all_scripts_go_to_the_settings(namespace, monkeypatch):
    """Readers take them from there, and no record depends on them."""
    monkeypatch.setattr(settings, "CACHE_DIR", ".cache")
    apply_arguments(namespace, ["--CACHE_DIR=/tmp/images", "--COUNT=4"])
    assert settings.CACHE_DIR == "/tmp/images" and namespace["COUNT"] == 4
    assert "CACHE_DIR" not in namespace and "--CACHE_DIR=/tmp/images" in usage(namespace)
