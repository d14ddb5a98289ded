"""Constants that the scripts share, and `--NAME=value` for every constant of a script.

A script keeps its constants UPPER_CASE at the top of its file and ends with

    if __name__ == "__main__":
        settings.run(main, globals())

Edit a constant there, or give it for one run:  python mab.py --SEED=1 --RECORDS_DIR=records/seed1
"""

import math
import os
import re
import signal
import sys
from contextlib import nullcontext
from glob import escape, glob

from common import end_while_loading

# -----------------------------------------------------------------------------
# data and records
TASK = (
    "faces"  # faces (trained on CelebA, repaired on FairFace), celeba, mnist, fmnist, folder, ...
)
DATA_DIR = "data"  # holds celeba/ and fairface/, or mnist/, or is the folder of images
RECORDS_DIR = "cur_records"  # results; records/TASK_ARCH for other tasks, unless it is given
IMAGE_SIZE = 227  # pixels; height and width of a network input
# Part of a face image that is used: (left, top, right, bottom) as fractions of the image.
# CelebA's aligned photos show more around a face than FairFace's, so they are cropped to match.
CELEBA_FRAME = (0.107, 0.193, 0.893, 0.835)  # the part that is used: 140 x 140 of 178 x 218 pixels
FAIRFACE_FRAME = (0.0, 0.0, 1.0, 1.0)  # the part that is used: all of 224 x 224 pixels
# network
ARCH = "squeezenet1_1"  # a classifier of torchvision, timm:NAME, or FILE.py:FUNCTION(num_classes)
WEIGHTS = "imagenet"  # initial weights: imagenet, none, or the path of a checkpoint
# what the network expects: auto, its own mean and sd where it has them, else ImageNet's; or mean
# and sd of R, G and B in [0, 1]: six numbers with commas between
NORMALISATION = "auto"
# run
SEED = 0  # of every random choice
DEVICE = "auto"  # auto: CUDA if there is a GPU, else the CPU
CACHE_DIR = ".cache"  # decoded images, for all scripts; safe to delete
# -----------------------------------------------------------------------------

# Constants that a later script takes from the record of an earlier one, unless they are given.
EARLIER = ("TASK", "DATA_DIR", "IMAGE_SIZE", "CELEBA_FRAME", "FAIRFACE_FRAME")
EARLIER += ("ARCH", "WEIGHTS", "NORMALISATION")
EVERYWHERE = ("CACHE_DIR",)  # constants of every script, which readers take from here
TASKS = ("faces", "celeba", "mnist", "fmnist", "digits", "cifar10", "folder")
TASKS += ("adult", "compas")  # of income.py
GIVEN = set()  # names of the constants on the command line
SMALLEST_IMAGE = 32  # pixels; below, nothing remains behind the last pooling layer


class InputError(Exception):
    """Bad input. The message is the one line that the user sees: it names the file and the fix."""


def run(main, namespace, earlier=(), resumes=""):
    """Apply the command line to a script's constants, call main(), and exit.

    Of each script one process at a time works in a RECORDS_DIR, see records.lock_folder.

    Args:
        main: the script's main function, without arguments.
        namespace: the script's globals().
        earlier: names of the scripts whose records in RECORDS_DIR give the constants EARLIER, where
            they are not on the command line; the first that has a record.
        resumes: str, the state in RECORDS_DIR from which the same command goes on after an
            interruption: a file's name, which may have wildcards; "" if there is none.

    Exit status: 0; 2 with one line on stderr for bad input; 130 when interrupted.
    """
    if signal.getsignal(signal.SIGINT) is end_while_loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = sys.argv[1:]
    try:
        if "--help" in arguments or "-h" in arguments:
            print(usage(namespace))
            return
        apply_arguments(namespace, arguments)
        GIVEN.clear()
        GIVEN.update(argument.removeprefix("--").partition("=")[0] for argument in arguments)
        _set_records_dir(namespace)
        if earlier:
            _take_earlier(namespace, earlier)
        _check_shared(namespace)
        with _own_folder(namespace):
            main()
    except InputError as error:
        sys.exit(_report(error))
    except OSError as error:  # no permission, or a file where a folder should be
        reason = f"{error.filename or 'disk'}: {error.strerror or error}"
        sys.exit(_report(f"{reason}; give another --DATA_DIR or --RECORDS_DIR, or free some space"))
    except KeyboardInterrupt:
        folder = escape(namespace.get("RECORDS_DIR", "."))
        is_saved = resumes and glob(os.path.join(folder, resumes))
        end = "goes on from the last saved state" if is_saved else "starts anew"
        print(f"\nInterrupted. The same command {end}.", file=sys.stderr)
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
    """The script's docstring, and its constants with their present values and what they mean."""
    constants = constants_of(namespace) | {name: globals()[name] for name in EVERYWHERE}
    meanings = _meanings(__file__) | _meanings(namespace.get("__file__"))
    lines = []
    for name, value in constants.items():
        option, meaning = f"  --{name}={format_value(value)}", meanings.get(name, "")
        gap = "\n" + " " * 32 if len(option) > 30 else ""
        lines.append(f"{option + gap:<32}{meaning}".rstrip())
    return "\n".join([(namespace["__doc__"] or "").strip(), "", "constants:", *lines])


