"""A note in a folder of drawn images, so that nobody takes them for the real data set."""

import os

NOTE_FILE = "DRAWN.txt"


def write_note(folder, text):
    """Write one line, what the images are, into a folder of drawn images."""
    with open(os.path.join(folder, NOTE_FILE), "w") as file:
        file.write(f"{text}\n")


def is_drawn(folder):
    """Whether a folder holds drawn images, by its note."""
    return os.path.exists(os.path.join(folder, NOTE_FILE))
