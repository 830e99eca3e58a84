"""A pipelines service with its fence switched off: `python -m unfenced_pipelines worker`.

Attempts that lost their lease then write on; the test of stalled workers must find that.
"""

import slipway_pipelines.store.steps as steps
from slipway_pipelines.main import main

steps.held = steps._row

if __name__ == "__main__":
    main()
