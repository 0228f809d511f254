"""A seed of its own for each image."""

import hashlib


def seed_of(seed: int, image: str) -> int:
    """A seed for this image, or this name of what is done to it, whatever the order and the other images.

    >>> seed_of(0, "a.jpg") == seed_of(0, "a.jpg") != seed_of(1, "a.jpg")
    True
    """
    digest = hashlib.blake2b(f"{seed} {image}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
