"""The claims of the five sources, a file a source: what each says, where, and what tries it here.

A claim is a few lines: a sentence, its place, an experiment that it shares with others, and bounds. So they stand
together, as their sources have them, and not in a file each.
"""
