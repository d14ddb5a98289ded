"""TMAB-Shapley: Shapley values of any game by a truncated multi-armed bandit.

Needs neither torch nor data, and knows neither networks nor files.
"""

from shapley.bandit import tmab_shapley
from shapley.estimate import Estimate

__all__ = ["Estimate", "tmab_shapley"]
