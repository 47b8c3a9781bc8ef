"""`python -m fusemux`: the command line without an installed script."""

import sys

from fusemux.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