def _meanings(path):
    """What the comments of a file say of its constants, a dict: on the line, else just above."""
    if not path or not os.path.exists(path):
        return {}
    meanings, above = {}, []
    with open(path, encoding="utf-8") as file:
        for line in file:
            constant = re.match(r"([A-Z][A-Z0-9_]*) = (?:.*?  # (.*))?", line)
            if constant:
                meanings[constant[1]] = constant[2] or " ".join(above)
            above = [*above, line[2:].strip()] if line.startswith("# ") else []
    return meanings


def weights_path(records_dir):
    """Path of the trained network: beside the scripts, or with the records of another run."""
    if records_dir == RECORDS_DIR:
        return "squeezenet.pth"
    return os.path.join(records_dir, "squeezenet.pth")


def format_value(value):
    """A constant as it is given on the command line; tuples with commas between."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def list_names(names, limit=5):
    """Names as text, the first of many: "a, b, c and 9 more"."""
    names = list(names)
    text = ", ".join(map(str, names[:limit])) or "nothing"
    return text if len(names) <= limit else f"{text} and {len(names) - limit} more"


def _set_records_dir(namespace):
    """Keep the default folder for records of faces; other tasks get a folder of their own."""
    task, default = namespace.get("TASK", TASK), namespace.get("RECORDS_DIR") == RECORDS_DIR
    if default and "RECORDS_DIR" not in GIVEN and task != "faces":
        arch = re.sub(r"[^\w.-]+", "_", namespace.get("ARCH", ARCH))
        namespace["RECORDS_DIR"] = f"records/{task}_{arch}"


def _take_earlier(namespace, scripts):
    """Set the constants EARLIER that are not given to those of a script that has run before.

    Says so in one line. Raises InputError if the weights that it had are gone.
    """
    for script in scripts:
        path = f"{namespace['RECORDS_DIR']}/{script.removesuffix('.py')}.json"
        taken = {}
        recorded = _recorded_constants(path, script)
        if recorded is None:
            continue
        for name, value in recorded.items():
            value = tuple(value) if isinstance(value, list) else value
            usable = name in EARLIER and name not in GIVEN and name in namespace
            if usable and type(value) is type(namespace[name]) and value != namespace[name]:
                taken[name] = value
        if script == "train_squeeze.py":
            taken.pop("WEIGHTS", None)  # those that its training began with
        if not os.path.exists(taken.get("DATA_DIR", ".")):
            del taken["DATA_DIR"]  # the record is of another machine, or of another folder
        if taken and _is_first():
            listed = ", ".join(f"{name}={format_value(value)}" for name, value in taken.items())
            print(f"As {script} ran ({path}): {listed}")
        weights = taken.get("WEIGHTS", "none")
        if weights not in ("imagenet", "none") and not os.path.exists(weights):
            raise InputError(
                f"{script} ran with WEIGHTS={weights}, and there is no such file here; give "
                "--WEIGHTS=PATH of the same weights"
            )
        namespace.update(taken)
        return


def _is_first():
    """Whether this is the first of the processes that torchrun started, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


def _recorded_constants(path, script):
    """The constants in a script's record; None if there is no record, or one without constants.

    Raises InputError on a damaged record.
    """
    from common.records import load_json  # here, since it imports from this file

    if not os.path.exists(path):
        return None
    constants = load_json(path, script).get("constants")
    return constants if isinstance(constants, dict) else None


def _own_folder(namespace):
    """A script's lock of its RECORDS_DIR; of torchrun's processes the first one takes it."""
    if "RECORDS_DIR" not in namespace or not _is_first():
        return nullcontext()
    from common.records import lock_folder  # here, since it imports from this file

    # Not sys.argv[0]: tools.uniform runs mab.py, and writes what mab.py writes.
    script = os.path.splitext(os.path.basename(namespace.get("__file__", "")))[0]
    return lock_folder(namespace["RECORDS_DIR"], script)


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
        value = os.path.expanduser(text) if isinstance(default, str) else type(default)(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except (ValueError, KeyError):
        kind = type(default).__name__
        if isinstance(default, tuple):
            kind = f"{len(default)} numbers"
        example = f"{format_value(default)} ({kind})"
        raise InputError(f"--{name}={text}: should look like {example}") from None


def _report(message):
    print(" ".join(str(message).split()), file=sys.stderr)
    return 2
