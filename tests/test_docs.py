"""README.md and docs/ keep their promises: limits, links, commands, examples."""

import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
STUDY_PAGES = PAGES[1:]
LONGEST_README = 15_000, 200  # bytes, lines
WIDEST_HEAD = 6, 10  # columns, rows of the first table of a page
SCRIPTS = sorted(path.name for path in REPOSITORY.glob("*.py"))
PACKAGES = sorted(path.parent.name for path in REPOSITORY.glob("[a-z]*/__init__.py"))


def without_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def prose_of(text):
    """The text of a page without code and tables."""
    lines = without_code(text).splitlines()
    return "\n".join(line for line in lines if not line.startswith(("|", "<!--", "![")))


def anchors_of(path):
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def test_readme_is_short():
    most_bytes, most_lines = LONGEST_README
    assert len(README.encode()) <= most_bytes
    assert README.count("\n") <= most_lines


def test_readme_has_its_parts_in_order():
    parts = ["![", "<!-- studies_table", "make demo  ", "## Real data", "## Your own network"]
    parts += ["## Studies", "## Settings", "## Layout", "## Tests", "## Citation"]
    places = [README.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)]+)\)", without_code(path.read_text())):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_name_scripts_and_constants_that_exist(path):
    text = path.read_text()
    known = set()
    for script in [*SCRIPTS, "common/settings.py", "tools/league.py"]:
        code = (REPOSITORY / script).read_text()
        known |= set(re.findall(r"^([A-Z][A-Z_]+) = ", code, flags=re.MULTILINE))
    for script in re.findall(r"python (\w+\.py)", text):
        assert script in SCRIPTS, script
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").exists(), module
    for constant in re.findall(r"--([A-Z][A-Z_]+)\b", text):
        assert constant in {*known, "NAME"}, constant
    for folder in re.findall(r"`(cur_records/[\w/]*)`", text):
        assert (REPOSITORY / folder).exists(), folder


def test_layout_names_every_script_and_package():
    layout = README[README.index("## Layout") : README.index("## Tests")]
    for script in SCRIPTS:
        assert f"[{script}]({script})" in layout, script
    for package in [*PACKAGES, "docs"]:
        assert f"[{package}/]({package})" in layout, package


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_first_table_of_a_page_is_small(path):
    rows = re.search(r"(?:^\|.*\n)+", path.read_text(), flags=re.MULTILINE)[0].splitlines()
    columns, most_rows = WIDEST_HEAD
    assert rows[0].count(" | ") + 1 <= columns
    assert len(rows) - 2 <= most_rows  # less the header and its rule


@pytest.mark.parametrize("path", STUDY_PAGES, ids=lambda path: path.name)
def test_a_page_starts_with_its_result_in_three_sentences(path):
    start = path.read_text().split("\n\n")[1]
    assert len(re.findall(r"\.(?:\s|$)", start)) == 3, start


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_words_that_are_not_used(path):
    prose = prose_of(path.read_text())
    assert not re.findall(r"\b(?:told|asked|tells|[Ss]ome \d[\d,]*)\b", prose)


def test_the_game_of_the_readme_needs_no_torch():
    _, example = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    check = "\nimport sys\nassert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
    command = [sys.executable, "-c", example + check]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "top" in result.stdout and "rest" in result.stdout


def test_the_network_of_the_readme_runs():
    """On a small network, of which one filter is planted to harm most."""
    example, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2)
    )
    images = torch.randn(64, 3, 64, 64)
    with torch.no_grad():
        labels = network(images).argmax(1)
    names = {"network": network, "images": images, "labels": labels}
    exec(example, names)
    estimate = names["estimate"]
    assert len(estimate.values) == 12 and estimate.rounds > 0
