"""`python -m cuescope` is the command line."""

from cuescope.cli import main

if __name__ == "__main__":
    main()
