"""`python -m mmf_hm_concat` is `hm_concat`."""

import sys

from mmf_hm_concat.cli import main

if __name__ == "__main__":
    sys.exit(main())
