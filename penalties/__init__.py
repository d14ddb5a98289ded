"""Training that penalises the use of a part of the input: problems, losses, measures."""
