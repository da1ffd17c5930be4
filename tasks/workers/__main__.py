"""Start a worker: `python -m tasks.workers tasks.workers.NAME JOB.json …`. `tasks.launch` does so.

`python -m tasks.workers.NAME JOB.json …` does the same and starts more slowly: imports make half a million objects that stay,
and looking through them for garbage again and again takes a sixth of the time.
"""

import gc
import runpy
import sys

if len(sys.argv) < 2:
    sys.exit("found no arguments; expected a worker and its job: python -m tasks.workers tasks.workers.NAME JOB.json")
gc.disable()  # until `guard.guarded`
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
