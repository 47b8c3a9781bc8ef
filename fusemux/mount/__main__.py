"""`python -m fusemux.mount`: mount.fusemux without an installed script."""

import sys

from fusemux.mount.main import main

sys.exit(main())
