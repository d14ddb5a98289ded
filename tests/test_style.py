"""The rules of the house: imports run downwards, files and functions are short, names say it."""

import ast
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

LAYERS = [  # a module may import from its own line and from those above
    {"common"},
    {"drawings"},
    {"readers"},
    {"datasets"},
    {"model"},
    {"shapley"},
    {"filters"},
    {"explain"},
    {"tabular"},
    {"penalties"},
    {"report"},
    {
        "train_squeeze",
        "mab",
        "rivals",
        "finetune",
        "eval",
        "features",
        "shortcut",
        "income",
        "cdep",
        "projectors",
        "fairwashing",
    },
    {"tools"},
]
SCRIPTS = LAYERS[-2]
SHAPLEY_MAY_IMPORT = {"shapley", "numpy", "scipy", "torch"}  # torch within functions only
LONGEST_FILE, LONGEST_FUNCTION = 400, 50  # lines; a function's docstring and arguments not counted
VAGUE = {"some", "found", "told", "of", "left", "more", "others", "at", "made", "this", "thing"}

MODULES = sorted(
    path.relative_to(REPOSITORY)
    for pattern in ("*.py", "*/*.py", "tests/*/*.py")
    for path in REPOSITORY.glob(pattern)
    if not {".venv", "mutants"} & set(path.parts)
)
CODE = [path for path in MODULES if path.parts[0] != "tests"]


def level_of(name):
    return next((number for number, layer in enumerate(LAYERS) if name in layer), None)


def imported(tree):
    """The top-level packages that a syntax tree imports, with the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0], node.lineno


def parse(path):
    return ast.parse((REPOSITORY / path).read_text())


@pytest.mark.parametrize("path", CODE, ids=str)
def test_imports_run_downwards(path):
    own = path.parts[0].removesuffix(".py")
    assert level_of(own) is not None, f"{own} has no place in LAYERS"
    for name, line in imported(parse(path)):
        level = level_of(name)
        if level is None:
            continue
        assert level <= level_of(own), f"{path}:{line} imports {name}"
        assert name == own or name not in SCRIPTS or own == "tools", f"{path}:{line}: a script"


@pytest.mark.parametrize("path", [path for path in CODE if path.parts[0] == "shapley"], ids=str)
def test_the_bandit_knows_no_networks(path):
    for name, line in imported(parse(path)):
        allowed = name in SHAPLEY_MAY_IMPORT or name in sys.stdlib_module_names
        assert allowed, f"{path}:{line} imports {name}"


def body_lines(node):
    """Lines of a function from the first statement behind its docstring."""
    body = node.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return node.end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_and_functions_are_short(path):
    text = (REPOSITORY / path).read_text()
    if path.parts[0] != "drawings":
        assert len(text.splitlines()) <= LONGEST_FILE
    assert max(map(len, text.splitlines()), default=0) <= 100
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef):
            assert body_lines(node) <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name}"


def names_given(tree):
    """Names that a syntax tree gives to variables, arguments and attributes, with the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_vague_names(path):
    vague = [f"{name} in line {line}" for name, line in names_given(parse(path)) if name in VAGUE]
    assert not vague, f"{path}: {vague}"


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_what_an_interrupted_script_resumes_from_is_a_file(script):
    """settings.run looks for it after Ctrl-C: the name of a file, which may have wildcards."""
    for node in ast.walk(parse(f"{script}.py")):
        for keyword in getattr(node, "keywords", []):
            if keyword.arg == "resumes":
                pattern = ast.literal_eval(keyword.value)
                assert isinstance(pattern, str) and "." in pattern


def test_importing_does_nothing(tmp_path):
    names = [".".join(path.with_suffix("").parts) for path in CODE if path.name != "__init__.py"]
    lines = [f"import sys, random; sys.path.insert(0, {str(REPOSITORY)!r})"]
    lines += ["before = random.getstate(), list(sys.argv)"]
    lines += [f"import {name}" for name in names if name != "tools.__main__"]
    lines += ["assert (random.getstate(), sys.argv) == before"]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), "--NO_SUCH=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and not result.stdout + result.stderr, result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_help_lists_the_constants_of_the_script(script, tmp_path):
    """Shared ones and its own, and nothing that is not meant to be changed."""
    text = (REPOSITORY / f"{script}.py").read_text()
    block = text.split("# " + 77 * "-" + "\n")[1]
    own = {node.targets[0].id for node in ast.parse(block).body if isinstance(node, ast.Assign)}
    shared = "TASK DATA_DIR RECORDS_DIR IMAGE_SIZE CELEBA_FRAME FAIRFACE_FRAME ARCH WEIGHTS "
    shared += "NORMALISATION CACHE_DIR"
    command = [sys.executable, str(REPOSITORY / f"{script}.py"), "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    block = result.stdout.split("\nconstants:\n")[1].replace("\n" + " " * 32, " ")
    options = [line.split(maxsplit=1) for line in block.splitlines()]
    listed = {option[0].removeprefix("--").partition("=")[0]: option[1:] for option in options}
    assert not [name for name in own if not listed.get(name)], "a constant without a meaning"
    listed = set(listed)
    assert own <= listed <= own | {*shared.split(), "SEED", "DEVICE"}
    needed = {"DATA_DIR", "RECORDS_DIR", "CACHE_DIR"}
    if script not in ("projectors", "fairwashing"):  # which have one network, on small images
        needed |= {"ARCH", "SEED"}
        needed |= set() if script in ("income", "cdep") else {"IMAGE_SIZE", "DEVICE"}
    assert needed <= listed
