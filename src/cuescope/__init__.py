"""cuescope tells which cues an image classifier really uses, shows it, and helps to fix it."""
