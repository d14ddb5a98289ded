"""Conv filters as players: a network cut into steps, coalitions of its filters, and their V."""
