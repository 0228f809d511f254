"""Training: one loop, and a recipe a file."""
