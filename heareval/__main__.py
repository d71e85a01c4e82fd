"""`python -m heareval` is the command `heareval`."""

from heareval.commands import main

if __name__ == "__main__":
    main()
