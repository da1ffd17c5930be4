"""Run lists of commands in one process, which is soon done: `python -m tests.tasks.workers.in_turn COMMANDS`.

After each list it says why the list was refused, or that it was not.
"""

import json
import runpy
import sys
import warnings

from base.errors import InputError, sentence_of
from tasks.workers import entry

if __name__ == "__main__":
    warnings.simplefilter("error")
    vars(entry)["guarded"] = lambda work: work()
    for commands in json.loads(sys.argv[1]):
        said = None
        try:
            for worker, *arguments in commands:
                sys.argv[1:] = arguments
                sys.modules.pop(f"tasks.workers.{worker}", None)  # it is run as a program
                runpy.run_module(f"tasks.workers.{worker}", run_name="__main__")
        except InputError as error:
            said = sentence_of(error)
        print("ended:", json.dumps(said), flush=True)
