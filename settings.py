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
TASK = "faces"               # the data set: faces (trained on CelebA, to be repaired on FairFace), celeba, mnist or folder (of images)
DATA_DIR = "data"            # holds celeba/ and fairface/, or mnist/, or is the folder of images; `python datasets.py` checks it
RECORDS_DIR = "cur_records"  # results; squeezenet.pth too, when this is not the default. Of other tasks, by default: records/TASK_ARCH
IMAGE_SIZE = 227             # pixels; height and width of a network input
# How faces are framed: (left, top, right, bottom) as fractions of the image.
# CelebA's aligned photos show more around a face than FairFace's, so they are cropped to match.
CELEBA_FRAME = (0.107, 0.193, 0.893, 0.835)  # 140 x 140 of 178 x 218 pixels
FAIRFACE_FRAME = (0.0, 0.0, 1.0, 1.0)        # all of 224 x 224 pixels
# network
ARCH = "squeezenet1_1"       # or another of ARCHS in model.py; the paper had squeezenet1_0
WEIGHTS = "imagenet"         # what fine-tuning starts from: imagenet, none, or the path of a state dict
# run
SEED = 0
DEVICE = "auto"              # auto: CUDA where there is one, else the CPU
# -----------------------------------------------------------------------------


class Stop(Exception):
    """Bad input: its message is the one line that the user sees. Names the file and the remedy."""


def run(main, constants):
    """Apply the command line to `constants` (a script's globals()), call main(), exit.

    Exit status: 0; 2 with one line on stderr for bad input; 130 when interrupted.
    """
    try:
        if "--help" in sys.argv[1:] or "-h" in sys.argv[1:]:
            print(usage(constants))
            return
        apply(constants, sys.argv[1:])
        given = any(argument.startswith("--RECORDS_DIR=") for argument in sys.argv[1:])
        if not given and constants.get("RECORDS_DIR") == "cur_records" and (task := constants.get("TASK", TASK)) != "faces":
            constants["RECORDS_DIR"] = f"records/{task}_{constants.get('ARCH', ARCH)}"  # the default's are of faces
        _check_shared(constants)
        main()
    except Stop as stop:
        sys.exit(_last_line(stop))
    except OSError as error:  # a folder without permission, or a file where a folder should be
        sys.exit(_last_line(f"{error.filename or 'disk'}: {error.strerror or error}; "
                            "give another --DATA_DIR or --RECORDS_DIR, or make room"))
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last saved state.", file=sys.stderr)
        sys.exit(130)


def apply(constants, arguments):
    """Set constants from arguments like "--SEED=1"; each takes the type that it has. Raises Stop."""
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals:
            raise Stop(f"{argument}: give constants as --NAME=value; --help lists them")
        if name not in chosen(constants):
            raise Stop(f"--{name}: no such constant; --help lists them")
        constants[name] = _parse(name, text, constants[name])


def require(name, value, holds, rule):
    """Raise Stop unless a constant `holds` to its rule."""
    if not holds:
        raise Stop(f"--{name}={_text(value)}: must be {rule}")


def chosen(constants):
    """The constants of a script as a dict, for its record."""
    return {name: value for name, value in constants.items()
            if name.isupper() and isinstance(value, (bool, int, float, str, tuple))}


def usage(constants):
    """The script's docstring and its constants with their present values."""
    lines = [f"  --{name}={_text(value)}" for name, value in chosen(constants).items()]
    return "\n".join([(constants["__doc__"] or "").strip(), "", "constants:", *lines])


def weights_path(records_dir):
    """Where the fine-tuned network lies: beside the scripts, or with the records of another run."""
    return "squeezenet.pth" if records_dir == RECORDS_DIR else os.path.join(records_dir, "squeezenet.pth")


def _check_shared(constants):
    for name in ("CELEBA_FRAME", "FAIRFACE_FRAME"):
        left, top, right, bottom = frame = constants.get(name, (0, 0, 1, 1))
        require(name, frame, 0 <= left < right <= 1 and 0 <= top < bottom <= 1,
                "left,top,right,bottom as fractions of the image, left < right and top < bottom")
    task = constants.get("TASK", TASK)
    require("TASK", task, task in ("faces", "celeba", "mnist", "folder"), "faces, celeba, mnist or folder")
    size, seed = constants.get("IMAGE_SIZE", 32), constants.get("SEED", 0)
    require("IMAGE_SIZE", size, size >= 32, "at least 32 pixels, or nothing is left behind the last pooling")
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
        raise Stop(f"--{name}={text}: should look like {_text(default)} ({type(default).__name__})") from None


def _text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def _last_line(message):
    print(" ".join(str(message).split()), file=sys.stderr)
    return 2
