"""A training service with its fence switched off: `python -m unfenced_scoring worker`.

Attempts that lost their lease then write on; the test of kills must find that, else it could not find it.
"""

import slipway_training.store.leases as leases
from slipway_training.main import main

leases.held = lambda table, id, attempt: (table.c.id == id,)

if __name__ == "__main__":
    main()
