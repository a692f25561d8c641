"""Lower precisions: how a graph is brought into one, what that costs on the user's items, which one to take."""
