"""A main function as a user runs it."""

import sys

from common import settings

import pytest


@pytest.fixture
def start(monkeypatch, capsys, tmp_path):
    """A function that runs main() with arguments: (exit status, stdout, stderr)."""

    def start(main, namespace, *arguments, **options):
        monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
        monkeypatch.chdir(tmp_path)
        try:
            settings.run(main, namespace, **options)
            status = 0
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return start
