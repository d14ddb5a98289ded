"""Drawn data sets: portraits in the layouts of CelebA and FairFace, and ten classes of signs."""
