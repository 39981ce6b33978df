"""Cases whose answers may differ from the suite's, each with the reason; nothing else may be wrong."""

import re

RANDOM = "random values: the suite's are one draw"

# A pattern of whole names, the engines that it holds for, and the reason.
KNOWN = []


def reason_for(engine, name):
    """Why this case may differ on this engine; None where it may not."""
    for pattern, engines, reason in KNOWN:
        if engine in engines and re.fullmatch(pattern, name):
            return reason
    return None
