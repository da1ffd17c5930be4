"""What runs after what. Imported before Prefect, which only warns where it cannot make its folder and fails later."""

import os
from pathlib import Path

if home := os.environ.get("PREFECT_HOME"):
    try:
        Path(home).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"error: cannot write to {home} ({error.strerror}); give another WORKSPACE or PREFECT_HOME") from error
