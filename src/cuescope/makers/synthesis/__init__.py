"""New images from the statistics of others: what is measured, and the search for an image that measures alike."""
