"""How a script with several parts runs them."""

import pathlib
import shutil
import tempfile

from lab import processes
from lab.processes import Failed, say


async def run(name, parts):
    """Runs each part, a function of the directory of the logs, and returns the exit code. The directory stays if one fails."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"outpost-{name}-"))
    try:
        for title, part in parts:
            say(title)
            await part(directory)
    except Failed as failure:
        say(f"FAILED: {failure}; logs are in {directory}")
        return 1
    finally:
        processes.stop_all()
    say("held")
    shutil.rmtree(directory)
    return 0
