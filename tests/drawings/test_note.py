"""The note in a folder of drawn images."""

from drawings.note import is_drawn, write_note


def test_a_folder_with_a_note_is_drawn(tmp_path):
    assert not is_drawn(tmp_path)
    write_note(tmp_path, "Drawn signs.")
    assert is_drawn(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["Drawn signs.\n"]
