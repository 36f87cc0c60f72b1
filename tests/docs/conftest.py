"""What the tests of documentation share: the pages, as `pages` reads them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
