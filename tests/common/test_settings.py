"""Constants from the command line, and how a script ends."""

import os

from common import settings
from common.settings import (
    InputError,
    apply_arguments,
    constants_of,
    format_value,
    list_names,
    require,
    usage,
    weights_path,
)

import pytest

from tests.damage import check_message

CACHE_LINE = "  --CACHE_DIR=.cache            decoded images, for all scripts; safe to delete"
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
        ("--FRAME=0,1,2", "0.0,1.0 (2 numbers)"),
        ("--FRAME=0", "0.0,1.0 (2 numbers)"),
        ("--SIZES=1.5,2", "1,2 (2 numbers)"),
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
        "  --FRAME=0.0,1.0\n  --SIZES=1,2\n" + CACHE_LINE
    )
    assert usage({"__doc__": None, "COUNT": 1}) == "\n\nconstants:\n  --COUNT=1\n" + CACHE_LINE


def test_values_are_shown_as_they_are_given():
    assert [format_value(value) for value in ((1, 2.5), "x", 3)] == ["1,2.5", "x", 3]


def test_lists_of_names():
    names = ["a", "b", "c"]
    assert [list_names(names, limit) for limit in (1, 2, 3, 4)] == [
        "a and 2 more",
        "a, b and 1 more",
        "a, b, c",
        "a, b, c",
    ]
    assert list_names([]) == "nothing" and list_names(range(7)) == "0, 1, 2, 3, 4 and 2 more"
    assert list_names(name for name in names) == "a, b, c"


def test_the_network_lies_beside_the_scripts_or_with_its_records():
    assert weights_path("cur_records") == "squeezenet.pth"
    assert weights_path("records/x") == os.path.join("records/x", "squeezenet.pth")


# ----------------------------------------------------------------------------- run


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


def test_help_says_what_the_comments_say(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        'A = "#"  # on the line, # and on\n# a sentence\n# above\nB = 1\n\n'
        "LONG_NAME = 1  # long\nC = 2\n# of the code below\n\nD = 3\n"
    )
    constants = {"A": "#", "B": 1, "LONG_NAME": "x" * 20, "C": 2, "D": 3}
    text = usage(constants | {"__doc__": "What it does.", "__file__": str(script)})
    lines = text.splitlines()
    assert lines[:3] == ["What it does.", "", "constants:"]
    assert lines[3:9] == [
        "  --A=#" + " " * 25 + "on the line, # and on",
        "  --B=1" + " " * 25 + "a sentence above",
        "  --LONG_NAME=" + "x" * 20,
        " " * 32 + "long",
        "  --C=2",
        "  --D=3",
    ]


def test_a_home_folder_is_expanded(start, namespace, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    namespace["FOLDER"], seen = "data", []
    start(lambda: seen.append(namespace["FOLDER"]), namespace, "--FOLDER=~/x")
    assert seen == ["/home/me/x"]


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
    "resumes, saved, end",
    [
        ("mab.npz", "mab.npz", "goes on from the last saved state"),
        ("networks/*.pth", "networks/a_seed_0.pth", "goes on from the last saved state"),
        ("mab.npz", None, "starts anew"),  # interrupted before the first state was saved
        ("mab.npz", "train_state.pth", "starts anew"),
        ("", "mab.npz", "starts anew"),
    ],
)
def test_an_interruption_is_status_130(start, namespace, tmp_path, resumes, saved, end):
    def main():
        if saved:
            path = tmp_path / "r[1]" / saved
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        raise KeyboardInterrupt

    namespace["RECORDS_DIR"] = "r[1]"
    status, _, line = start(main, namespace, resumes=resumes)
    assert (status, line) == (130, f"\nInterrupted. The same command {end}.\n")


@pytest.mark.parametrize("folder", ["file", "file/deeper"])
def test_a_folder_for_records_that_is_a_file(start, namespace, tmp_path, folder):
    (tmp_path / "file").write_text("kept")
    namespace["RECORDS_DIR"] = "r"
    result = start(raiser(AssertionError), namespace, f"--RECORDS_DIR={folder}")
    assert result[:2] == (2, "") and (tmp_path / "file").read_text() == "kept"
    check_message(
        result[2].strip(), f"--RECORDS_DIR={folder}: ", "another" if "/" in folder else "a file"
    )


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


def test_constants_of_all_scripts_go_to_the_settings(namespace, monkeypatch):
    """Readers take them from there, and no record depends on them."""
    monkeypatch.setattr(settings, "CACHE_DIR", ".cache")
    apply_arguments(namespace, ["--CACHE_DIR=/tmp/images", "--COUNT=4"])
    assert settings.CACHE_DIR == "/tmp/images" and namespace["COUNT"] == 4
    assert "CACHE_DIR" not in namespace and "--CACHE_DIR=/tmp/images" in usage(namespace)
