"""The command line `retrieve`."""

from retrieval.commands.app import app as app
from retrieval.commands.app import main as main

if __name__ == "__main__":
    main()
