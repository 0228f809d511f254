"""The built-in image world: images with known truth, made on the fly from a seed, and models of known strategy."""
