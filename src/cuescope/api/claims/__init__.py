"""The claims of the five sources, a file a source: what each says, where, and what tries it here."""
