"""The daemon with a leak planted on purpose: the soak test has to notice it.

python leaking.py BYTES EVERY edged-arguments...: keeps so many bytes for each input that is offered, and a
descriptor for one in EVERY (0: none).
"""

from __future__ import annotations

import os
import sys

from edged import __main__ as program

if __name__ == "__main__":
    size, every = int(sys.argv[1]), int(sys.argv[2])
    del sys.argv[1:3]
    if "run" in sys.argv:
        from edged.messages import Admission, Input
        from edged.serving.router import Router

        kept: list[bytes] = []
        offer = Router.offer

        def leaking(self: Router, item: Input) -> Admission:
            kept.append(b"\x01" * size)
            if every and len(kept) % every == 0:
                os.dup(0)
            return offer(self, item)

        Router.offer = leaking  # type: ignore[method-assign]
    sys.exit(program.main())
