"""What eval.py reports: scores with intervals, its two protocols, and the figures."""
