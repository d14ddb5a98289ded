"""What maintainers run: tables and figures of the pages, benchmarks, simulations.

Each is a module: `python -m tools.tables`, `python -m tools.bench`, `python -m tools.coverage`.
"""
