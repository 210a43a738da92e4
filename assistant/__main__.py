"""`python -m assistant`: the command `assistant`, wherever it was installed to."""

from assistant.cli import main

if __name__ == "__main__":
    main()
