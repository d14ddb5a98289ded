"""Constants that the scripts share, and `--NAME=value` for every constant of a script.

A script keeps its constants UPPER_CASE at the top of its file and ends with

    if __name__ == "__main__":
        settings.run(main, globals())

Edit a constant there, or give it for one run:  python mab.py --SEED=1 --RECORDS_DIR=records/seed1
"""

import math
import os
import sys

# -----------------------------------------------------------------------------
# data and records
TASK = (
    "faces"  # the data set: faces (trained on CelebA, repaired on FairFace), celeba, mnist, folder
)
DATA_DIR = "data"  # holds celeba/ and fairface/, or mnist/, or is the folder of images
RECORDS_DIR = "cur_records"  # results; records/TASK_ARCH for other tasks, unless it is given
IMAGE_SIZE = 227  # pixels; height and width of a network input
# Part of a face image that is used: (left, top, right, bottom) as fractions of the image.
# CelebA's aligned photos show more around a face than FairFace's, so they are cropped to match.
CELEBA_FRAME = (0.107, 0.193, 0.893, 0.835)  # 140 x 140 of 178 x 218 pixels
FAIRFACE_FRAME = (0.0, 0.0, 1.0, 1.0)  # all of 224 x 224 pixels
# network
ARCH = "squeezenet1_1"  # one of ARCHS in model.py; the paper used squeezenet1_0
WEIGHTS = "imagenet"  # initial weights: imagenet, none, or the path of a state dict
# run
SEED = 0
DEVICE = "auto"  # auto: CUDA if there is a GPU, else the CPU
CACHE_DIR = ".cache"  # decoded images, for all scripts; safe to delete
# -----------------------------------------------------------------------------

EVERYWHERE = ("CACHE_DIR",)  # constants of every script, which readers take from here
TASKS = ("faces", "celeba", "mnist", "folder")
SMALLEST_IMAGE = 32  # pixels; below, nothing remains behind the last pooling layer


class InputError(Exception):
    """Bad input. The message is the one line that the user sees: it names the file and the fix."""


def run(main, namespace):
    """Apply the command line to a script's constants, call main(), and exit.

    Args:
        main: the script's main function, without arguments.
        namespace: the script's globals().

    Exit status: 0; 2 with one line on stderr for bad input; 130 when interrupted.
    """
    try:
        if "--help" in sys.argv[1:] or "-h" in sys.argv[1:]:
            print(usage(namespace))
            return
        apply_arguments(namespace, sys.argv[1:])
        _set_records_dir(namespace, sys.argv[1:])
        _check_shared(namespace)
        main()
    except InputError as error:
        sys.exit(_report(error))
    except OSError as error:  # no permission, or a file where a folder should be
        reason = f"{error.filename or 'disk'}: {error.strerror or error}"
        sys.exit(_report(f"{reason}; give another --DATA_DIR or --RECORDS_DIR, or free some space"))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last saved state.", file=sys.stderr)
        sys.exit(130)


def apply_arguments(namespace, arguments):
    """Set constants from arguments such as "--SEED=1"; a value takes the type of the default.

    Raises:
        InputError: unknown constant, or a value of another type.
    """
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise InputError(f"{argument}: give constants as --NAME=value; --help lists them")
        if name in EVERYWHERE:
            globals()[name] = _parse(name, text, globals()[name])
        elif name in constants_of(namespace):
            namespace[name] = _parse(name, text, namespace[name])
        else:
            raise InputError(f"--{name}: no such constant; --help lists them")


def require(name, value, condition, rule):
    """Raise InputError unless `condition` holds; `rule` says what the constant `name` must be."""
    if not condition:
        raise InputError(f"--{name}={format_value(value)}: must be {rule}")


def constants_of(namespace):
    """The constants of a script by name, a dict, for its record."""
    kinds = (bool, int, float, str, tuple)
    return {
        name: value
        for name, value in namespace.items()
        if name.isupper() and isinstance(value, kinds)
    }


def usage(namespace):
    """The script's docstring, and its constants with their present values."""
    constants = constants_of(namespace) | {name: globals()[name] for name in EVERYWHERE}
    lines = [f"  --{name}={format_value(value)}" for name, value in constants.items()]
    return "\n".join([(namespace["__doc__"] or "").strip(), "", "constants:", *lines])


def weights_path(records_dir):
    """Path of the trained network: beside the scripts, or with the records of another run."""
    if records_dir == RECORDS_DIR:
        return "squeezenet.pth"
    return os.path.join(records_dir, "squeezenet.pth")


def format_value(value):
    """A constant as it is given on the command line; tuples with commas between."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _set_records_dir(namespace, arguments):
    """Keep the default folder for records of faces; other tasks get a folder of their own."""
    task, default = namespace.get("TASK", TASK), namespace.get("RECORDS_DIR") == RECORDS_DIR
    given = any(argument.startswith("--RECORDS_DIR=") for argument in arguments)
    if default and not given and task != "faces":
        namespace["RECORDS_DIR"] = f"records/{task}_{namespace.get('ARCH', ARCH)}"


def _check_shared(namespace):
    for name in ("CELEBA_FRAME", "FAIRFACE_FRAME"):
        x0, y0, x1, y1 = frame = namespace.get(name, (0, 0, 1, 1))
        rule = "left,top,right,bottom as fractions of the image, with left < right and top < bottom"
        require(name, frame, 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1, rule)
    task = namespace.get("TASK", TASK)
    require("TASK", task, task in TASKS, f"{', '.join(TASKS[:-1])} or {TASKS[-1]}")
    size, seed = namespace.get("IMAGE_SIZE", SMALLEST_IMAGE), namespace.get("SEED", 0)
    rule = f"at least {SMALLEST_IMAGE} pixels, or nothing remains behind the last pooling layer"
    require("IMAGE_SIZE", size, size >= SMALLEST_IMAGE, rule)
    require("SEED", seed, seed >= 0, "0 or more")


def _parse(name, text, default):
    try:
        if isinstance(default, bool):
            return {"True": True, "False": False}[text]
        if isinstance(default, tuple):
            values = tuple(type(default[0])(part) for part in text.strip("()").split(","))
            if len(values) != len(default):
                raise ValueError
            return values
        value = type(default)(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except (ValueError, KeyError):
        example = f"{format_value(default)} ({type(default).__name__})"
        raise InputError(f"--{name}={text}: should look like {example}") from None


def _report(message):
    print(" ".join(str(message).split()), file=sys.stderr)
    return 2
