"""Makers: images in, new images or maps out. One file, one maker."""
