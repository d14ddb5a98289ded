"""What a network's output is attributed to."""
