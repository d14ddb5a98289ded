"""Tables and figures of README.md and docs/, from the records in cur_records/.

    python -m tools.tables

A table stands between two marks, `<!-- name_table(folder) -->` and `<!-- end -->`: this
replaces it. A test fails if a page or a figure differs from the records.
"""

import glob
import re

from common import settings
from common.records import replace_file

from tools import (
    claims,
    studies,
    table_applications,
    table_cdep,
    table_fairwashing,
    table_hidden,
    table_income,
    table_league,
    table_performance,
    table_repair,
    table_shortcut,
)
from tools.figures import FIGURE_FOLDERS, write_figures

# Every table by its name: a function from a folder of records to Markdown.
TABLES = {
    "studies_table": studies.studies_table,
    "headline_table": table_repair.headline_table,
    "repair_table": table_repair.repair_table,
    "change_table": table_repair.change_table,
    "measures_table": table_repair.measures_table,
    "framing_table": table_repair.framing_table,
    "claims_table": claims.claims_table,
    "application_claims_table": claims.application_claims_table,
    "critical_table": table_applications.critical_table,
    "concentration_table": table_applications.concentration_table,
    "class_table": table_applications.class_table,
    "attack_table": table_applications.attack_table,
    "speed_table": table_performance.speed_table,
    "bench_table": table_performance.bench_table,
    "coverage_table": table_performance.coverage_table,
    "bandit_coverage_table": table_performance.bandit_coverage_table,
    "sampler_table": table_performance.sampler_table,
    "decision_table": table_performance.decision_table,
    "league_table": table_league.league_table,
    "shortcut_head_table": table_shortcut.shortcut_head_table,
    "shortcut_table": table_shortcut.shortcut_table,
    "shortcut_other_table": table_shortcut.shortcut_other_table,
    "shortcut_change_table": table_shortcut.shortcut_change_table,
    "shortcut_truth_table": table_shortcut.shortcut_truth_table,
    "shortcut_few_table": table_shortcut.shortcut_few_table,
    "income_head_table": table_income.attributes_head_table,
    "income_attributes_table": table_income.attributes_table,
    "income_rules_table": table_income.rules_table,
    "income_architectures_table": table_income.architectures_table,
    "income_rates_table": table_income.rates_table,
    "income_repairs_table": table_income.repairs_table,
    "cdep_head_table": table_cdep.cdep_head_table,
    "cdep_claims_table": table_cdep.cdep_claims_table,
    "cdep_table": table_cdep.cdep_table,
    "cdep_patch_table": table_cdep.cdep_patch_table,
    "cdep_explained_table": table_cdep.cdep_explained_table,
    "cdep_concealed_list": table_cdep.cdep_concealed_list,
    "fairwashing_head_table": table_fairwashing.fairwashing_head_table,
    "fairwashing_outputs_table": table_fairwashing.fairwashing_outputs_table,
    "fairwashing_maps_table": table_fairwashing.fairwashing_maps_table,
    "fairwashing_defences_table": table_fairwashing.fairwashing_defences_table,
    "fairwashing_groups_table": table_fairwashing.fairwashing_groups_table,
    "fairwashing_faces_table": table_fairwashing.fairwashing_faces_table,
    "fairwashing_claims_table": table_fairwashing.fairwashing_claims_table,
    "hidden_use_table": table_hidden.hidden_use_table,
    "hidden_shares_table": table_hidden.hidden_shares_table,
    "hidden_defences_table": table_hidden.hidden_defences_table,
}
MARKS = re.compile(r"<!-- (\w+)\(([\w/]+)\) -->\n.*?<!-- end -->", re.DOTALL)


def pages():
    """Paths of the pages that hold tables, relative to the repository."""
    return ["README.md", *sorted(glob.glob("docs/*.md"))]


def update_tables(text):
    """The text of a page with each table made again. Raises KeyError: unknown table."""

    def replace(match):
        name, folder = match.groups()
        return f"<!-- {name}({folder}) -->\n{TABLES[name](folder)}\n<!-- end -->"

    return MARKS.sub(replace, text)


def main():
    """Write all pages and figures again."""
    for path in pages():
        with open(path) as file:
            text = file.read()
        updated = update_tables(text)
        with replace_file(path) as temporary, open(temporary, "w") as file:
            file.write(updated)
    for folder in FIGURE_FOLDERS:
        write_figures(folder)


if __name__ == "__main__":
    settings.run(main, globals())
