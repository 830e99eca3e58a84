"""A service with its fence switched off: `python -m unfenced serve | worker | migrate`.

The campaign must then find what the fence keeps out; else it could not find it at all.
"""

import slipway_registry.usecases.runs as runs
from slipway_registry.main import main

runs.fence = lambda run, attempt: None

if __name__ == "__main__":
    main()
