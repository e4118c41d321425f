"""``python -m pipeline.launch PROCESSES WORDS…``: a stage in several processes by torchrun, its tracebacks apart."""

from __future__ import annotations

import logging
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

RESTARTS = 3  # of all processes, where one was killed; each goes on at the last epoch that was kept


def main(processes: str, *words: str) -> int:
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    options = ["--standalone", f"--nproc-per-node={processes}", f"--max-restarts={RESTARTS}"]
    try:
        run.main([*options, "-m", "pipeline.stage", *words])
    except ChildFailedError as failed:
        return int(failed.get_first_failure()[1].exitcode)
    except SignalException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
