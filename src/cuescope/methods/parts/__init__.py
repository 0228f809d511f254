"""Parts of objects: masked in images of them, and what layers lose by it compared between images."""
